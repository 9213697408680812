"""A few examples that changed, with their text before and after, to be looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from orca_recipes.diff.row_changes import Pair, Spot
from orca_recipes.diff.sides import Side
from orca_recipes.shards.files import damage
from orca_recipes.shards.ids_digest import ids_digests
from orca_recipes.shards.layout import ROLES, TOKENIZER, is_trained, records_path, role_codes, tokens_path
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import read_records, readable
from orca_recipes.shards.show.spans import SpanDecoder


@dataclass(frozen=True)
class Span:
    """Text of one segment."""

    role: str
    trained: bool
    text: str


@dataclass(frozen=True)
class Standing:
    """An example as one build holds it; row: of its shard."""

    dataset: str
    shard: str
    row: int
    collection: str
    task: str
    file: str | None
    place: int | None
    strategy: str
    system_message: str
    teacher: str
    tokens: int
    trained_tokens: int
    segments: tuple[Span, ...]


@dataclass(frozen=True)
class ChangedExample:
    """One example before and after; None where it is not there."""

    id: str
    turn: int
    before: Standing | None
    after: Standing | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def looked_at(before: Side, after: Side, shown: Mapping[str, Sequence[Pair]]) -> dict[str, list[ChangedExample]]:
    """Read examples out of both builds, class by class; each shard is read once.

    Raises: DamagedShard where tokens do not have the digest of their record.
    """
    old = _standings(before, (pair.before for pairs in shown.values() for pair in pairs))
    new = _standings(after, (pair.after for pairs in shown.values() for pair in pairs))
    return {name: [_changed(pair, old, new) for pair in pairs] for name, pairs in shown.items()}


_Known = Mapping[Spot, tuple[str, int, Standing]]
"""Where an example stands to its id, its turn and how it stands there."""


def _changed(pair: Pair, old: _Known, new: _Known) -> ChangedExample:
    before = None if pair.before is None else old[pair.before]
    after = None if pair.after is None else new[pair.after]
    identity = before or after
    assert identity is not None
    return ChangedExample(*identity[:2], before[2] if before else None, after[2] if after else None)


def _standings(side: Side, spots: Iterable[Spot | None]) -> dict[Spot, tuple[str, int, Standing]]:
    assert side.manifest is not None
    wanted: dict[tuple[str, int], list[Spot]] = {}
    for spot in spots:
        if spot is not None:
            wanted.setdefault((spot.dataset, spot.shard), []).append(spot)
    decoder = SpanDecoder(side.path / TOKENIZER) if wanted else None
    found = {}
    for (dataset, number), held in wanted.items():
        assert decoder is not None
        prefix = side.manifest.datasets[dataset].shards[number].prefix
        records, faults = read_records(records_path(side.path / prefix))
        if records is None:
            raise damage(records_path(side.path / prefix), faults[0])
        shard = Shard.open(side.path / prefix)
        for spot in held:
            (record,) = readable(records.table.slice(spot.example, 1)).to_pylist()
            standing = _standing(shard, prefix, spot, record, records.ids_column, decoder)
            found[spot] = record["id"], record["turn"], standing
    return found


def _standing(
    shard: Shard, prefix: str, spot: Spot, record: Mapping[str, Any], ids_column: str | None, decoder: SpanDecoder
) -> Standing:
    ids, bounds, modes = _tokens(shard, spot.example)
    if ids_column is not None:
        high, low = ids_digests(ids, np.array([0, len(ids)]), column=ids_column)[0].tolist()
        if record[ids_column] != f"{high:016x}{low:016x}":
            held = f"the tokens of example {spot.example} are not those of its record"
            raise damage(tokens_path(shard.prefix), held)
    texts = decoder.texts(ids.tolist(), bounds.tolist())
    parts = zip(role_codes(modes).tolist(), is_trained(modes).tolist(), texts, strict=True)
    return Standing(
        dataset=spot.dataset,
        shard=prefix,
        row=record["row"],
        collection=record["collection"],
        task=record["task"],
        file=record["file"],
        place=record["line"],
        strategy=record["strategy"],
        system_message=record["system_message"],
        teacher=record["teacher"],
        tokens=record["tokens"],
        trained_tokens=record["trained_tokens"],
        segments=tuple(Span(ROLES[role], trained, text) for role, trained, text in parts),
    )


def _tokens(shard: Shard, example: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the tokens of an example, the bounds of its segments in them, and the segments' modes."""
    row = int(shard.segments.example_rows[example])
    held = shard.row(row)
    inside = example - int(shard.segments.row_examples[row])
    first, stop = (int(at) for at in held.segments.example_starts[inside : inside + 2])
    bounds = held.segments.token_starts[first : stop + 1]
    ids = held.tokens[bounds[0] : bounds[-1]]
    return ids, bounds - bounds[0], held.segments.modes[first:stop]
