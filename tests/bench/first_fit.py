"""First fit decreasing as textbooks have it, the yardstick of packing: each example in the first row with room."""

import numpy as np


def first_fit_decreasing(lengths: np.ndarray, row_tokens: int) -> int:
    """The number of rows; a tree over the rows holds the most room in each half, so an example costs log rows.

    Args:
        lengths: int [examples], each at most row_tokens.
    """
    # No more rows than this: at most one of all rows is filled by half or less.
    most = 2 * (int(lengths.sum()) // row_tokens + 1) + 1
    leaves = 1 << (most - 1).bit_length()
    room = [row_tokens] * (2 * leaves)
    used = 0
    for length in np.sort(lengths)[::-1].tolist():
        node = 1
        while node < leaves:
            node *= 2
            if room[node] < length:
                node += 1
        used = max(used, node - leaves + 1)
        room[node] -= length
        while node > 1:
            node //= 2
            left, right = room[2 * node], room[2 * node + 1]
            room[node] = left if left > right else right
    return used
