"""Conversations that are too long or too short, in characters.

Characters are Unicode code points: they need no tokenizer, and a limit means the same for every student.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from orca_recipes.contract.frames import repeated
from orca_recipes.contract.kinds import Filter

if TYPE_CHECKING:
    import polars as pl


_WHOLE, _ANSWER = "", "answer "
"""What is too long or too short, as reasons begin: the conversation, or its answer."""

_CHAR_BYTES = 4
"""Most bytes of one character."""


class Length(Filter):
    """Keep conversations whose number of characters lies within limits, both ends included.

        [[datasets.main.filters]]
        kind = "length"
        max_chars = 20_000
        min_answer_chars = 1

    A conversation counts all its messages together, an answer all trained messages together; thoughts and calls of
    tools (as JSON) are parts of their message.
    """

    kind: Literal["length"] = "length"
    revision: ClassVar[int] = 2
    min_chars: Annotated[int | None, Field(ge=0, description="fewest characters of all messages together")] = None
    max_chars: Annotated[int | None, Field(ge=0, description="most characters of all messages together")] = None
    min_answer_chars: Annotated[
        int | None, Field(ge=0, description="fewest characters of all trained messages together")
    ] = None
    max_answer_chars: Annotated[
        int | None, Field(ge=0, description="most characters of all trained messages together")
    ] = None

    @model_validator(mode="after")
    def _limits_leave_room(self) -> Self:
        for low, high in (("min_chars", "max_chars"), ("min_answer_chars", "max_answer_chars")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low} = {least} is above {high} = {most}, so nothing would be kept")
        return self

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        """Count characters only where the bytes, one to four a character, leave the verdict open."""
        import polars as pl

        messages = conversations["messages"].alias("messages")
        reasons = repeated(None, pl.String, len(messages))
        doubts = [doubt for name, least, most in self._limits() for doubt in _doubts(pl.col(name), least, most)]
        if not doubts:
            return reasons
        sizes = self._sizes(messages, _summed(messages, lambda text: text.str.len_bytes()))
        places = sizes.select(doubt=pl.any_horizontal(doubts))["doubt"].arg_true()
        return reasons.scatter(places, self._exact(messages.gather(places))) if len(places) else reasons

    def _exact(self, messages: pl.Series) -> pl.Series:
        """Return the reason to reject each conversation, null to keep it, from exact counts of characters."""
        import polars as pl

        sizes = self._sizes(messages, _summed(messages, lambda text: text.str.len_chars()))
        broken = [broken for name, least, most in self._limits() for broken in _broken(name, least, most)]
        return sizes.select(reason=pl.coalesce(broken))["reason"]

    def _limits(self) -> list[tuple[str, int | None, int | None]]:
        """List the limits that are set: (prefix of the reason, least, most)."""
        whole, answer = (self.min_chars, self.max_chars), (self.min_answer_chars, self.max_answer_chars)
        return [(name, *both) for name, both in ((_WHOLE, whole), (_ANSWER, answer)) if both != (None, None)]

    def _sizes(self, messages: pl.Series, size: pl.Expr) -> pl.DataFrame:
        """Sum a size over all messages of each conversation, and over its trained ones, for whichever has a limit."""
        import polars as pl

        # No filter: what is worked out for each message by itself is worked out for all conversations at once.
        answer = pl.when(pl.element().struct.field("trained")).then(size)
        sizes = {_WHOLE: size, _ANSWER: answer}
        return messages.to_frame().select(
            pl.col("messages").list.eval(sizes[name]).list.sum().alias(name) for name, *_ in self._limits()
        )


def _summed(messages: pl.Series, size: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """Sum a size over the texts of each message: content, thoughts and calls of tools."""
    import polars as pl

    held = {field.name for field in messages.dtype.inner.fields}  # type: ignore[attr-defined]
    texts = [name for name in ("content", "reasoning", "tool_calls") if name in held]
    return pl.sum_horizontal(size(pl.element().struct.field(name)).cast(pl.Int64) for name in texts)


def _doubts(size: pl.Expr, least: int | None, most: int | None) -> Iterator[pl.Expr]:
    """Yield, for each limit set, an expression true for conversations whose byte count cannot prove it kept."""
    if most is not None:
        yield size > most
    if least is not None:
        yield size < _CHAR_BYTES * least


def _broken(name: str, least: int | None, most: int | None) -> Iterator[pl.Expr]:
    """Yield, for each limit set, an expression of the reason where it is broken, else null."""
    import polars as pl

    if most is not None:
        yield pl.when(pl.col(name) > most).then(pl.lit(f"{name}too long: more than {most} characters"))
    if least is not None:
        yield pl.when(pl.col(name) < least).then(pl.lit(f"{name}too short: fewer than {least} characters"))
