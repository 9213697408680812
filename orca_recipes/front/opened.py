"""A build from Python: its rows and examples, where each came from, and the proof that it is what it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.errors import UserError
from orca_recipes.shards.layout import TOKENIZER, is_trained

if TYPE_CHECKING:
    import pyarrow as pa
    from torch.utils.data import Dataset as TorchDataset

    from orca_recipes.explain.story_page import Explanation
    from orca_recipes.shards.checks.verify_report import Report
    from orca_recipes.shards.manifest import DatasetCounts, Manifest
    from orca_recipes.shards.reader import Shard
    from orca_recipes.shards.show.show import ShownBuild

# Examples wait as dicts for their batch: a whole build of them would not fit into memory.
_EXAMPLES_A_BATCH = 4096


@dataclass(frozen=True, eq=False)
class Example:
    """One example, and where it came from.

    tokens: int32 [n]. trained: bool [n], whether the loss asks for the token. text: of all tokens, control tokens as
    they are spelt. row: of the dataset, from 0; at: its first token in that row. file: None where rows are generated;
    place: 1-based line, row or item. turn: of the conversation, -1 where all turns are one example.
    """

    id: str
    # Printed examples are read by people: the text says what hundreds of ids do not.
    tokens: np.ndarray = field(repr=False)
    trained: np.ndarray = field(repr=False)
    text: str
    collection: str
    task: str | None
    file: str | None
    place: int | None
    row: int
    at: int
    turn: int
    strategy: str | None
    teacher: str | None


def open_build(directory: str | Path) -> Build:
    """Open a build directory: a folder, or an address, whose files are fetched when they are read.

    Raises: BuildError where there is no complete build.
    """
    from orca_recipes.shards.manifest import read_manifest
    from orca_recipes.store.shared_build import looked_at

    place = looked_at(directory, whole=False)
    return Build(place, read_manifest(place))


@dataclass(frozen=True)
class Build:
    """A build; `open_build` and `Recipe.build` make it."""

    directory: Path
    # A manifest is longer than a screen, also of a small build.
    manifest: Manifest = field(repr=False)

    @property
    def digest(self) -> str:
        """Return the digest of the data alone: equal where two builds hold the same, whatever was asked."""
        return self.manifest.data_digest

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """Return its datasets by name, in the order of the manifest."""
        return {name: Dataset(self, name) for name in self.manifest.datasets}

    def examples(self) -> Iterator[Example]:
        """Give every example, dataset by dataset in the order of rows. Raises: DamagedShard."""
        for dataset in self.datasets.values():
            yield from dataset.examples()

    def to_arrow(self) -> pa.RecordBatchReader:
        """Give every example as Arrow batches, with the dataset's name; as `Dataset.to_arrow`."""
        import pyarrow as pa

        batches = (batch for dataset in self.datasets.values() for batch in dataset.to_arrow())
        return pa.RecordBatchReader.from_batches(_schema(), batches)

    def verify(self, *, sample: float | None = None) -> Report:
        """Prove the build from its directory alone, whole or a share of its rows.

        Returns: a report: `is_sound`, `findings`, `as_json()`.
        """
        from orca_recipes.catalogue import Catalogue
        from orca_recipes.progress import Progress
        from orca_recipes.prove.prove import prove
        from orca_recipes.store.shared_build import shared_build

        if (shared := shared_build(self.directory)) is not None:
            shared.bring_all()
        return prove(self.directory, kinds=Catalogue(), sample=sample, progress=Progress())

    def explain(
        self,
        *,
        example: str | None = None,
        source: str | None = None,
        row: int | None = None,
        at: int | None = None,
        store: str | Path = ".orca/store",
        traces: str | Path | None = None,
    ) -> Explanation:
        """Say why a row is where it is: by an example's id, a token of a packed row, or a source's FILE:LINE.

        Args:
            row, at: a row of the build and a token in it, from 0; its first token where `at` is not given.
        Raises: UserError where not exactly one of these is given, or there is none such; DamagedShard.
        """
        from orca_recipes.explain.explain import explain_example, explain_place, explain_token
        from orca_recipes.store.shared_store import store_place
        from orca_recipes.traces.shared_traces import traces_place

        place = None if traces is None else traces_place(traces)
        known: dict[str, Any] = {"store": store_place(store), "traces": place}
        if example is not None and source is None and row is None and at is None:
            return explain_example(self.directory, example, **known)
        if source is not None and example is None and row is None and at is None:
            return explain_place(self.directory, source, **known)
        if row is not None and example is None and source is None:
            return explain_token(self.directory, row, at or 0, **known)
        raise UserError("explain one of: an example, a source, or a row (with a token's place, at)")


@dataclass(frozen=True)
class Dataset:
    """One dataset of a build."""

    build: Build
    name: str

    @property
    def counts(self) -> DatasetCounts:
        return self.build.manifest.datasets[self.name]

    @property
    def rows(self) -> int:
        """Return the number of packed rows."""
        return self.counts.rows

    def examples(self) -> Iterator[Example]:
        """Give its examples in the order of rows. Raises: DamagedShard."""
        from orca_recipes.shards.show.show import OpenShard

        # Shards count their rows through the whole build; a dataset counts its own from 0.
        shown, first = self._shown(), None
        for start, counts in shown.shards():
            first = start if first is None else first
            shard = OpenShard.open(shown, start, counts, shown.records(counts))
            for number in range(len(shard.records)):
                ids, bounds, modes = shard.tokens(number)
                record = shard.record(number)
                assert shown.decoder is not None
                yield Example(
                    id=record["id"],
                    tokens=ids.astype(np.int32),
                    trained=np.repeat(is_trained(modes), np.diff(bounds)),
                    text="".join(shown.decoder.texts(ids.tolist(), bounds.tolist())),
                    collection=record["collection"],
                    task=record["task"],
                    file=record["file"],
                    place=record["line"],
                    row=start - first + shard.row_of(number),
                    at=record["place"],
                    turn=record["turn"],
                    strategy=record["strategy"],
                    teacher=record["teacher"],
                )

    def to_arrow(self) -> pa.RecordBatchReader:
        """Give its examples as Arrow batches, with the fields of `Example` and the dataset's name."""
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(_schema(), self._batches())

    def to_torch(self) -> TorchDataset[dict[str, Any]]:
        """Give its rows as a torch dataset, as the trainer sees them: a dict of tensors a row.

        tokens, labels, position_ids: int64 [row_tokens]; loss_mask: float32 [row_tokens], 1 exactly where the label is
        trained; cu_seqlens: int32 [spans + 1], the bounds of examples that must not see each other; max_seqlen: int.
        Raises: PluginError where torch is not installed.
        """
        from orca_recipes.front.torch_rows import torch_rows

        return torch_rows(self.shards(), self.build.manifest)

    def shards(self) -> list[Shard]:
        """Open its shards, memory-mapped. Raises: DamagedShard."""
        from orca_recipes.shards.reader import Shard

        return [Shard.open(self.build.directory / counts.prefix) for counts in self.counts.shards]

    def _shown(self) -> ShownBuild:
        from orca_recipes.shards.show.show import ShownBuild
        from orca_recipes.shards.show.spans import SpanDecoder

        decoder = SpanDecoder(self.build.directory / TOKENIZER)
        return ShownBuild(self.build.directory, self.build.manifest, decoder, dataset=self.name)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        waiting: list[dict[str, Any]] = []
        for example in self.examples():
            waiting.append({"dataset": self.name, **vars(example)})
            if len(waiting) == _EXAMPLES_A_BATCH:
                yield pa.RecordBatch.from_pylist(waiting, schema=_schema())
                waiting = []
        if waiting:
            yield pa.RecordBatch.from_pylist(waiting, schema=_schema())


def _schema() -> pa.Schema:
    import pyarrow as pa

    texts = ("collection", "task", "file", "strategy", "teacher")
    return pa.schema(
        [
            ("dataset", pa.string()),
            ("id", pa.string()),
            ("tokens", pa.large_list(pa.int32())),
            ("trained", pa.large_list(pa.bool_())),
            ("text", pa.large_string()),
            *((name, pa.large_string()) for name in texts),
            ("place", pa.int64()),
            ("row", pa.int64()),
            ("at", pa.int64()),
            ("turn", pa.int32()),
        ]
    )
