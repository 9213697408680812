"""The answers that examples bring themselves.

An example with several reference answers is trained on one of them, drawn by its id: the same one on every machine,
whatever its neighbours are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from orca_recipes.contract.draws import draw_below, draw_keys
from orca_recipes.contract.frames import answers_schema, completed
from orca_recipes.contract.kinds import Teacher
from orca_recipes.contract.messages import ends_with_answer, last_answer

if TYPE_CHECKING:
    import polars as pl


class Reference(Teacher):
    """Answer with the row's own answer, else the answer that ends its conversation, else one of its references.

        [teachers.own]
        kind = "reference"

    A conversation that ends on a question and has no such answer is trained on the answers that it holds.
    """

    kind: Literal["reference"] = "reference"
    revision: ClassVar[int] = 2
    reads_requests: ClassVar[bool] = False
    gives_own_words: ClassVar[bool] = True

    def answer(self, *, examples: pl.DataFrame, requests: pl.Series, seed: int) -> pl.DataFrame:
        """Keep what an example brings; `requests` decide nothing."""
        import polars as pl

        messages = examples["messages"]
        ends = ends_with_answer(messages)
        last = pl.lit(last_answer(messages))
        if not (ends | messages.is_null()).all():
            last = pl.when(pl.lit(ends)).then(last)
        answer = examples.select(answer=pl.coalesce("answer", last, _drawn_reference(examples, seed)))["answer"]
        answers = pl.DataFrame({"answer": answer}).with_columns(
            finish_reason=pl.when(pl.col("answer").is_not_null()).then(pl.lit("stop")),
            reason=pl.when(pl.lit(_lacks(answer, messages))).then(pl.lit("no reference answer")),
        )
        return completed(answers, answers_schema())


def _lacks(answer: pl.Series, messages: pl.Series) -> pl.Series:
    """Mark the examples with neither an answer nor a trained answer earlier in their conversation."""
    import polars as pl

    none = answer.is_null()
    if not (none & messages.is_not_null()).any():
        return none
    trained = pl.element().struct.field("trained").fill_null(value=False)
    return none & ~messages.list.eval(trained).list.any().fill_null(value=False)


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
