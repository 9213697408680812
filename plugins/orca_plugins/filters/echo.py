"""Reject answers that quote the instruction given to the teacher.

A student trained on them learns to repeat an instruction that it was never shown. Echoes are counted in any case
(`echoes` of the manifest); this filter rejects them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from orca_recipes.contract.kinds import Filter
from orca_recipes.contract.quotes import quoting

if TYPE_CHECKING:
    import polars as pl


class Echo(Filter):
    """Reject answers that quote the teacher's instruction: eight words of it in a row, or all of a shorter one.

        [[datasets.main.filters]]
        kind = "echo"

    The instruction is the system message and the strategy's words; one of fewer than four words is never quoted.
    """

    kind: Literal["echo"] = "echo"

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        import polars as pl

        echoes = quoting(conversations["answer"], conversations["instruction"])
        return pl.select(pl.when(echoes).then(pl.lit("it quotes the instruction")).alias("reason")).to_series()
