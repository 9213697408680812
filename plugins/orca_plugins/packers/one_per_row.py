"""One example a row: no packing, for comparison and for models whose attention cannot keep examples apart."""

from typing import Literal

import numpy as np

from orca_recipes.contract.kinds import Packer, Packing


class OnePerRow(Packer):
    """Give each example its own row, in keyed order.

    [packing]
    kind = "one_per_row"
    row_tokens = 2048
    """

    kind: Literal["one_per_row"] = "one_per_row"

    def pack(self, *, lengths: np.ndarray, keys: np.ndarray, row_tokens: int) -> Packing:
        self.refuse_overlong(lengths=lengths, row_tokens=row_tokens)
        return Packing(order=np.lexsort((lengths, keys)), row_starts=np.arange(len(lengths) + 1))
