"""Keep answers whose final answer is the reference's: reasoning is judged by its result."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from orca_plugins.filters._final_answers import Sort, matches, sort_of
from orca_plugins.filters._numbers import units_digest
from orca_recipes.contract.kinds import Filter

if TYPE_CHECKING:
    import polars as pl


class AnswerMatches(Filter):
    """Keep answers that come to a reference answer.

        [[datasets.main.filters]]
        kind = "answer_matches"
        tasks = { "gsm8k*" = "number", "aqua" = "choice" }

    Sorts: `choice` (a letter, or the words of one option), `number` (with thousands, fractions and units: "1 1/2 hours"
    is 90 minutes), `yes_no`, `text` (letter case, articles and punctuation aside). `tasks` gives patterns of tasks
    their sort, the first that matches; else the sort is told by the reference. Rows without a reference are kept.
    The final answer stands behind the last words that announce one ("the answer is", "####", a box), else in the last
    line: of a number the last there is, as in "the answer is 3 + 4 = 7", but never one that is denied ("7, not 8").
    """

    kind: Literal["answer_matches"] = "answer_matches"
    revision: ClassVar[int] = 2
    tasks: Annotated[Mapping[str, Sort], Field(description="pattern of tasks to the sort of their answers")] = {}

    def identity(self) -> dict[str, Any]:
        """Extend the kind's identity by the digest of the unit table and the task patterns in order, since the first
        match decides."""
        return {**super().identity(), "tasks": [list(item) for item in self.tasks.items()], "units": units_digest()}

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        import polars as pl

        # Row by row: parsing an answer takes some tens of microseconds, and nothing vectorized reads a final answer.
        rows = conversations.select("task", "answer", "references", "options").iter_rows()
        return pl.Series("found", [self._reason(*row) for row in rows], dtype=pl.String)

    def _reason(
        self, task: str | None, answer: str | None, references: Sequence[str] | None, options: Sequence[str] | None
    ) -> str | None:
        known = [reference for reference in references or () if reference is not None]
        if not known or answer is None:
            return None
        named = next((sort for glob, sort in self.tasks.items() if fnmatch.fnmatchcase(task or "", glob)), None)
        choices = [option for option in options or () if option is not None]
        for reference in known:
            sort = named or sort_of(reference, choices)
            if sort == "yes_no" and sort_of(reference, None) != "yes_no":
                sort = "text"
            if matches(answer, reference, sort, choices):
                return None
        return "its final answer is not the reference's"
