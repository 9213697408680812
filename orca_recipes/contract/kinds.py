"""The nine kinds of piece that a recipe chooses from, as plugin authors implement them.

A kind is a frozen pydantic model: its fields are its options, its methods do the work on whole columns and take
keyword-only arguments, so that arguments can be added later. An instance is immutable, picklable and holds nothing
open. Raise `revision` when equal options would give different output: it is part of every fingerprint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

from pydantic import Field, model_validator

from orca_recipes.contract.kind import Kind as Kind
from orca_recipes.contract.kind import Place as Place
from orca_recipes.contract.markup import Markup
from orca_recipes.errors import OverlongExample

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa

Task = TypeVar("Task")
Result = TypeVar("Result")


# --- sources ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SourceFile:
    """One file of a source or tokenizer.

    `name` is how records call it: relative to the source's folder, with forward slashes, the same on every machine.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Slice:
    """One unit of reading: a file or a piece of one, or a span of generated items.

    `start` and `stop` are the source's own measure (bytes, rows, items); `first_place` is the place of its first row.
    Slices are only units of work: how a source is cut never changes a row or its place.
    """

    file: SourceFile | None
    start: int
    stop: int
    first_place: int = 1


@dataclass(frozen=True)
class Reading:
    """A bounded batch of what a source read.

    rows: columns of `frames.ROWS` (missing ones are null), `place` always.
    rejected: columns of `frames.REJECTED_ROWS`: place and reason of rows that could not be read.
    """

    rows: pl.DataFrame
    rejected: pl.DataFrame


class Source(Kind, ABC):
    """Where examples come from.

    `on_bad_row`: "reject" counts and lists bad rows and goes on, "error" stops at the first; unset, more than one bad
    row in a hundred is an error.
    """

    on_bad_row: Annotated[
        Literal["reject", "error"] | None,
        Field(description="reject: list bad rows and go on; error: stop at the first; unset: error above 1 %"),
    ] = None

    @abstractmethod
    def files(self) -> Sequence[SourceFile]:
        """The files that decide what is read, sorted by name; the core pins their digests. Empty for a generator.

        Raises: SourceError where there is nothing to read.
        """

    def pins(self) -> Mapping[str, str]:
        """What else decides the rows, name to version (a generator's package), kept in the lock."""
        return {}

    @abstractmethod
    def slices(self, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut the reading into units of roughly `slice_bytes` of input (a unit that cannot be cut may be larger)."""

    @abstractmethod
    def read(self, *, slice: Slice) -> Iterator[Reading]:
        """Read one slice in batches of bounded size, rows in order of place.

        Raises: SourceError, naming the file, where it cannot be read at all.
        """

    def declared_rows(self) -> int | None:
        """How many rows there are, where that is known without reading."""
        return None


# --- strategies and teachers -----------------------------------------------------------------------------------------


class Strategy(Kind, ABC):
    """How the teacher is asked to reason, and what of that the student sees.

    keeps_own_words: whether rows that bring their own answer or system message keep them; under a strategy that does
    not, such rows are rejected unless the rule says `replace = true`.
    """

    keeps_own_words: ClassVar[bool] = False

    @abstractmethod
    def ask(self, *, examples: pl.DataFrame) -> pl.Series:
        """What the teacher sees of each example.

        Args:
            examples: columns of `frames.EXAMPLES`; `system` holds the system message that was drawn or that the row
                brought.
        Returns: `frames.MESSAGES` [examples].
        """

    @abstractmethod
    def teach(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        """What the student is trained on, each message marked trained or not.

        Args:
            examples: as for `ask`.
            answers: String [examples], the teacher's.
        Returns: `frames.MESSAGES` [examples].
        """


class Teacher(Kind, ABC):
    """The model that answers.

    reads_requests: whether `answer` looks at what the strategy asks; for a teacher that does not, nothing is asked.
    """

    reads_requests: ClassVar[bool] = True

    @abstractmethod
    def answer(self, *, examples: pl.DataFrame, requests: pl.Series, seed: int) -> pl.DataFrame:
        """Answer each request.

        Args:
            examples: columns of `frames.EXAMPLES`.
            requests: `frames.MESSAGES` [examples], what the strategy asks; nulls under `reads_requests = False`.
            seed: the recipe's, for draws.
        Returns: columns of `frames.ANSWERS` in the same order: answer, finish_reason ("stop", "length"), and where
            there is no answer the reason of the rejection.
        """


class Filter(Kind, ABC):
    """Keeps or rejects conversations, with a reason."""

    @abstractmethod
    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        """Say why each conversation is rejected.

        Args:
            conversations: columns of `frames.CONVERSATIONS`.
        Returns: String [conversations], null where it is kept, else a short reason that groups well
            ("too long: more than 20000 characters"), without the row's own numbers.
        """


# --- tokenizers and templates ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vocabulary:
    """What a template needs to know of a tokenizer.

    size: `len(tokenizer)` with added tokens.
    control: text to id of the control tokens (special added tokens), which user text never becomes.
    other_added: text to id of added tokens that are not control tokens (runs of spaces and the like).
    eats_space: control tokens that swallow white space beside them (lstrip, rstrip), which templates refuse.
    chat_template: jinja text of the tokenizer's own template, where it has one.
    unknown: the control token, if it is one, that text becomes where the model cannot spell it; there it is text.
    """

    size: int
    control: Mapping[str, int]
    other_added: Mapping[str, int]
    eats_space: frozenset[str]
    bos: str | None
    eos: str | None
    pad: str | None
    chat_template: str | None
    unknown: str | None = None


class Encoder(ABC):
    """A loaded tokenizer, one a process: text to ids, where no text becomes a control token.

    prefix_only_at_start: its dummy prefix stands at the very start of a text alone, and not after control tokens; then
    only a run at the very start is encoded with `opens`.
    spells: every text can be written in ids, so that `normalized` is known by rule, and text and ids prove each other.
    Where not (unknown tokens, white space that is dropped), `normalized` is what the ids of a text decode to.
    """

    vocabulary: Vocabulary
    prefix_only_at_start: bool = False
    spells: bool = True

    @abstractmethod
    def encode(self, *, texts: pa.LargeStringArray, opens: bool, exact: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Encode runs of text between control tokens.

        Args:
            texts: large_string [runs], without nulls.
            opens: True where the runs stand at the start or after a control token (there SentencePiece puts its dummy
                space), False where they go on from text.
            exact: use the reference tokenizer instead of the fast one.
        Returns: ids uint32 [tokens] and offsets int64 [runs + 1].
        """

    @abstractmethod
    def normalized(self, *, texts: pa.LargeStringArray, opens: bool) -> pa.LargeStringArray:
        """What of runs of text their ids keep: `decode_runs(encode(texts)) == normalized(texts)`, whatever the text.

        Worked out from the texts where it can be, so that it proves ids, not they it. Args: as for `encode`.
        """

    @abstractmethod
    def decode_runs(self, *, ids: np.ndarray, offsets: np.ndarray, opens: bool) -> list[str]:
        """The inverse of `encode`: the text of each run of ids, without the dummy prefix of runs that open.

        Args:
            ids: integers [tokens], none of a control token but the unknown one; offsets: int64 [runs + 1].
        """

    @abstractmethod
    def decode(self, *, ids: np.ndarray) -> str:
        """Text of ids, control tokens included."""

    @abstractmethod
    def verdict(self) -> str:
        """How the fast tokenizer fares against the reference on texts made to part them: a sentence for the lock."""


class Tokenizer(Kind, ABC):
    """Turns text into the student's ids."""

    @abstractmethod
    def files(self) -> Sequence[SourceFile]:
        """The files that decide the ids; a hub name is resolved (and downloaded) here. The core pins their digests.

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
        """The texts that stand around messages, as plain data; pinned in the lock.

        Raises: TemplateError, with the case that shows it, where the template cannot be taken apart or masked.
        """


# --- packers, writers, engines ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Packing:
    """Which rows hold which examples: row r is `order[row_starts[r]:row_starts[r + 1]]`."""

    order: np.ndarray
    row_starts: np.ndarray


class Packer(Kind, ABC):
    """Places examples in rows."""

    row_tokens: Annotated[int, Field(gt=0, description="tokens of one row: the training sequence length")] = 2048
    align: Annotated[
        int, Field(gt=0, description="each example's room is rounded up to this: 2 x context parallelism")
    ] = 1
    overlong: Annotated[
        Literal["drop", "drop_turns", "truncate", "error"],
        Field(description="what happens to an example longer than a row"),
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
                f"example {at} takes {lengths[at]} tokens of a row of {row_tokens}: raise row_tokens, or drop it"
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
            blocks: uint32 [tokens of the block], the tokens of all rows in order, in blocks of bounded size.
            segment_lengths: int32 [segments].
            segment_modes: int8 [segments], FORMAT: trained, starts, role.
            row_starts: int64 [rows + 1] into segments.
        Returns: the files it wrote.
        """


class Engine(Kind, ABC):
    """Runs the parts of stages."""

    @abstractmethod
    def map(
        self, *, function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
    ) -> Iterator[tuple[int, Result]]:
        """Call `function` (importable, picklable) on each task; yield (position, result) as they finish, in any order.

        An exception of a task ends the map and is raised here.
        """

    def close(self) -> None:
        """Let go of processes that are kept between maps."""
