"""Exporters: they write the rows of a build, as columns, in the form of one trainer.

The core reads a build once, shard after shard, and hands it over in blocks of whole rows, so that memory is bounded
whatever the size; the exporter writes files below the folder that it is given and says what became of the labels. Every
trained token of a build is either a label in what was written or counted under the reason for which it is none: the
core holds the two against the manifest, so that nothing is lost in silence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from orca_recipes.contract.kind import Kind

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from orca_recipes.shards.segments import Segments


@dataclass(frozen=True)
class DatasetToExport:
    """The size of one dataset, and of its largest shard."""

    name: str
    shards: int
    rows: int
    examples: int
    tokens: int
    trained_tokens: int


@dataclass(frozen=True)
class BuildToExport:
    """Facts of a build that are known before its first row.

    directory: where it lies, for reading alone. digest: of its manifest. datasets: those that are exported, in order.
    eos_id: the token that its tokenizer calls the end of text, None where it has none. own_words: the teachers of its
    records whose answers are those that rows brought.
    """

    name: str
    directory: Path
    digest: str
    row_tokens: int
    align: int
    pad_id: int
    bos_id: int | None
    eos_id: int | None
    terminators: tuple[tuple[int, ...], ...]
    vocabulary_size: int
    longest_example: int
    datasets: tuple[DatasetToExport, ...]
    own_words: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SaidMessage:
    """One message of a conversation, as the shipped chat template is given it.

    content: text, or parts where the template asks for parts. trained: whether its text carries loss. beside: what else
    the template reads: reasoning under the template's own key, `tool_calls`, `tool_call_id`, `name`.
    """

    role: str
    content: str | Sequence[Mapping[str, Any]]
    trained: bool
    beside: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Said:
    """An example as messages, or why it cannot be told so.

    messages: the last one is an answer. why: a reason that groups well, where there are no messages. tools: those that
    the conversation defines. variables: of the template, by the row. is_partly_trained: whether a trained answer has a
    part, as its reasoning, that carries no loss.
    """

    messages: tuple[SaidMessage, ...] = ()
    why: str | None = None
    tools: Sequence[Any] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    is_partly_trained: bool = False


@dataclass(frozen=True)
class RowBlock:
    """Consecutive whole rows of a shard, as columns.

    tokens: uint16 or int32 [tokens], without pads. segments: of these rows.
    records: the lines of `records_schema` of these examples, with ids as people read them; `given` where the build has
    it.
    said: the examples as messages, made when they are asked for.
    """

    tokens: np.ndarray
    segments: Segments
    records: Callable[[], pa.Table]
    said: Callable[[], Sequence[Said]]

    @cached_property
    def labelled(self) -> np.ndarray:
        """Return bool [tokens]: which tokens are labels (of themselves, not shifted), an example's first token
        never."""
        import numpy as np

        from orca_recipes.shards.layout import is_trained

        labelled = np.repeat(is_trained(self.segments.modes), self.segments.lengths)
        labelled[self.example_bounds[:-1]] = False
        return labelled

    @property
    def example_bounds(self) -> np.ndarray:
        """Return int64 [examples + 1] into tokens."""
        return self.segments.example_bounds

    @cached_property
    def row_bounds(self) -> np.ndarray:
        """Return int64 [rows + 1] into tokens."""
        bounds: np.ndarray = self.segments.token_starts[self.segments.row_starts]
        return bounds


@dataclass(frozen=True)
class ShardToExport:
    """One shard of a dataset, number `number` from 0 of its dataset's shards; its blocks are read once, in order."""

    dataset: DatasetToExport
    number: int
    rows: int
    examples: int
    tokens: int
    trained_tokens: int
    blocks: Iterator[RowBlock]


@dataclass
class Written:
    """Counts of one written shard: examples, tokens, kept and lost labels.

    trained_labels: tokens that the trainer will take for labels, told as it is. lost: labels of the build that it will
    not, by a reason that groups well. notes: what else is known of the shard, for `finish` and `settings`: JSON values,
    where an export that was interrupted is to go on behind this shard. risks: what settings of the trainer other than
    those told would do to the shard: setting to effect to how often.
    """

    examples: int = 0
    tokens: int = 0
    trained_labels: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    risks: dict[str, dict[str, int]] = field(default_factory=dict)

    def risk(self, setting: str, effect: str, count: int) -> None:
        """Count what a wrong setting would do: `packing=True` to "examples joined to the one before"."""
        if count:
            effects = self.risks.setdefault(setting, {})
            effects[effect] = effects.get(effect, 0) + count

    def lose(self, reason: str, labels: int) -> None:
        """Count labels that are lost."""
        if labels:
            self.lost[reason] = self.lost.get(reason, 0) + labels


Shards = Mapping[str, Sequence[Written]]
"""What was written: dataset to its shards in order."""


class Exporter(Kind, ABC):
    """Writes a build in the form that a trainer reads.

    title: the trainer, as people call it.
    """

    title: ClassVar[str]

    def refuse(self, *, build: BuildToExport) -> None:
        """Raise ExportError, before anything is written, if the trainer cannot hold the build's contents."""

    @abstractmethod
    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        """Write one shard to files of its own below `folder`, the same bytes whenever it is asked.

        Args:
            folder: of the whole export; it is there, and empty before the first shard but for a `.whole` of ours.
        """

    def finish(self, *, build: BuildToExport, shards: Shards, folder: Path) -> None:
        """Write what stands beside the shards, once all of them are written."""

    @abstractmethod
    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        """Tell how the trainer is to be set, in Markdown: what is exact, and which settings lose labels or join
        examples without a word."""

    def card(self, *, build: BuildToExport) -> Mapping[str, Any]:
        """Give lines for the head of the export's README.md, as JSON values (`configs` of a dataset card)."""
        return {}


def list_of(values: np.ndarray, bounds: np.ndarray, kind: pa.DataType) -> pa.ListArray[Any]:
    """Make lists of consecutive values.

    Args:
        values: [values]. bounds: int64 [lists + 1] into them, from 0; below 2^31. kind: of a value.
    """
    import numpy as np
    import pyarrow as pa

    flat = np.ascontiguousarray(values, dtype=kind.to_pandas_dtype())
    inner = pa.Array.from_buffers(kind, len(flat), [None, pa.py_buffer(flat)])
    return pa.ListArray.from_arrays(pa.array(bounds.astype(np.int32)), inner)
