#!/usr/bin/env bash
# numpy 2.2.6 and 2.4.6
# Digests of two million rows (uint64, all different) are made unique, as is done to find rows that stand twice.
# One would guess: numpy.unique sorts, so it costs what numpy.sort costs; and asking for counts as well costs more.
# What happens: since 2.3 numpy.unique(values) hashes where nothing else is asked for. With 64-bit digests that takes many
#   times as long as numpy.sort and a comparison of neighbours, which give the same values; and numpy.unique with
#   return_counts=True, which still sorts, is faster than without. With 2.2.6 unique costs about what sorting costs.
# Why it matters for instruction-tuning data: deduplication, hold-outs and shares go over arrays of digests as long as the
#   corpus. An upgrade of numpy alone makes such a step tens of times slower, and no result changes, so no test says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > measure.py <<'PY'
import sys
import time

import numpy as np

values = np.random.default_rng(0).integers(0, 1 << 63, 2_000_000, dtype=np.uint64)


def seconds(work):
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def by_sorting():
    ordered = np.sort(values)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]


sorting, expected = seconds(by_sorting)
plain, unique = seconds(lambda: np.unique(values))
counting, (also, _) = seconds(lambda: np.unique(values, return_counts=True))
assert np.array_equal(expected, unique) and np.array_equal(expected, also)
print(f"numpy {np.__version__}: unique takes {plain / sorting:.1f} times as long as sorting, "
      f"with counts {counting / sorting:.1f} times")
sys.exit(0 if (plain > 4 * sorting and plain > counting) == (sys.argv[1] == "slow") else "No longer so.")
PY
for pair in 2.2.6:even 2.4.6:slow; do
    python3 -m venv "${pair%:*}"
    "${pair%:*}/bin/pip" install -q "numpy==${pair%:*}"
    "${pair%:*}/bin/python" -I measure.py "${pair#*:}"
done
echo "SEEN: with the newer numpy, unique digests cost several times a sort, and counting them costs less"
