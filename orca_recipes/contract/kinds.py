"""The nine kinds of piece that a recipe chooses from, as plugin authors implement them.

A kind is a frozen pydantic model: its fields are its options, its methods do the work on whole columns and take
keyword-only arguments, so that arguments can be added later. An instance is immutable, picklable and holds nothing
open. Raise `revision` when equal options would give different output: it is part of every fingerprint.
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from orca_recipes.contract.markup import Markup

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa

Task = TypeVar("Task")
Result = TypeVar("Result")


class _PlaceMark:
    """Marks an option that says where something lies, not what it holds."""


def _beside_the_recipe(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    return Path(base) / path.expanduser() if base is not None else path


Place = Annotated[Path, AfterValidator(_beside_the_recipe), _PlaceMark()]
"""A path option: relative to the recipe file, and never part of a fingerprint (the digests of what it holds are)."""


class Kind(BaseModel):
    """A named, configurable piece that a recipe can choose."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    kind: str
    revision: ClassVar[int] = 1

    def identity(self) -> dict[str, Any]:
        """The options that decide the output: all but the places, as JSON values."""
        places = {name for name, field in type(self).model_fields.items() if _is_place(field.metadata, field.annotation)}
        return self.model_dump(mode="json", exclude=places)


def _is_place(metadata: Sequence[Any], annotation: Any) -> bool:
    if any(isinstance(mark, _PlaceMark) for mark in metadata):
        return True
    return any(_is_place(getattr(inner, "__metadata__", ()), inner) for inner in typing.get_args(annotation))


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

    on_bad_row: Literal["reject", "error"] | None = None

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
    """How the teacher is asked to reason, and what of that the student sees."""

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
    """The model that answers."""

    @abstractmethod
    def answer(self, *, examples: pl.DataFrame, requests: pl.Series, seed: int) -> pl.DataFrame:
        """Answer each request.

        Args:
            examples: columns of `frames.EXAMPLES`.
            requests: `frames.MESSAGES` [examples], what the strategy asks.
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
    """

    size: int
    control: Mapping[str, int]
    other_added: Mapping[str, int]
    eats_space: frozenset[str]
    bos: str | None
    eos: str | None
    pad: str | None
    chat_template: str | None


class Encoder(ABC):
    """A loaded tokenizer, one a process: text to ids, where no text becomes a control token."""

    vocabulary: Vocabulary

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
    def decode(self, *, ids: np.ndarray) -> str:
        """Text of ids, control tokens included."""


class Tokenizer(Kind, ABC):
    """Turns text into the student's ids."""

    @abstractmethod
    def files(self) -> Sequence[SourceFile]:
        """The files that decide the ids; a hub name is resolved (and downloaded) here. The core pins their digests.

        Raises: TokenizerError.
        """

    @abstractmethod
    def materialize(self, *, files: Sequence[SourceFile], folder: Path) -> None:
        """Write tokenizer.json (with added tokens) and tokenizer_config.json into `folder`, byte for byte the same anywhere."""

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
    align: Annotated[int, Field(gt=0, description="each example's room is rounded up to this: 2 x context parallelism")] = 1
    overlong: Annotated[
        Literal["drop", "drop_turns", "truncate", "error"],
        Field(description="what happens to an example longer than a row"),
    ] = "drop"

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
