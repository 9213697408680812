"""Checks that an exporter keeps the promises of the contract, on a small made-up build."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.checks.promises import check_kind, expect
from orca_recipes.contract.draws import splitmix64
from orca_recipes.contract.exporter import (
    BuildToExport,
    DatasetToExport,
    Exporter,
    RowBlock,
    Said,
    SaidMessage,
    ShardToExport,
    Written,
)
from orca_recipes.shards.layout import segment_modes
from orca_recipes.shards.records import records_schema
from orca_recipes.shards.segments import Segments

if TYPE_CHECKING:
    import pyarrow as pa

_ROW_TOKENS = 64
_VOCABULARY = 1000
_EOS = 2
_ROWS = (5, 3, 1)
"""Rows of the shards of a dataset, a block each."""


def check_exporter(exporter: Exporter, folder: Path) -> None:
    """Check an exporter: all labels are accounted for, the same bytes each time, nothing outside of its folder.

    Args:
        folder: an empty one, to write in.
    """
    check_kind(exporter)
    build = _build(folder)
    exporter.refuse(build=build)
    first, second = (_exported(exporter, build, folder / name) for name in ("first", "second"))
    expect(bool(first), "it writes no file")
    expect(first == second, "exporting twice gives other files")
    outside = {path.name for path in folder.iterdir()} - {"first", "second", "build"}
    expect(not outside, f"it writes outside of its folder: {', '.join(sorted(outside))}")


def _exported(exporter: Exporter, build: BuildToExport, folder: Path) -> Mapping[str, bytes]:
    folder.mkdir()
    shards: dict[str, list[Written]] = {}
    for dataset in build.datasets:
        shards[dataset.name] = []
        for number in range(dataset.shards):
            shard = _shard(dataset, number)
            written = exporter.write(build=build, shard=shard, folder=folder)
            expect(isinstance(written, Written), "write must return a Written")
            told = written.trained_labels + sum(written.lost.values())
            expect(
                told == shard.trained_tokens,
                f"it tells of {told} labels, kept and lost, of a shard that has {shard.trained_tokens}",
            )
            expect(all(reason.strip() for reason in written.lost), "labels are lost without a reason")
            shards[dataset.name].append(written)
    exporter.finish(build=build, shards=shards, folder=folder)
    expect(bool(exporter.settings(build=build, shards=shards).strip()), "settings tells nothing")
    json.dumps(dict(exporter.card(build=build)), allow_nan=False)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _build(folder: Path) -> BuildToExport:
    directory = folder / "build"
    directory.mkdir()
    blocks = [_block(number) for number in range(len(_ROWS))]
    sizes = {
        "rows": sum(_ROWS),
        "examples": sum(block.segments.examples for block in blocks),
        "tokens": sum(len(block.tokens) for block in blocks),
        "trained_tokens": sum(int(block.labelled.sum()) for block in blocks),
    }
    return BuildToExport(
        name="made-up",
        directory=directory,
        digest=f"blake2b:{0:064x}",
        row_tokens=_ROW_TOKENS,
        align=1,
        pad_id=0,
        bos_id=None,
        eos_id=_EOS,
        terminators=((_EOS,),),
        vocabulary_size=_VOCABULARY,
        longest_example=max(int(block.segments.example_tokens.max()) for block in blocks),
        datasets=tuple(DatasetToExport(name, shards=len(_ROWS), **sizes) for name in ("main", "other")),
    )


def _shard(dataset: DatasetToExport, number: int) -> ShardToExport:
    block = _block(number)
    trained = int(block.labelled.sum())
    sizes = (block.segments.rows, block.segments.examples, len(block.tokens), trained)
    return ShardToExport(dataset, number, *sizes, _once(block))


def _once(block: RowBlock) -> Iterator[RowBlock]:
    yield block


def _block(number: int) -> RowBlock:
    """Make rows of two examples each: the first has a question and an answer, the second two of both."""
    rows = _ROWS[number]
    drawn = splitmix64(np.arange(1 << 16, dtype=np.uint64) + np.uint64(number << 20))
    lengths, trained, starts, row_starts = [], [], [], [0]
    for row in range(rows):
        for example in range(2):
            for part in range(2 + 2 * example):
                lengths.append(2 + int(drawn[97 * row + 11 * example + part] % np.uint64(9)))
                trained.append(part % 2 == 1)
                starts.append(part == 0)
        row_starts.append(len(lengths))
    modes = segment_modes(
        trained=np.array(trained), starts=np.array(starts), roles=np.where(trained, 3, 2).astype(np.int8)
    )
    segments = Segments(np.array(lengths, dtype=np.int32), modes, np.array(row_starts))
    # Ids 0 to 2 stay free for pads and the end of text.
    tokens = (3 + drawn[: sum(lengths)] % np.uint64(_VOCABULARY - 3)).astype(np.uint16)
    ends = segments.token_starts[1:] - 1
    tokens[ends[np.array(trained)]] = _EOS
    said = [
        Said((SaidMessage("user", f"question {at}", trained=False), SaidMessage("assistant", f"{at}", trained=True)))
        for at in range(segments.examples)
    ]
    said[0] = Said(why="they are made up")
    return RowBlock(tokens, segments, lambda: _records(segments), lambda: said)


def _records(segments: Segments) -> pa.Table:
    """Return records of made-up examples, with ids as people read them."""
    import pyarrow as pa

    count = segments.examples
    columns: dict[str, list[object]] = {
        "row": segments.example_rows.tolist(),
        "place": segments.example_places.tolist(),
        "id": [f"{at:032x}" for at in range(count)],
        "turn": [-1] * count,
        "collection": ["numbers"] * count,
        "task": [f"task-{at % 3}" for at in range(count)],
        "line": list(range(1, count + 1)),
        "strategy": ["direct"] * count,
        "system_message": [""] * count,
        "teacher": [""] * count,
        "tokens": segments.example_tokens.tolist(),
        "trained_tokens": segments.example_trained_tokens.tolist(),
        "flags": [0] * count,
    }
    fields = []
    for field in records_schema():
        kind = pa.large_string() if pa.types.is_fixed_size_binary(field.type) else field.type
        fields.append(pa.field(field.name, kind))
        columns.setdefault(field.name, [None] * count)
    return pa.table(columns, schema=pa.schema(fields))
