"""Examples to look at: some of every collection and strategy, with their masks and both views.

They are the first by id, and ids are digests, so equal builds show the same ones. Only the first shard of a dataset is
looked at: examples are dealt over shards by id, so it is a fair part of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.shards.files import damage
from orca_recipes.shards.layout import ROLES, TOKENIZER, index_path, is_trained, records_path, role_codes, tokens_path
from orca_recipes.shards.manifest import Manifest, ShardCounts
from orca_recipes.shards.proven_files import prove_files
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import Records, read_records
from orca_recipes.shards.show.row_page import Piece
from orca_recipes.shards.show.show import OpenShard, ShownBuild, ViewTeller
from orca_recipes.shards.show.spans import SpanDecoder
from orca_recipes.shards.text_columns import numbers

if TYPE_CHECKING:
    import pyarrow as pa

# So many, in two views of 3,000 characters, keep the page under 3 MB.
MOST = 48
_DATASETS = 12
_CHARS_OF_A_VIEW = 3_000
_CHARS_OF_A_PIECE = 1_500
_CHARS_OF_A_BEGINNING = 140
_FILES = (records_path, index_path, tokens_path)


@dataclass(frozen=True)
class Sample:
    """One example as the page shows it.

    pieces: what the tokens say, control tokens and all. asked: what the teacher was asked, where the student sees
    something else; None where it is the same, or cannot be told.
    """

    id: str
    dataset: str
    collection: str
    task: str
    strategy: str
    system_message: str
    teacher: str
    place: str
    row: int
    tokens: int
    trained_tokens: int
    pieces: tuple[Piece, ...]
    asked: tuple[Piece, ...] | None


def samples(directory: Path, promised: Manifest, views: ViewTeller | None) -> list[Sample]:
    """Choose examples and read them, every file held against the manifest first.

    Raises: DamagedShard.
    """
    prove_files(directory, promised, [TOKENIZER])
    build = ShownBuild(directory, promised, SpanDecoder(directory / TOKENIZER), views)
    names = [name for name, counts in promised.datasets.items() if counts.shards][:_DATASETS]
    firsts = {shard.prefix: first for first, shard in build.shards()}
    found: list[Sample] = []
    for name in names:
        shard = promised.datasets[name].shards[0]
        found += _of_shard(build, name, shard, firsts[shard.prefix], MOST // len(names))
    return found


def _of_shard(build: ShownBuild, dataset: str, counts: ShardCounts, first: int, most: int) -> list[Sample]:
    prefix = Path(counts.prefix)
    prove_files(build.directory, build.manifest, [place(prefix).as_posix() for place in _FILES])
    path = records_path(build.directory / prefix)
    records, faults = read_records(path)
    if records is None:
        raise damage(path, faults[0])
    shard = Shard.open(build.directory / prefix)
    if len(records.table) != shard.segments.examples:
        raise damage(path, f"it has {len(records.table)} lines for {shard.segments.examples} examples")
    opened = OpenShard(build, counts.prefix, first, shard, records.table)
    return [_sample(opened, records, dataset, example) for example in chosen(records, most)]


def chosen(records: Records, most: int) -> list[int]:
    """Choose the examples of a shard that are shown: one of each collection and strategy in turn, the first by id."""
    # By id, which is a hash: the choice is as good as drawn, and equal builds show equal samples.
    order = np.lexsort((records.ids[:, 1], records.ids[:, 0]))
    # Both codes are below 2**31: one int64 holds the pair, and one sort groups by it.
    groups = _codes(records.table["collection"]) * (1 << 32) + _codes(records.table["strategy"])
    sorted_groups = groups[order]
    by_group = np.argsort(sorted_groups, kind="stable")
    starts = np.flatnonzero(np.diff(sorted_groups[by_group], prepend=-1))
    # Its place among those of its group: all firsts come before all seconds.
    place = np.empty(len(order), dtype=np.int64)
    place[by_group] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    turns = np.lexsort((np.arange(len(order)), place))[:most]
    return [int(order[turn]) for turn in turns]


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    return numbers(column.combine_chunks().dictionary_encode().indices).astype(np.int64)


def _sample(opened: OpenShard, records: Records, dataset: str, example: int) -> Sample:
    ids, bounds, modes = opened.tokens(example)
    record = {**opened.record(example), "id": records.example_id(example)}
    build = opened.build
    assert build.decoder is not None
    texts = build.decoder.texts(ids.tolist(), bounds.tolist())
    labels = zip(role_codes(modes).tolist(), is_trained(modes).tolist(), texts, strict=True)
    told = build.views(record, ids, bounds[1:].tolist(), modes) if build.views is not None else None
    return Sample(
        id=record["id"],
        dataset=dataset,
        collection=record["collection"],
        task=record["task"],
        strategy=record["strategy"],
        system_message=record["system_message"],
        teacher=record["teacher"],
        place="generated" if record["file"] is None else f"{record['file']}:{record['line']}",
        row=opened.first + opened.row_of(example),
        tokens=int(record["tokens"]),
        trained_tokens=int(record["trained_tokens"]),
        pieces=_clipped([Piece(ROLES[role], trained, text) for role, trained, text in labels]),
        asked=None if told is None else _clipped(told.teacher),
    )


def _clipped(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Cut the pieces to the characters of a view; a long one keeps its two ends and the count of characters between
    them."""
    room, found = _CHARS_OF_A_VIEW, []
    for number, piece in enumerate(pieces):
        if room <= 0:
            found.append(Piece("mixed", False, f"[… {len(pieces) - number} more segments: orca-recipe show --example]"))
            break
        text = clipped(piece.text, min(room, _CHARS_OF_A_PIECE))
        room -= len(text)
        found.append(Piece(piece.role, piece.is_trained, text))
    return tuple(found)


def beginning(texts: Iterable[str]) -> str:
    """Return the beginning of some texts on one line, by which samples are told apart while they are closed."""
    text = " ".join(" ".join(texts).split())
    return text if len(text) <= _CHARS_OF_A_BEGINNING else f"{text[:_CHARS_OF_A_BEGINNING]}…"


def clipped(text: str, chars: int) -> str:
    """Shorten a text to about so many characters; its middle is replaced by the count of characters cut."""
    if len(text) <= chars:
        return text
    half = chars // 2
    return f"{text[:half]} [… {len(text) - 2 * half:,} characters …] {text[-half:]}"
