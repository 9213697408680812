"""The nine kinds of piece that a recipe chooses from, as plugin authors implement them.

A kind is a frozen pydantic model: its fields are its options, its methods do the work on whole columns and take
keyword-only arguments, so that arguments can be added later. An instance is immutable, picklable and holds nothing
open. Raise `revision` when equal options would give different output: it is part of every fingerprint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

from pydantic import Field, model_validator

from orca_recipes.contract.destination import Destination
from orca_recipes.contract.encoder import Encoder as Encoder
from orca_recipes.contract.encoder import Vocabulary as Vocabulary
from orca_recipes.contract.kind import Kind as Kind
from orca_recipes.contract.kind import Place as Place
from orca_recipes.contract.markup import Markup
from orca_recipes.contract.rendering import EXPANSION_LIMIT
from orca_recipes.contract.source import Reading as Reading
from orca_recipes.contract.source import Slice as Slice
from orca_recipes.contract.source import Source as Source
from orca_recipes.contract.source import SourceFile as SourceFile
from orca_recipes.contract.teacher import Teacher as Teacher
from orca_recipes.errors import OverlongExample

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

Say = Callable[[str], None]
"""Takes a sentence for the user."""

Task = TypeVar("Task")
Result = TypeVar("Result")


# --- strategies and filters (sources: source.py; teachers: teacher.py) ------------------------------------------------


MOST_ROW_TOKENS = 1 << 24
"""The longest row: packing counts tokens of a row in 32 bits with room to add, and no model is trained on more."""


class Strategy(Kind, ABC):
    """Asks the teacher to reason in one way, and chooses the part of it that the student sees.

    keeps_own_words: whether rows that bring their own answer or system message keep them; under a strategy that does
    not, such rows are rejected unless the rule says `replace = true`.
    asks_conversations: whether it asks conversations itself. Any other strategy is handed the last user's turn of a
    brought conversation as the question, and what stands before it is put before the question in what it returns; rows
    for which `ask` returns null are rejected, whoever answers.
    instructs: whether it tells the teacher how to answer, so that a student who is shown its words should be shown an
    answer to them.
    """

    keeps_own_words: ClassVar[bool] = False
    instructs: ClassVar[bool] = False
    asks_conversations: ClassVar[bool] = False

    @abstractmethod
    def ask(self, *, examples: pl.DataFrame) -> pl.Series:
        """Write the teacher's prompt for each example.

        Args:
            examples: columns of `frames.EXAMPLES`; `system` holds the system message that was drawn or that the row
                brought.
        Returns: `frames.MESSAGES` [examples]; null rejects an example that lacks what the strategy asks with.
        """

    @abstractmethod
    def teach(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        """Write the student's conversation for an erased prompt, each message marked trained or not.

        Args:
            examples: as for `ask`, but `system` holds the student's system message, and brought messages none. Where
                a brought conversation gets another answer, `messages` ends before it.
            answers: String [examples], the teacher's; null where a row keeps the conversation that it brings.
        Returns: `frames.MESSAGES` [examples]: question and answer untouched, and none of the strategy's own words.
        """

    def teach_whole(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        """Write the student's conversation where nothing is erased: the teacher's prompt, then the answer.

        Args: as for `teach`, with the teacher's system message.
        """
        import polars as pl

        said = pl.struct(role=pl.lit("assistant"), content=pl.lit(answers), trained=pl.lit(value=True))
        asked = self.ask(examples=examples).alias("messages")
        if len(asked) != examples.height:  # polars would have one request stand for all examples
            raise ValueError(f"{len(asked)} requests for {examples.height} examples")
        return examples.select(pl.concat_list(pl.lit(asked), said).cast(asked.dtype).alias("messages"))["messages"]

    def columns(self) -> Collection[str] | None:
        """Name the other columns that it asks or teaches with; rows that differ in them are no duplicates.

        Returns: names of `extra` columns, "options", "task", "category", "language", "reasoning"; question, messages
            and system message always count. None: any of them may, as where nobody says it.
        """
        return None

    def shots(self) -> tuple[int, int]:
        """Return the least and greatest number of answered examples to hand to each example (column `shots`)."""
        return 0, 0


class Filter(Kind, ABC):
    """Keeps or rejects conversations, or leaves some of their answers untrained, each with a reason."""

    @abstractmethod
    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        """Say why each conversation is rejected.

        Args:
            conversations: columns of `frames.CONVERSATIONS`.
        Returns: String [conversations], null where it is kept, else a short reason that groups well
            ("too long: more than 20000 characters"), without the row's own numbers.
        """

    def turn_reasons(self, *, conversations: pl.DataFrame) -> pl.Series | None:
        """Say why answers of conversations that are kept stay untrained: they remain as context.

        A conversation of which no answer stays trained is rejected. What is said of messages that nobody trains counts
        for nothing.

        Args:
            conversations: columns of `frames.CONVERSATIONS`, those for which `reasons` gave null.
        Returns: List(String) [conversations]: null, or for each of its messages null or a short reason that groups
            well. None: it leaves no answer untrained.
        """
        return None

    def extra_columns(self) -> Collection[str]:
        """Name the columns of a source's `extra` that it looks at; one that no collection keeps is a recipe's fault."""
        return ()


# --- tokenizers (loaded: encoder.py) and templates --------------------------------------------------------------------


class Tokenizer(Kind, ABC):
    """Turns text into the student's ids."""

    @abstractmethod
    def files(self) -> Sequence[SourceFile]:
        """Return the files that decide the ids, downloading a hub's; the core pins their digests.

        Raises: TokenizerError.
        """

    @abstractmethod
    def materialize(self, *, files: Sequence[SourceFile], folder: Path) -> None:
        """Write tokenizer.json (with added tokens) and tokenizer_config.json, byte for byte the same anywhere."""

    @abstractmethod
    def open(self, *, folder: Path) -> Encoder:
        """Load what `materialize` wrote."""


class Template(Kind, ABC):
    """Turns a conversation into text around control tokens."""

    @abstractmethod
    def markup(self, *, vocabulary: Vocabulary) -> Markup:
        """Return the texts around messages as plain data; the lock pins them.

        Raises: TemplateError, with the case that shows it, where the template cannot be taken apart or masked.
        """

    def most_expansion(self) -> float:
        """Return the limit on tokens of a conversation's examples, one a turn, as a multiple of its own tokens."""
        return EXPANSION_LIMIT


# --- packers, writers, engines ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Packing:
    """Assignment of examples to rows: row r is `order[row_starts[r]:row_starts[r + 1]]`."""

    order: np.ndarray
    row_starts: np.ndarray


class Packer(Kind, ABC):
    """Places examples in rows."""

    row_tokens: Annotated[
        int, Field(gt=0, le=MOST_ROW_TOKENS, description="tokens of one row: the training sequence length")
    ] = 2048
    align: Annotated[
        int, Field(gt=0, description="each example's room is rounded up to this: 2 x context parallelism")
    ] = 1
    overlong: Annotated[
        Literal["drop", "drop_turns", "drop_history", "window", "truncate", "error"],
        Field(
            description="what happens to an example longer than a row: it is dropped, loses its newest turns or its "
            "oldest exchanges, is cut into windows that train each answer once, loses its end, or stops the build"
        ),
    ] = "drop"

    @model_validator(mode="after")
    def _aligned(self) -> Packer:
        if self.row_tokens % self.align:
            raise ValueError(f"row_tokens must be a multiple of align, and {self.row_tokens} is none of {self.align}")
        return self

    def refuse_overlong(self, *, lengths: np.ndarray, row_tokens: int) -> None:
        """Raise OverlongExample for the first length [examples] that no row of row_tokens holds."""
        for at in (lengths > row_tokens).nonzero()[0][:1].tolist():
            raise OverlongExample(
                f"example {at} has {lengths[at]} tokens, and a row holds {row_tokens}: raise row_tokens, or drop it"
            )

    @abstractmethod
    def pack(self, *, lengths: np.ndarray, keys: np.ndarray, row_tokens: int) -> Packing:
        """Assign examples to rows.

        Args:
            lengths: int32 [examples], room each takes (tokens rounded up to `align`), each at most row_tokens.
            keys: uint64 [examples], decide every tie and the order of rows, so that order of arrival never does.
        Returns: order int64 [examples] and row_starts int64 [rows + 1] into it.
        Raises: OverlongExample, naming the first one.
        """


class Writer(Kind, ABC):
    """Writes packed rows to files."""

    shard_tokens: Annotated[int, Field(gt=0, description="tokens a shard holds, about")] = 100_000_000

    @abstractmethod
    def write(
        self,
        *,
        prefix: Path,
        vocabulary_size: int,
        blocks: Iterator[np.ndarray],
        segment_lengths: np.ndarray,
        segment_modes: np.ndarray,
        row_starts: np.ndarray,
    ) -> Sequence[Path]:
        """Write one shard.

        Args:
            prefix: path without suffix.
            vocabulary_size: decides the width of a token.
            blocks: integers [tokens of the block], the tokens of all rows in order, in blocks of bounded size.
            segment_lengths: int32 [segments].
            segment_modes: int8 [segments], bits trained, starts, role (docs/format.md).
            row_starts: int64 [rows + 1] into segments.
        Returns: the files it wrote.
        """


@dataclass(frozen=True)
class Reach:
    """Machines that ran the parts of a build, and parts begun again.

    Attributes:
        nodes: the most machines, or nodes of one, that there were at once.
        retried: parts that were begun again, because what ran them was lost.
    """

    nodes: int = 1
    retried: int = 0


class Engine(Kind, ABC):
    """Runs the parts of stages.

    spreads: whether parts go to other machines, however few they are and however many workers are asked for.
    """

    spreads: ClassVar[bool] = False

    @abstractmethod
    def map(
        self, *, function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
    ) -> Iterator[tuple[int, Result]]:
        """Call `function` (importable, picklable) on each task; yield (position, result) as they finish, in any order.

        An exception of a task ends the map and is raised here.
        """

    def warm(self, *, function: Callable[[Task], object], task: Task, workers: int) -> None:
        """Have each worker call `function` once before tasks come, without waiting for it.

        What it returns or raises is of no concern. An engine that keeps nothing between parts has nothing to do.
        """

    def report_to(self, *, say: Say) -> None:
        """Set the listener for events that befall parts without ending their map; it is called from any thread."""

    def reach(self) -> Reach:
        """Tell where the parts ran since the engine was first used; asked before it is closed."""
        return Reach()

    def destinations(self) -> Sequence[Destination]:
        """Return the hosts that parts and data go to; the user must have allowed each of them."""
        return ()

    def close(self) -> None:
        """End the processes that are kept between maps."""
