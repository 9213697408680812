"""Examples of a build, and the rows that it lost, as records: what programs read where people read `show`.

The texts of an example's segments, joined, are the text of all its tokens, control tokens as they are spelt; so nothing
that a model sees is outside of them, and `tokens` joined are its ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_recipes.counted import counted
from orca_recipes.errors import UserError
from orca_recipes.shards.layout import ROLES, TOKENIZER, is_trained, role_codes
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.records import (
    BY_PART,
    COUNTED,
    REJECTED_NAME,
    TRAIN_ON,
    UNTRAINED,
    WINDOW,
    read_table,
    readable,
    rejected_schema,
)
from orca_recipes.shards.show.show import OpenShard, ShownBuild, no_task, open_at, places_of_task, untrained_text
from orca_recipes.shards.show.spans import SpanDecoder
from orca_recipes.shards.show.visible import visible

if TYPE_CHECKING:
    import pyarrow as pa

# Rows become Python objects, so only so many of a large table at a time.
_LINES_AT_ONCE = 4096


def example_lines(
    directory: Path,
    *,
    dataset: str | None = None,
    row: int | None = None,
    task: str | None = None,
    example: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the examples of a build in the order of its rows, all of them or those asked for.

    Each has id, dataset, row (of the whole build), at (its first token in the row), collection, task, file, place,
    turn, window where it is one, strategy, teacher, and segments: role, trained, text and tokens of each.
    Raises: BuildError; UserError where there is no such dataset, row, task or example; DamagedShard.
    """
    build = ShownBuild(directory, read_manifest(directory), SpanDecoder(directory / TOKENIZER), dataset=dataset)
    if row is not None:
        shard = open_at(build, row)
        yield from (_line(shard, number) for number in shard.examples_of(row - shard.first))
        return
    found = False
    for first, counts in build.shards():
        records = build.records(counts)
        chosen = _chosen(records, task, example)
        few = task is not None or example is not None
        shard = OpenShard.open(build, first, counts, records, by_ranges=few)
        for number in chosen:
            found = True
            yield _line(shard, number)
    if not found and example is not None:
        raise UserError(f"{directory} holds no example {visible(example)}; `orca-recipe show --row 0` prints ids")
    if not found and task is not None:
        raise UserError(no_task(build.manifest, task))


def rejected_lines(directory: Path, *, dataset: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield every rejected row that a build lists, dataset by dataset: its origin, the stage and the reason.

    twin: of a row that repeats another or is like one, that other; None elsewhere.
    Raises: BuildError; UserError where there is no such dataset; DamagedShard.
    """
    build = ShownBuild(directory, read_manifest(directory), None, dataset=dataset)
    for name in build.datasets():
        table = read_table(directory / name / REJECTED_NAME, rejected_schema())
        for start in range(0, len(table), _LINES_AT_ONCE):
            for lost in readable(table.slice(start, _LINES_AT_ONCE)).to_pylist():
                yield {
                    "id": lost["id"],
                    "dataset": name,
                    "collection": lost["collection"],
                    "file": lost["file"],
                    "place": lost["line"],
                    "stage": lost["stage"],
                    "reason": lost["reason"],
                    "twin": lost.get("twin"),
                }


def rejected_text(directory: Path, *, dataset: str | None = None) -> Iterator[str]:
    """Yield lines on rejected rows for people, and the number of rows a mixture passed over unlisted."""
    build = ShownBuild(directory, read_manifest(directory), None, dataset=dataset)
    for name in build.datasets():
        lost = list(rejected_lines(directory, dataset=name))
        yield f"dataset {name}: {counted(len(lost), 'row')} rejected"
        for line in lost:
            where = "generated" if line["file"] is None else line["file"]
            twin = f"{line['twin']} is kept" if line["stage"] == "mix" else f"like {line['twin']}"
            kept = f" ({twin})" if line["twin"] else ""
            yield f"  {line['collection']}/{where}:{line['place']}: {line['stage']}: {line['reason']}{kept}"
        for stage in build.manifest.datasets[name].stages:
            for reason, number in stage.rejected.items():
                if reason in COUNTED:
                    yield f"  {stage.name}: {counted(number, 'row')} passed over: {reason}"


def untrained_lines(directory: Path, *, dataset: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield every answer of a build's conversations that a filter left untrained: its origin, the filter, the reason.

    turn: which of the assistant's messages it is, from 1.
    Raises: BuildError; UserError where there is no such dataset; DamagedShard.
    """
    build = ShownBuild(directory, read_manifest(directory), None, dataset=dataset)
    seen: set[str] = set()
    for _, counts in build.shards():
        records = build.records(counts)
        if UNTRAINED not in records.column_names:
            continue
        told = records.filter(records[UNTRAINED].is_valid())
        for start in range(0, len(told), _LINES_AT_ONCE):
            for record in told.slice(start, _LINES_AT_ONCE).to_pylist():
                name = counts.prefix.rpartition("/")[0]
                # Each example of a conversation tells of all of its answers.
                if (name + record["id"]) in seen:
                    continue
                seen.add(name + record["id"])
                origin = {"id": record["id"], "dataset": name, "collection": record["collection"]}
                for left in json.loads(record[UNTRAINED]):
                    yield {**origin, "file": record["file"], "place": record["line"], **left}


def untrained_text_lines(directory: Path, *, dataset: str | None = None) -> Iterator[str]:
    """Yield lines on answers that filters left untrained, for people."""
    build = ShownBuild(directory, read_manifest(directory), None, dataset=dataset)
    for name in build.datasets():
        left = list(untrained_lines(directory, dataset=name))
        yield f"dataset {name}: {counted(len(left), 'answer')} untrained by filters, in context all the same"
        for line in left:
            where = "generated" if line["file"] is None else line["file"]
            yield f"  {line['collection']}/{where}:{line['place']}: {untrained_text(line)}"


def _chosen(records: pa.Table, task: str | None, example: str | None) -> Sequence[int]:
    """Return the positions of the requested examples of a shard."""
    import pyarrow.compute as pc

    if example is not None:
        return list(pc.indices_nonzero(pc.starts_with(records["id"], example.lower())).to_pylist())
    if task is not None:
        return places_of_task(records, task)
    return range(len(records))


def _line(shard: OpenShard, example: int) -> dict[str, Any]:
    ids, bounds, modes = shard.tokens(example)
    record = shard.record(example)
    assert shard.build.decoder is not None
    texts = shard.build.decoder.texts(ids.tolist(), bounds.tolist())
    parts = zip(role_codes(modes).tolist(), is_trained(modes).tolist(), texts, bounds[:-1], bounds[1:], strict=True)
    return {
        "id": record["id"],
        "dataset": shard.prefix.rpartition("/")[0],
        "row": shard.first + shard.row_of(example),
        "at": record["place"],
        "collection": record["collection"],
        "task": record["task"],
        "file": record["file"],
        "place": record["line"],
        "turn": record["turn"],
        **{name: record[name] for name in (WINDOW, *BY_PART, TRAIN_ON) if record.get(name) is not None},
        **({UNTRAINED: json.loads(record[UNTRAINED])} if record.get(UNTRAINED) is not None else {}),
        "strategy": record["strategy"],
        "teacher": record["teacher"],
        "segments": [
            {"role": ROLES[role], "trained": trained, "text": text, "tokens": ids[start:stop].tolist()}
            for role, trained, text, start, stop in parts
        ],
    }
