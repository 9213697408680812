"""Search for repeated values in columns too long to be held in memory twice."""

from collections.abc import Sequence

import numpy as np

# Sorting everything at once would hold all columns in memory a second time.
_SORTED_AT_ONCE = 1 << 20


def repeated_values(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return the values that occur more than once among all columns, each once and rising: uint64.

    Values that begin alike are sorted together, about a million at a time where they are spread as digests are.

    Args:
        columns: uint64 [n] each.
    """
    bits = (sum(map(len, columns)) // _SORTED_AT_ONCE).bit_length()
    found = [np.empty(0, dtype=np.uint64)]
    for number in range(1 << bits):
        alike = [column[column >> np.uint64(64 - bits) == number] if bits else column for column in columns]
        rising = np.sort(np.concatenate([found[0], *alike]))
        again = rising[1:][rising[1:] == rising[:-1]]
        found.append(again[np.append(True, again[1:] != again[:-1])[: len(again)]])
    return np.concatenate(found)
