"""Find a row in a build's own tables: the records of a shard, or the rejected rows of a dataset.

One look at the tables answers a question for all datasets, because a row may stand in several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.counted import counted
from orca_recipes.errors import UserError
from orca_recipes.explain.story import TokenView
from orca_recipes.run.tokens.erased_question import given_before
from orca_recipes.shards.files import damage
from orca_recipes.shards.layout import ROLES, TOKENIZER, is_trained, records_path, role_codes
from orca_recipes.shards.manifest import DatasetCounts, Manifest, ShardCounts, StageCounts
from orca_recipes.shards.reader import Row, Shard
from orca_recipes.shards.records import GIVEN, REJECTED_NAME, read_records, read_table, readable, rejected_schema
from orca_recipes.shards.show.spans import SpanDecoder

if TYPE_CHECKING:
    import pyarrow as pa

_CONTEXT = 40
"""Characters shown on each side of a token."""

Condition = Callable[["pa.Table"], "pa.ChunkedArray"]


@dataclass(frozen=True)
class ShardPlace:
    """A shard of a dataset; first: the number of its first row in the build."""

    dataset: str
    counts: ShardCounts
    first: int


@dataclass(frozen=True)
class Kept:
    """An example of a shard: its number there, and its line in the records."""

    shard: ShardPlace
    example: int
    record: dict[str, Any]


@dataclass(frozen=True)
class Lost:
    """A line of a dataset's rejected rows."""

    dataset: str
    record: dict[str, Any]


@dataclass(frozen=True)
class BuildTables:
    """The tables and shards of a build."""

    directory: Path
    manifest: Manifest

    def shards(self) -> Iterator[ShardPlace]:
        first = 0
        for dataset, counts in self.manifest.datasets.items():
            for shard in counts.shards:
                yield ShardPlace(dataset, shard, first)
                first += shard.rows

    def find(self, condition: Condition) -> tuple[list[Kept], list[Lost]]:
        """Find all lines that meet a condition on columns of both tables."""
        kept = [
            Kept(shard, number, line)
            for shard in self.shards()
            for number, line in _meeting(self._records(shard), condition)
        ]
        lost = [
            Lost(dataset, line)
            for dataset in self.manifest.datasets
            for _, line in _meeting(self._rejected(dataset), condition)
        ]
        return kept, lost

    def last_before(self, files: Sequence[str | None], line: int) -> int | None:
        """Return the last line before this one on which a row of a file of one of these names begins."""
        import pyarrow as pa
        import pyarrow.compute as pc

        names, tables = pa.array(files, pa.large_string()), [self._records(shard) for shard in self.shards()]
        tables += [self._rejected(dataset) for dataset in self.manifest.datasets]
        chosen = (
            table["line"].filter(pc.and_(pc.is_in(table["file"], value_set=names), pc.less(table["line"], line)))
            for table in tables
            if len(table)
        )
        lines = [pc.max(each).as_py() for each in chosen]
        return max((found for found in lines if found is not None), default=None)

    def files(self) -> set[tuple[str, str]]:
        """Return (collection, file) of all lines."""
        tables = [self._records(shard) for shard in self.shards()]
        tables += [self._rejected(dataset) for dataset in self.manifest.datasets]
        pairs = (table.group_by(["collection", "file"]).aggregate([]) for table in tables)
        return {
            (collection, file)
            for table in pairs
            for collection, file in zip(table["collection"].to_pylist(), table["file"].to_pylist(), strict=True)
            if file is not None
        }

    def at(self, row: int, at: int) -> tuple[Kept, TokenView]:
        """Find the example and the token at a place of a row of the build, both counted from 0.

        Raises: UserError where there is no such row, or no token at the place.
        """
        place = self._shard_of(row)
        shard = self._open(place)
        held = shard.row(row - place.first)
        self._refuse_pads(row, at, held)
        inside = int(np.searchsorted(held.segments.example_bounds, at, side="right")) - 1
        example = int(shard.segments.row_examples[row - place.first]) + inside
        records = self._records(place)
        if len(records) != shard.segments.examples:
            raise damage(records_path(self.directory / place.counts.prefix), "it has another number of examples")
        line = {name: records[name][example].as_py() for name in records.column_names}
        return Kept(place, example, line), self._token(held, inside, at)

    def has_system_message(self, kept: Kept) -> bool:
        """Tell whether an example shows the student a system message.

        Of a conversation that the record holds, its own: the template's words before it are the system's too.
        """
        if given := kept.record.get(GIVEN):
            return any(message["role"] == "system" for message in given_before(given))
        segments = self._open(kept.shard).segments
        start, stop = segments.example_starts[kept.example : kept.example + 2]
        return bool((role_codes(segments.modes[start:stop]) == ROLES.index("system")).any())

    def _token(self, held: Row, inside: int, at: int) -> TokenView:
        start, stop = (int(bound) for bound in held.segments.example_bounds[inside : inside + 2])
        segment = int(np.searchsorted(held.segments.token_starts, at, side="right")) - 1
        mode = held.segments.modes[segment : segment + 1]
        before, text, after = self._texts(held.tokens[start:stop].tolist(), at - start)
        trained = bool(is_trained(mode)[0])
        return TokenView(
            at=at,
            at_in_example=at - start,
            segment=segment,
            role=ROLES[int(role_codes(mode)[0])],
            is_in_trained_segment=trained,
            is_label=trained and at > start,
            token=int(held.tokens[at]),
            text=text,
            before=before if len(before) <= _CONTEXT else f"…{before[-_CONTEXT:]}",
            after=after if len(after) <= _CONTEXT else f"{after[:_CONTEXT]}…",
        )

    def _texts(self, ids: list[int], at: int) -> tuple[str, str, str]:
        """Decode the text of an example before a token, at it and after it."""
        bounds = sorted({0, at, at + 1, len(ids)})
        texts = SpanDecoder(self.directory / TOKENIZER).texts(ids, bounds)
        here = bounds.index(at)
        return "".join(texts[:here]), texts[here], "".join(texts[here + 1 :])

    def _shard_of(self, row: int) -> ShardPlace:
        for shard in self.shards():
            if shard.first <= row < shard.first + shard.counts.rows:
                return shard
        rows = sum(counts.rows for counts in self.manifest.datasets.values())
        raise UserError(f"{self.directory} has {counted(rows, 'row')}, counted from 0, and no row {row}")

    def _refuse_pads(self, row: int, at: int, held: Row) -> None:
        stored, room = int(held.segments.token_starts[-1]), self.manifest.row_tokens
        if at >= stored:
            what = "padding" if at < room else "past its end"
            raise UserError(
                f"row {row} holds {stored} tokens, counted from 0, and a row has room for {room}: place {at} is {what}"
            )

    def _open(self, place: ShardPlace) -> Shard:
        return Shard.open(self.directory / place.counts.prefix, by_ranges=True)

    def _records(self, place: ShardPlace) -> pa.Table:
        path = records_path(self.directory / place.counts.prefix)
        records, faults = read_records(path)
        if records is None or faults:
            raise damage(path, faults[0])
        return records.readable()

    def _rejected(self, dataset: str) -> pa.Table:
        return readable(read_table(self.directory / dataset / REJECTED_NAME, rejected_schema()))


def begins(prefix: str) -> Condition:
    """Return the condition that an id begins so."""
    import pyarrow.compute as pc

    return lambda table: pc.starts_with(table["id"], prefix)


def stands_at(files: Sequence[str | None], line: int) -> Condition:
    """Return the condition that a row stands at this line of a file of one of these names; None: is this item of
    those that are generated."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = pa.array(files, pa.large_string())
    return lambda table: pc.and_(pc.is_in(table["file"], value_set=names), pc.equal(table["line"], line))


def stage_counts(counts: DatasetCounts, name: str) -> StageCounts | None:
    """Return the row counts of a dataset's stage; None where it has no such stage."""
    return next((stage for stage in counts.stages if stage.name == name), None)


def _meeting(table: pa.Table, condition: Condition) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow.compute as pc

    if not len(table):  # pyarrow 20 crashes where it looks for places in a column without a piece
        return
    numbers = pc.indices_nonzero(pc.fill_null(condition(table), False))
    yield from zip(numbers.to_pylist(), table.take(numbers).to_pylist(), strict=True)
