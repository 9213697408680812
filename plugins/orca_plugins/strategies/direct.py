"""The teacher is asked the question as it stands, and the student is trained on the answer as it came.

Rows that bring words of their own keep them: a whole conversation, an answer, a system message. An empty system
message is none: no template should print a header around nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from orca_recipes.contract.frames import messages_type
from orca_recipes.contract.kinds import Strategy

if TYPE_CHECKING:
    import polars as pl


class Direct(Strategy):
    """Ask the question and train on the answer: the system message if there is one, the question, the answer.

        [strategies.plain]
        kind = "direct"

    Rows that bring a conversation, an answer or a system message keep them.
    """

    kind: Literal["direct"] = "direct"
    keeps_own_words: ClassVar[bool] = True

    def ask(self, *, examples: pl.DataFrame) -> pl.Series:
        """The system message and the question, or a brought conversation up to before its last answer."""
        import polars as pl

        asked = pl.concat_list(_system(), _message("user", pl.col("question"), trained=False))
        return _either(examples, asked=asked, brought=_untrained(_before_last_answer()))

    def teach(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        """What was asked and the answer, which alone is trained; or a brought conversation, trained where it says.

        A brought conversation without an answer gets one as its last turn.
        """
        import polars as pl

        examples = examples.with_columns(answer=pl.coalesce(pl.col("answer"), pl.lit(answers)))
        answer = _message("assistant", pl.col("answer"), trained=True)
        asked = pl.concat_list(_system(), _message("user", pl.col("question"), trained=False), answer)
        brought = pl.col("messages")
        if not _all_answered(examples["messages"]):
            unanswered = ~brought.list.eval(pl.element().struct.field("role") == "assistant").list.any()
            answered = pl.concat_list(pl.col("messages"), answer)
            brought = pl.when(unanswered & (brought.list.len() > 0)).then(answered).otherwise(brought)
        return _either(examples, asked=asked, brought=brought)


def _either(examples: pl.DataFrame, *, asked: pl.Expr, brought: pl.Expr) -> pl.Series:
    """`brought` where a row has messages (headed by its system message, if they begin with none), else `asked`.

    Each is worked out for its own rows alone: most collections hold one sort of row.
    """
    import polars as pl

    has_messages = examples["messages"].is_not_null()
    if examples["system"].null_count() < examples.height:
        has_system = pl.col("messages").list.first().struct.field("role").eq_missing(pl.lit("system"))
        brought = pl.when(has_system).then(brought).otherwise(pl.concat_list(_system(), brought))
    sorts = [(~has_messages, asked), (has_messages, brought)]
    made = [
        examples.filter(rows).select(expression.cast(messages_type()).alias("messages")).to_series()
        for rows, expression in sorts
        if rows.any() or not examples.height
    ]
    if len(made) == 1:
        return made[0]
    places = pl.concat([rows.arg_true() for rows, _ in sorts])
    return pl.concat(made).gather(places.arg_sort())


def _all_answered(messages: pl.Series) -> bool:
    """Whether every brought conversation ends with an answer, as nearly all do: a quick look."""
    return bool((messages.list.last().struct.field("role") == "assistant").fill_null(value=True).all())


def _system() -> pl.Expr:
    """A list of the system message, empty where there is none."""
    import polars as pl

    none = pl.lit(pl.Series([[]], dtype=messages_type()))
    there = pl.col("system").fill_null("") != ""
    return pl.when(there).then(_message("system", pl.col("system"), trained=False)).otherwise(none)


def _message(role: str, content: pl.Expr, *, trained: bool) -> pl.Expr:
    """A list of one message."""
    import polars as pl

    message = pl.struct(role=pl.lit(role), content=content, trained=pl.lit(trained))
    return pl.concat_list(message).cast(messages_type())


def _before_last_answer() -> pl.Expr:
    import polars as pl

    is_answer = pl.element().struct.field("role") == "assistant"
    last = pl.col("messages").list.eval(pl.when(is_answer).then(pl.int_range(pl.len()))).list.max()
    return pl.col("messages").list.head(last.fill_null(pl.col("messages").list.len()))


def _untrained(messages: pl.Expr) -> pl.Expr:
    """A request is not trained on."""
    import polars as pl

    message = pl.element().struct
    return messages.list.eval(
        pl.struct(role=message.field("role"), content=message.field("content"), trained=pl.lit(value=False))
    )
