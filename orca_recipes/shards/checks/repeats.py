"""Which values of columns too long to be held twice stand more than once."""

from collections.abc import Sequence

import numpy as np

_SORTED_AT_ONCE = 1 << 20


def repeated_values(columns: Sequence[np.ndarray]) -> np.ndarray:
    """The values, each once and rising, that stand more than once among all columns: uint64.

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
