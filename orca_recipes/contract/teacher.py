"""The kind of piece that answers: at once, or by asking a model whose answers are bought, kept and used again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from orca_recipes.contract.answers import Collecting, Lengths, Money, Request
from orca_recipes.contract.destination import Destination
from orca_recipes.contract.kind import Kind

if TYPE_CHECKING:
    import polars as pl


class Teacher(Kind):
    """The model that answers: it has `answer`, or it says `collects = True` and has `sampling` and `collect`.

    reads_requests: whether `answer` looks at what the strategy asks; for a teacher that does not, nothing is asked.
    gives_own_words: whether its answers are those that rows bring. Rows that keep their own words are none of another
        teacher's, and bear no teacher's name.
    collects: whether its answers are bought, kept as traces and used again. What only decides how they are fetched
        (endpoints, limits, prices, keys) is left out of its `identity`, so that changing it makes nothing anew.
    tells_sendings: whether it tells `Collecting.sendings` before each request goes out. Of one that does not, every
        request counts as sent once it was handed over.
    """

    reads_requests: ClassVar[bool] = True
    gives_own_words: ClassVar[bool] = False
    collects: ClassVar[bool] = False
    tells_sendings: ClassVar[bool] = False

    @classmethod
    def methods_missing(cls) -> tuple[str, ...]:
        """List the missing methods; a teacher that collects needs others than one that answers at once."""
        needed = (("sampling",), ("collect",)) if cls.collects else (("answer", "answer_prepared"),)
        own = (names[0] for names in needed if not any(_is_written(cls, name) for name in names))
        return (*super().methods_missing(), *own)

    def answer(self, *, examples: pl.DataFrame, requests: pl.Series, seed: int) -> pl.DataFrame:
        """Answer each request.

        Args:
            examples: columns of `frames.EXAMPLES`.
            requests: `frames.MESSAGES` [examples], what the strategy asks; nulls under `reads_requests = False`.
            seed: the recipe's, for draws.
        Returns: columns of `frames.ANSWERS` in the same order: answer, finish_reason ("stop", "length"), and where
            there is no answer the reason of the rejection; answer and reason are null where a row keeps the
            conversation that it brings as it is. Columns of `frames.BESIDE_ANSWER` may follow.
        """
        raise NotImplementedError(f"teacher {self.kind} does not answer at once")

    def collections(self) -> Sequence[str]:
        """Return collections of the recipe whose rows tell it its answers, handed to `prepare`; of most teachers
        none."""
        return ()

    def prepare(self, *, examples: Iterator[pl.DataFrame], folder: Path) -> Mapping[str, int]:
        """Write what `answer_prepared` looks in, once, into an empty folder.

        Args:
            examples: of its collections, columns of `frames.EXAMPLES`, in batches of bounded size, in a fixed order.
        Returns: counts of rows for the stage's report, by what became of them.
        """
        raise NotImplementedError(f"teacher {self.kind} has no collections")

    def answer_prepared(self, *, folder: Path, examples: pl.DataFrame, requests: pl.Series, seed: int) -> pl.DataFrame:
        """Answer as `answer` does, from the files of `prepare`; called in its place for a teacher with collections."""
        return self.answer(examples=examples, requests=requests, seed=seed)

    def sampling(self) -> Mapping[str, Any]:
        """Model and sampling options, JSON values: all that decides an answer to given messages but `max_tokens`.

        They are part of each request's key: adding an option with its default must leave them as they were.
        """
        raise NotImplementedError(f"teacher {self.kind} does not collect")

    def destinations(self) -> Sequence[Destination]:
        """List the hosts that requests go to, each with its environment variable; the user must allow each before
        anything is sent.

        A teacher that asks nobody outside this process has none.
        """
        return ()

    async def collect(self, collecting: Collecting) -> None:
        """Ask every request and keep every answer; return when all are kept.

        Raises: TeacherError where asking on is useless; BudgetSpent; whatever `keep` and `requests` raise. Answers in
        flight are kept first, where that takes a moment only.
        """
        raise NotImplementedError(f"teacher {self.kind} does not collect")

    def lengths(self) -> Lengths:
        """Return the token limits of answers."""
        return Lengths()

    def left_out(self) -> frozenset[str]:
        """Name the parts of an answer kept in its trace alone: names of `frames.BESIDE_ANSWER`."""
        return frozenset()

    def most_empty_retries(self) -> int:
        """Return how often a request with an empty reply is asked again in one run; the core asks, in a further call of
        `collect`, and keeps each empty reply as a rejection."""
        return 1

    def money(self) -> Money:
        """Return prices and budget."""
        return Money()

    def as_sent(self, *, request: Request) -> Mapping[str, Any]:
        """Return the body of a request as it is sent, for people to look at; it holds no keys."""
        limit = {} if request.max_tokens is None else {"max_tokens": request.max_tokens}
        tools = {} if request.tools is None else {"tools": json.loads(request.tools)}
        return {**self.sampling(), **limit, "messages": request.sent_messages(), **tools}


def _is_written(kind: type[Teacher], name: str) -> bool:
    return getattr(kind, name) is not getattr(Teacher, name)
