"""The teacher is asked the question as it stands, and the student is trained on the answer as it came.

Rows that bring words of their own keep them: a whole conversation, an answer, a system message. An empty system
message is none: no template should print a header around nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from orca_recipes.contract.kinds import Strategy
from orca_recipes.contract.messages import (
    Turn,
    conversations_of,
    ends_with_answer,
    heading,
    untrained,
    without_last_answer,
)

if TYPE_CHECKING:
    import polars as pl


class Direct(Strategy):
    """Ask the question and train on the answer: the system message if there is one, the question, the answer.

        [strategies.plain]
        kind = "direct"

    Rows that bring a conversation, an answer or a system message keep them. A conversation that ends on a user's turn
    is history and question, and what answers it becomes its last turn.
    """

    kind: Literal["direct"] = "direct"
    revision: ClassVar[int] = 3
    keeps_own_words: ClassVar[bool] = True
    asks_conversations: ClassVar[bool] = True

    def columns(self) -> tuple[str, ...]:
        return ()

    def ask(self, *, examples: pl.DataFrame) -> pl.Series:
        """Ask with the system message and the question, or with a brought conversation up to before its last answer."""
        brought = examples["messages"].is_not_null()
        talks = examples.filter(brought)
        asked = untrained(without_last_answer(talks["messages"]))
        return _placed(brought, _headed(talks, asked), conversations_of(_opening(examples.filter(~brought))))

    def teach(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        """Build what was asked and the answer, which alone is trained; a brought conversation is trained where it says.

        A brought conversation that does not end with an answer gets one as its last turn.
        """
        import polars as pl

        answers = pl.select(pl.coalesce(examples["answer"], answers).alias("answer")).to_series()
        brought = examples["messages"].is_not_null()
        if brought.all():  # as in most collections of conversations
            return _headed(examples, _answered(examples["messages"], answers))
        if not brought.any():  # as in most collections of questions
            return conversations_of([*_opening(examples), Turn("assistant", answers, trained=True)])
        talks, told = examples.filter(brought), examples.filter(~brought)
        taught = conversations_of([*_opening(told), Turn("assistant", answers.filter(~brought), trained=True)])
        return _placed(brought, _headed(talks, _answered(talks["messages"], answers.filter(brought))), taught)

    def teach_whole(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        """Teach the same as `teach`, since no words of its own were asked."""
        return self.teach(examples=examples, answers=answers)


def _opening(examples: pl.DataFrame) -> list[Turn]:
    return [Turn("system", heading(examples["system"])), Turn("user", examples["question"].fill_null(""))]


def _placed(brought: pl.Series, talks: pl.Series, others: pl.Series) -> pl.Series:
    """Put both sorts of row, each worked out by itself, back in their places; most collections hold one sort."""
    import polars as pl

    if not len(talks) or not len(others):
        return talks if len(talks) else others
    places = pl.concat([brought.arg_true(), (~brought).arg_true()])
    return pl.concat([talks, others]).gather(places.arg_sort())


def _headed(talks: pl.DataFrame, messages: pl.Series) -> pl.Series:
    """Head conversations by the row's system message, where they begin with none, or an empty one, of their own."""
    import polars as pl

    if talks["system"].null_count() == talks.height:
        return messages
    first = messages.list.first().struct
    opening = conversations_of([Turn("system", heading(talks["system"]))])
    bare = ~(first.field("role") == "system").fill_null(value=False)
    empty = ~bare & (first.field("content") == "") & (opening.list.len() > 0)
    frame = talks.select("system").with_columns(messages.alias("messages"))
    rest = pl.when(pl.lit(empty)).then(pl.col("messages").list.slice(1)).otherwise("messages")
    own = pl.when(pl.lit(bare | empty)).then(pl.concat_list(pl.lit(opening), rest)).otherwise("messages")
    return frame.select(own.alias("messages"))["messages"]


def _answered(messages: pl.Series, answers: pl.Series) -> pl.Series:
    """Put an answer at the end of conversations, where they end on something else and there is an answer."""
    import polars as pl

    is_open = ~ends_with_answer(messages) & answers.is_not_null() & (messages.list.len() > 0)
    if not is_open.any():
        return messages  # as nearly always: a quick look
    last = pl.lit(conversations_of([Turn("assistant", answers, trained=True)]))
    answered = pl.when(is_open).then(pl.concat_list("messages", last)).otherwise("messages")
    return messages.alias("messages").to_frame().select(answered.alias("messages"))["messages"]
