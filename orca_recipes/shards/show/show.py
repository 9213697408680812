"""Looking at rows of a build as a person would: text by role and loss mask, bounds of examples, where each came from.

Rows are counted through the whole build, over datasets and shards in the order of the manifest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from orca_recipes.counted import counted
from orca_recipes.errors import UserError
from orca_recipes.shards.curriculum import read_curriculum
from orca_recipes.shards.files import damage
from orca_recipes.shards.layout import ROLES, TOKENIZER, is_trained, records_path, role_codes, starts_example
from orca_recipes.shards.manifest import Manifest, ShardCounts, read_manifest
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import (
    BY_PART,
    CUT,
    HISTORY_DROPPED,
    TAIL_TRIMMED,
    TRUNCATED,
    TURNS_DROPPED,
    UNTRAINED,
    WINDOW,
    read_records,
)
from orca_recipes.shards.show.row_page import Piece, Section, SideBySide, Views, print_sections
from orca_recipes.shards.show.spans import SpanDecoder

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    import numpy as np
    import pyarrow as pa
    from rich.console import Console

ViewTeller = Callable[[Mapping[str, Any], "np.ndarray", Sequence[int], "np.ndarray"], Views | None]
"""From an example's record, its tokens, the ends of its segments and their modes: both views, None where the messages
cannot be told apart."""

_SAME = "nothing is erased: the teacher was asked what the student sees"
_UNPARTED = "the student sees (its messages cannot be told apart, nor what the teacher was asked)"
_EXAMPLES_OF_A_TASK = 5
_FLAGS = {CUT: "cut by the teacher", TRUNCATED: "truncated by packing", TURNS_DROPPED: "newest turns dropped"}
_FLAGS |= {HISTORY_DROPPED: "oldest exchanges dropped", TAIL_TRIMMED: "unfinished tail trimmed"}


def show(
    directory: Path,
    *,
    out: Console | TextIO,
    row: int | None = None,
    task: str | None = None,
    example: str | None = None,
    raw: bool = False,
    views: ViewTeller | None = None,
    dataset: str | None = None,
) -> None:
    """Print rows or examples of a build.

    Args:
        out: in colour where it is a terminal, else plain text.
        row: this row; without row, task and example the build's format and data, the phases of the curriculum and the
            first row of each dataset.
        task: the first examples of this task (`task` or `collection/task`).
        example: the example with this id, or the one whose id begins so.
        raw: token ids and modes instead of text.
        views: tells what the teacher was asked and what the student sees of it, to be shown side by side.
        dataset: nothing of other datasets.
    Raises: BuildError, UserError where there is no such row, task, example or dataset; DamagedShard.
    """
    from rich.console import Console

    manifest = read_manifest(directory)
    decoder = None if raw else SpanDecoder(directory / TOKENIZER)
    build = ShownBuild(directory, manifest, decoder, views, dataset)
    if example is not None:
        sections = _of_example(build, example)
    elif task is not None:
        sections = _of_task(build, task)
    elif row is not None:
        sections = _of_rows(build, [row])
    else:
        sections = [_of_build(build.manifest), *_of_phases(directory), *_of_rows(build, build.first_rows())]
    print_sections(sections, out if isinstance(out, Console) else Console(file=out))


@dataclass(frozen=True)
class ShownBuild:
    """A build that is looked at, whole or one dataset of it.

    decoder: None where token ids are shown.
    Raises: UserError where it has no such dataset.
    """

    directory: Path
    manifest: Manifest
    decoder: SpanDecoder | None
    views: ViewTeller | None = None
    dataset: str | None = None

    def __post_init__(self) -> None:
        if self.dataset is not None and self.dataset not in self.manifest.datasets:
            near = get_close_matches(self.dataset, self.manifest.datasets, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else f"; it has {', '.join(self.manifest.datasets)}"
            raise UserError(f'{self.directory} has no dataset "{self.dataset}"{hint}')

    def datasets(self) -> list[str]:
        return list(self.manifest.datasets) if self.dataset is None else [self.dataset]

    def shards(self) -> Iterator[tuple[int, ShardCounts]]:
        """Yield each chosen shard, with the number of its first row in the whole build."""
        first = 0
        for name, counts in self.manifest.datasets.items():
            for shard in counts.shards:
                if self.dataset in (None, name):
                    yield first, shard
                first += shard.rows

    def first_rows(self) -> list[int]:
        firsts = {shard.prefix: first for first, shard in self.shards()}
        shards = (self.manifest.datasets[name].shards for name in self.datasets())
        return [firsts[found[0].prefix] for found in shards if found]

    def records(self, shard: ShardCounts) -> pa.Table:
        path = records_path(self.directory / shard.prefix)
        records, faults = read_records(path)
        if records is None or faults:
            raise damage(path, faults[0])
        return records.readable()


@dataclass(frozen=True)
class OpenShard:
    """A shard with its records; first: the number of its first row in the build."""

    build: ShownBuild
    prefix: str
    first: int
    shard: Shard
    records: pa.Table

    @classmethod
    def open(
        cls, build: ShownBuild, first: int, counts: ShardCounts, records: pa.Table, *, by_ranges: bool = False
    ) -> OpenShard:
        prefix = build.directory / counts.prefix
        shard = Shard.open(prefix, by_ranges=by_ranges)
        if len(records) != shard.segments.examples:
            raise damage(records_path(prefix), f"it has {len(records)} lines for {shard.segments.examples} examples")
        return cls(build, counts.prefix, first, shard, records)

    def examples_of(self, row: int) -> range:
        start, stop = (int(bound) for bound in self.shard.segments.row_examples[row : row + 2])
        return range(start, stop)

    def row_of(self, example: int) -> int:
        """Return the row of the shard that holds an example."""
        return int(self.shard.segments.example_rows[example])

    def record(self, example: int) -> dict[str, Any]:
        return {name: self.records[name][example].as_py() for name in self.records.column_names}

    def tokens(self, example: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return an example's tokens, the bounds of its segments in them, [segments + 1], and the segments' modes."""
        row = self.row_of(example)
        held = self.shard.row(row)
        inside = example - self.examples_of(row).start
        first, stop = (int(at) for at in held.segments.example_starts[inside : inside + 2])
        bounds = held.segments.token_starts[first : stop + 1]
        return held.tokens[bounds[0] : bounds[-1]], bounds - bounds[0], held.segments.modes[first:stop]

    def section(self, example: int, *, with_row: bool) -> Section | SideBySide:
        """Show one example: its origin and its contents."""
        row = self.row_of(example)
        ids, bounds, modes = self.tokens(example)
        texts = _texts(self.build.decoder, ids.tolist(), bounds.tolist(), modes)
        labels = zip(role_codes(modes).tolist(), is_trained(modes).tolist(), texts, strict=True)
        pieces = [Piece(ROLES[role], trained, text) for role, trained, text in labels]
        where = f"row {self.first + row} ({self.prefix} row {row}), " if with_row else ""
        record = self.record(example)
        heading = f"example {record['id']}: {where}{_provenance(record)}"
        if self.build.views is None:
            return Section(heading, pieces)
        told = self.build.views(record, ids, bounds[1:].tolist(), modes)
        title = _UNPARTED if record["teacher_view"] else _SAME
        return SideBySide(heading, told, pieces, title)


def _of_build(manifest: Manifest) -> Section:
    return Section(f"build {manifest.name}: format {manifest.format}, data {manifest.data_digest}")


def _of_phases(directory: Path) -> list[Section]:
    """Describe the data of each phase of the curriculum."""
    sections = []
    for number, phase in enumerate(read_curriculum(directory).phases, start=1):
        asked = counted(phase.tokens or 0, "token") if phase.epochs is None else counted(phase.epochs, "epoch")
        rows = " and ".join(f"{counted(rows, 'row')} of {name}" for name, rows in phase.rows.items())
        counts = f"{counted(phase.seen_tokens, 'token')}, {phase.seen_trained_tokens:,} trained"
        sections.append(Section(f"phase {number} ({asked}): {rows}; {counts}"))
    return sections


def _of_rows(build: ShownBuild, rows: Iterable[int]) -> list[Section | SideBySide]:
    sections: list[Section | SideBySide] = []
    for row in rows:
        opened = open_at(build, row)
        inside = row - opened.first
        examples = opened.examples_of(inside)
        sections.append(Section(_row_heading(opened, inside, len(examples))))
        sections += (opened.section(example, with_row=False) for example in examples)
    return sections


def _of_task(build: ShownBuild, task: str) -> list[Section | SideBySide]:
    sections: list[Section | SideBySide] = []
    found = 0
    for first, shard in build.shards():
        records = build.records(shard)
        places = places_of_task(records, task)
        wanted = places[: max(0, _EXAMPLES_OF_A_TASK - found)]
        found += len(places)
        if wanted:
            # By ranges, since a build at an address would else be copied whole for one example.
            opened = OpenShard.open(build, first, shard, records, by_ranges=True)
            sections += (opened.section(example, with_row=True) for example in wanted)
    if not found:
        raise UserError(no_task(build.manifest, task))
    return [Section(f"task {task}: {counted(found, 'example')}, {len(sections)} of them here"), *sections]


def _of_example(build: ShownBuild, wanted: str) -> list[Section | SideBySide]:
    import pyarrow.compute as pc

    found = []
    for first, shard in build.shards():
        records = build.records(shard)
        places = pc.indices_nonzero(pc.starts_with(records["id"], wanted.lower())).to_pylist()
        if places:
            opened = OpenShard.open(build, first, shard, records, by_ranges=True)
            # Two are enough to know that an id is not told by its beginning.
            found += [opened.section(example, with_row=True) for example in places[:2]]
    if not found:
        raise UserError(f"{build.directory} holds no example {wanted}; `orca-recipe show --row 0` prints ids")
    if len(found) > 1:
        raise UserError(
            f"more than one example of {build.directory} has an id that begins with {wanted}; give more of it"
        )
    return found


def open_at(build: ShownBuild, row: int) -> OpenShard:
    for first, shard in build.shards():
        if first <= row < first + shard.rows:
            return OpenShard.open(build, first, shard, build.records(shard), by_ranges=True)
    rows = sum(counts.rows for counts in build.manifest.datasets.values())
    if 0 <= row < rows:
        raise UserError(f"row {row} of {build.directory} is not of dataset {build.dataset}")
    raise UserError(f"{build.directory} has {counted(rows, 'row')}, counted from 0, and no row {row}")


def _row_heading(opened: OpenShard, row: int, examples: int) -> str:
    segments = opened.shard.row(row).segments
    room = opened.build.manifest.row_tokens
    tokens, trained = int(segments.token_starts[-1]), int(segments.example_trained_tokens.sum())
    place = f"row {opened.first + row} ({opened.prefix} row {row})"
    return f"{place}: {counted(examples, 'example')}, {tokens:,} of {counted(room, 'token')}, {trained:,} trained"


def _texts(decoder: SpanDecoder | None, ids: list[int], bounds: list[int], modes: Any) -> list[str]:
    if decoder is not None:
        return decoder.texts(ids, bounds)
    texts = []
    for mode, first, (start, stop) in zip(
        modes.tolist(), starts_example(modes).tolist(), pairwise(bounds), strict=True
    ):
        span = " ".join(map(str, ids[start:stop]))
        texts.append(f"mode {mode}{' starts' if first else ''}, {counted(stop - start, 'token')} from {start}: {span}")
    return texts


def _provenance(record: dict[str, Any]) -> str:
    source = "generated" if record["file"] is None else f"{record['file']}:{record['line']}"
    names = ", ".join(
        f"{word.replace('_', ' ')} {record[word]}" for word in ("strategy", "system_message", "teacher") if record[word]
    )
    flags = "".join(f", {words}" for bit, words in _FLAGS.items() if record["flags"] & bit)
    flags += "" if record.get(WINDOW) is None else f", window {record[WINDOW]}"
    if record.get(UNTRAINED) is not None:
        flags += "".join(f", {untrained_text(one)}" for one in json.loads(record[UNTRAINED]))
    counts = f"{counted(record['tokens'], 'token')}, {record['trained_tokens']:,} trained"
    by_part = [f"{name.removeprefix('trained_')} {record[name]:,}" for name in BY_PART if record.get(name) is not None]
    counts += f" ({', '.join(by_part)})" if by_part else ""
    return "; ".join(
        part for part in (f"{record['collection']}/{record['task']}", source, names, counts + flags) if part
    )


def untrained_text(left: Mapping[str, Any]) -> str:
    """Word what a record tells of an answer that a filter left untrained."""
    return f"answer {left['turn']} untrained ({left['stage']}: {left['reason']})"


def places_of_task(records: pa.Table, task: str) -> list[int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    slash = pa.scalar("/", pa.large_string())
    named = pc.binary_join_element_wise(records["collection"], records["task"], slash)
    return list(pc.indices_nonzero(pc.or_(pc.equal(records["task"], task), pc.equal(named, task))).to_pylist())


def no_task(manifest: Manifest, task: str) -> str:
    """Word the error for a task the build does not hold, with the nearest name, or else the number of rejected rows."""
    tasks = {
        name
        for counts in manifest.datasets.values()
        for collection, of_collection in counts.collections.items()
        for plain in of_collection.tasks
        for name in (plain, f"{collection}/{plain}")
    }
    near = get_close_matches(task, tasks, n=1)
    if near:
        return f'the build holds no task "{task}"; did you mean "{near[0]}"?'
    lost = Counter[str]()
    for counts in manifest.datasets.values():
        for stage in counts.stages:
            lost.update(stage.rejected)
    if not lost:
        return f'the build holds no task "{task}"'
    (reason, _), *_ = lost.most_common(1)
    return (
        f'the build holds no task "{task}"; {counted(lost.total(), "row")} of all tasks were rejected, most of them '
        f"because: {reason}; `orca-recipe show BUILD --rejected` lists them"
    )
