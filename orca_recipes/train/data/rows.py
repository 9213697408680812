"""The rows of a build, memory-mapped: a row is read when its turn comes, and nothing is scanned before.

What a pair holds was proven when the build was made; at the start of a training only its sizes and the digests of its
indexes are held against the manifest (`examine`). A training maps all shards then; what only looks at some rows maps
theirs when the first of them is asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from orca_recipes.shards.files import damage
from orca_recipes.shards.layout import index_path
from orca_recipes.shards.manifest import Manifest, ShardCounts
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.view import Room, TrainingView
from orca_recipes.train.data.order import RowPlace


@dataclass(frozen=True)
class Rows:
    """All rows of a build's datasets, counted through the shards of each.

    directory: the build, examined before.
    """

    directory: Path
    manifest: Manifest

    def count(self, dataset: str) -> int:
        return self.manifest.datasets[dataset].rows

    def view(self, place: RowPlace, *, into: Room | None = None) -> TrainingView:
        """Return the training view of one row.

        Args:
            into: where it is to lie; else it has arrays of its own.
        Raises: DamagedShard where it cannot be read.
        """
        prefix, row = self.locate(place)
        return self._shard(prefix).training_view(
            row,
            row_tokens=self.manifest.row_tokens,
            align=self.manifest.align,
            pad_id=self.manifest.pad_id,
            into=into,
        )

    def locate(self, place: RowPlace) -> tuple[str, int]:
        """Find the prefix of the shard that holds a row, and the row's number in it."""
        found = self._datasets[place.dataset]
        at = bisect_right(found.starts, place.row) - 1
        return found.shards[at].prefix, place.row - found.starts[at]

    def open_all(self) -> None:
        """Map all shards, so that later rows are those of now, whatever becomes of the directory.

        Raises: DamagedShard where one cannot be mapped, or is not as long as the manifest says.
        """
        for counts in self.manifest.datasets.values():
            for shard in counts.shards:
                if self._shard(shard.prefix).rows != shard.rows:
                    raise damage(
                        index_path(self.directory / shard.prefix), f"it does not hold the {shard.rows:,} rows promised"
                    )

    def _shard(self, prefix: str) -> Shard:
        if prefix not in self._open:
            self._open[prefix] = Shard.open(self.directory / prefix, proven=True)
        return self._open[prefix]

    @cached_property
    def _datasets(self) -> dict[str, _Dataset]:
        return {name: _Dataset.of(counts.shards) for name, counts in self.manifest.datasets.items()}

    @cached_property
    def _open(self) -> dict[str, Shard]:
        return {}


@dataclass(frozen=True)
class _Dataset:
    """starts: the first row of each shard, counted through the dataset."""

    shards: Sequence[ShardCounts]
    starts: Sequence[int]

    @classmethod
    def of(cls, shards: Sequence[ShardCounts]) -> _Dataset:
        return cls(shards, [0, *accumulate(shard.rows for shard in shards)][:-1])
