"""The answers that examples bring themselves.

An example with several reference answers is trained on one of them, drawn by its id: the same one on every machine,
whatever its neighbours are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from orca_recipes.contract.draws import draw_below, draw_keys
from orca_recipes.contract.frames import answers_schema, completed
from orca_recipes.contract.kinds import Teacher

if TYPE_CHECKING:
    import polars as pl


class Reference(Teacher):
    """Answer with the row's own answer, else the last answer of its conversation, else one of its references.

    [teachers.own]
    kind = "reference"
    """

    kind: Literal["reference"] = "reference"
    reads_requests: ClassVar[bool] = False

    def answer(self, *, examples: pl.DataFrame, requests: pl.Series, seed: int) -> pl.DataFrame:
        """`requests` decide nothing: what an example brings is kept."""
        import polars as pl

        last = pl.lit(_last_answer(examples["messages"]))
        found = pl.coalesce(pl.col("answer"), last, _drawn_reference(examples, seed))
        answers = examples.select(answer=found).with_columns(
            finish_reason=pl.when(pl.col("answer").is_not_null()).then(pl.lit("stop")),
            reason=pl.when(pl.col("answer").is_null()).then(pl.lit("no reference answer")),
        )
        return completed(answers, answers_schema())


def _last_answer(messages: pl.Series) -> pl.Series:
    """Content of the last assistant message of the messages, null where there is none."""
    import polars as pl

    last = messages.list.last().struct
    if bool((last.field("role") == "assistant").fill_null(value=True).all()):
        return last.field("content")  # nearly all end with an answer: a quick look
    message = pl.element().struct
    return messages.list.eval(message.field("content").filter(message.field("role") == "assistant")).list.last()


def _drawn_reference(examples: pl.DataFrame, seed: int) -> pl.Expr:
    import polars as pl

    if examples["references"].null_count() == examples.height:
        return pl.lit(None, dtype=pl.String)
    references = pl.col("references").list.drop_nulls()
    counts = examples.select(references.list.len().fill_null(0).cast(pl.Int64)).to_series().to_numpy()
    keys = draw_keys(
        id_hi=examples["id_hi"].to_numpy(), id_lo=examples["id_lo"].to_numpy(), seed=seed, purpose="reference"
    )
    drawn = draw_below(keys=keys, bounds=counts)
    return references.list.get(pl.lit(pl.Series(drawn)), null_on_oob=True)
