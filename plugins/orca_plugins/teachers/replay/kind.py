"""Answers that exist already: OpenOrca, SlimOrca, any table of questions and answers that a recipe can read.

The table is a collection of the recipe, so it is pinned, checked and stored as every collection is. Its answers are
laid out once by the digest of what they are found by; each part of a stage then looks up its own through the memory
map, so that neither the table's size nor the number of workers decides how much memory is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from orca_plugins.teachers.replay import replay_table as _replay_table
from orca_recipes.contract.frames import BESIDE_ANSWER, answers_schema, completed
from orca_recipes.contract.kinds import Teacher

if TYPE_CHECKING:
    import polars as pl

_FOUND_BY = {
    "id": "no recorded answer with this id",
    "question": "no recorded answer to this question",
    "system_and_question": "no recorded answer to this system message and question",
}


class Replay(Teacher):
    """Answer from a collection that brings answers; a question without one is rejected and counted.

        [teachers.gpt4]
        kind = "replay"
        collection = "openorca"
        model = "gpt-4-0314"

    Questions are found by the system message and the question as the teacher got them, byte for byte; `by` says
    otherwise. The question of a conversation is all that is said before its answer. Two different answers to one
    question are an error; blank ones are none.
    """

    kind: Literal["replay"] = "replay"
    revision: ClassVar[int] = 3
    reads_requests: ClassVar[bool] = False
    collection: Annotated[str, Field(description="the table of [collections] that holds the answers")]
    model: Annotated[str, Field(min_length=1, description="the model that gave them, for the manifest to tell")]
    by: Annotated[
        Literal["id", "question", "system_and_question"],
        Field(description="what is equal in the question that is asked and the row that answers it"),
    ] = "system_and_question"

    def collections(self) -> Sequence[str]:
        return (self.collection,)

    def prepare(self, *, examples: Iterator[pl.DataFrame], folder: Path) -> Mapping[str, int]:
        """Lay out the answers in a folder; return how many there are, and why rows hold none.

        Raises: SourceError where two rows answer one question in two ways.
        """
        return _replay_table.write(examples, folder, by=self.by, collection=self.collection)

    def answer_prepared(self, *, folder: Path, examples: pl.DataFrame, requests: pl.Series, seed: int) -> pl.DataFrame:
        """Look up the recorded answer to each example; `requests` and `seed` decide nothing."""
        import polars as pl

        answers = _replay_table.find(examples, folder, by=self.by)
        beside = [answers[name] for name in BESIDE_ANSWER if answers[name].is_not_null().any()]
        found = pl.col("answer").is_not_null()
        answers = answers.with_columns(
            finish_reason=pl.when(found).then(pl.lit("stop")),
            reason=pl.when(~found).then(pl.lit(_FOUND_BY[self.by])),
        )
        return completed(answers, answers_schema()).with_columns(beside)
