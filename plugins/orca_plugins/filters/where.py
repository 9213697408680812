"""A filter on columns of conversations, in the words of a collection's `where`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue

from orca_recipes.contract.conditions import EXTRA, chosen, parsed, told, unfit_pattern
from orca_recipes.contract.kinds import Filter
from orca_recipes.contract.messages import last_question
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.errors import RuleError

if TYPE_CHECKING:
    import polars as pl

COLUMNS = (
    "question",
    "answer",
    "task",
    "category",
    "language",
    "strategy",
    "system_message",
    "teacher",
    "finish_reason",
    "instruction",
    "messages",
)
"""What conversations are chosen by, beside columns that their source keeps as they are ("extra.NAME")."""

REASON = "where: it does not hold"


def _of_columns_that_there_are(table: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, sort in parsed(table).sorts().items():
        if name not in COLUMNS and not name.startswith(EXTRA):
            raise ValueError(f"conversations have no column {quoted(name)}{hint(name, COLUMNS)}")
        if sort not in ("any", "text", "messages" if name == "messages" else "text"):
            raise ValueError(f"{name} of a conversation is text, and is compared with {told(sort)}")
    for condition in parsed(table).conditions():
        if condition.column == "messages" and condition.operation in ("eq", "in"):
            raise ValueError("messages: they are turns and no text; say turns, role or matches")
    return table


class Where(Filter):
    """Keep conversations whose columns meet the conditions of a `where` table.

        [[datasets.main.filters]]
        kind = "where"
        where = { messages = { turns = { ge = 2 } }, answer = { matches = "[.!?]$" }, not = { language = "und" } }

    `turns` counts answers; `role` asks for a message of that role; `question` is the row's, or what the user says last
    in a conversation that it brings; `answer` the teacher's, or the last one of such a conversation. Columns kept by a
    source's `extra` are named "extra.NAME".
    """

    kind: Literal["where"] = "where"
    revision: ClassVar[int] = 2
    where: Annotated[
        Mapping[str, JsonValue],
        AfterValidator(_of_columns_that_there_are),
        Field(
            description="what columns of the conversation hold, in the words of a collection's `where`: question, "
            'answer, task, category, language, strategy, teacher, instruction, messages, "extra.NAME" and the like'
        ),
    ]

    def extra_columns(self) -> list[str]:
        return [name.removeprefix(EXTRA) for name in parsed(self.where).sorts() if name.startswith(EXTRA)]

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        import polars as pl

        choice = parsed(self.where)
        if "question" in choice.sorts():
            asked = pl.coalesce("question", pl.lit(last_question(conversations["messages"])))
            conversations = conversations.with_columns(asked.alias("question"))
        if sentence := unfit_pattern(choice):
            raise RuleError(f"filter {sentence}")
        holds = chosen(choice, conversations)
        return pl.select(pl.when(~holds).then(pl.lit(REASON))).to_series()
