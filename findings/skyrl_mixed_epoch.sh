#!/usr/bin/env bash
# skyrl 0.4.0, torch 2.13.0
# DataMixingSampler draws the rows of an epoch where a training is given several data sets; its length is that of all
#   together. Here two sets of 900 and 100 rows, each with the same weight.
# One would guess: an epoch shows every row once, or, with weights, each set as often as its weight says and the larger one
#   without repeats as long as it lasts.
# What happens: each draw is made with replacement. Of the large set's 900 rows some 42 in 100 are seen in an epoch of 1,000
#   draws, the others not at all and many twice or more; each of the small set's 100 rows is seen about five times.
# Why it matters for instruction-tuning data: a mixture with exact counts, given as several sets, is trained neither whole nor
#   in its shares, and nothing says so. Give one set that is mixed already: a single one is shuffled, and each row comes once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy loguru==0.7.3
# It asks for Python 3.12; what is read here needs no more than 3.11.
venv/bin/pip install -q --no-deps --ignore-requires-python skyrl==0.4.0
venv/bin/python -I - <<'PY'
import sys
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

# The module alone: its package would load all of the trainer.
(home,) = find_spec("skyrl").submodule_search_locations
spec = spec_from_file_location("samplers", Path(home) / "train" / "dataset" / "samplers.py")
samplers = module_from_spec(spec)
sys.modules["samplers"] = samplers
spec.loader.exec_module(samplers)

print("skyrl", version("skyrl"), "torch", version("torch"))
LARGE, SMALL = 900, 100
sampler = samplers.DataMixingSampler(range(LARGE + SMALL), [LARGE, SMALL], [0.5, 0.5], seed=1)
drawn = Counter(int(row) for row in sampler)
large = [times for row, times in drawn.items() if row < LARGE]
small = [times for row, times in drawn.items() if row >= LARGE]
print(f"an epoch of {drawn.total()} draws over {LARGE} + {SMALL} rows")
print(f"of the large set {len(large)} rows are seen, {sum(times > 1 for times in large)} of them more than once")
print(f"of the small set {len(small)} rows are seen, {sum(small) / SMALL:.1f} times each")
as_told = drawn.total() == LARGE + SMALL and 0.35 < len(large) / LARGE < 0.5 and 4 < sum(small) / SMALL < 6
sys.exit(0 if as_told else "it is no longer so")
PY
