"""Verb `pack`: which examples stand in which rows of which shards.

Packing is indexing: nothing here touches a token, but where an overlong example is cut. The shard of an example is the
low half of its id modulo the number of shards; inside a shard the packer sees examples in keyed order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import draw_keys, id_text
from orca_recipes.contract.kinds import Encoder, Packer
from orca_recipes.errors import OverlongExample
from orca_recipes.run.arrow import one_piece, read_frame, read_table, write_frame
from orca_recipes.run.overlong import Cut, cut_example
from orca_recipes.run.read import count_reasons
from orca_recipes.run.store import PartWriter, StageFolder
from orca_recipes.shards.records import TRUNCATED, TURNS_DROPPED
from orca_recipes.shards.text_columns import numbers

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True)
class Unit:
    """One part of tokenized examples: `<prefix>.bin`, `.idx`, `.records.arrow`."""

    collection: str
    prefix: Path

    @property
    def records(self) -> Path:
        return self.prefix.with_name(self.prefix.name + ".records.arrow")


@dataclass
class _Examples:
    """All examples of a dataset; unit and index say where each one's tokens stand."""

    id_hi: np.ndarray
    id_lo: np.ndarray
    tokens: np.ndarray
    trained_tokens: np.ndarray
    flags: np.ndarray
    unit: np.ndarray
    index: np.ndarray
    text_hi: np.ndarray
    text_lo: np.ndarray

    def take(self, chosen: np.ndarray) -> _Examples:
        return _Examples(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def units_of(folders: Sequence[tuple[str, StageFolder]]) -> list[Unit]:
    """The tokenized parts of a dataset: (collection, its finished `tokenize` stage)."""
    return [
        Unit(collection, part.file(""))
        for collection, folder in folders
        for part in folder.parts()
        if "tokens" in part.report  # the others tell where rows went
    ]


def places_of(order: pa.Table, examples: Sequence[int]) -> np.ndarray:
    """int64 [examples of the shard]: where each stands, counted over units that hold so many examples."""
    firsts = np.cumsum([0, *examples])
    return np.asarray(firsts[numbers(one_piece(order["unit"]))] + numbers(one_piece(order["index"])))


def pack_dataset(
    folder: StageFolder,
    *,
    units: Sequence[Unit],
    packer: Packer,
    shard_tokens: int,
    seed: int,
    open_encoder: Callable[[], Encoder],
) -> tuple[list[str], dict[str, Any]]:
    """Store the order of every shard; return the parts' names and the stage's report.

    Args:
        open_encoder: loads what decodes the rest of examples that are cut; called only where some are.
    Raises: OverlongExample where the recipe wants that.
    """
    examples = _load(units)
    total = len(examples.tokens)
    examples, rejected = _fit(examples, units, packer, open_encoder)
    tokens = int(examples.tokens.sum())
    shards = max(1, -(-tokens // shard_tokens))
    keys = draw_keys(id_hi=examples.id_hi, id_lo=examples.id_lo, seed=seed, purpose="rows")
    order, bounds = by_shard(id_hi=examples.id_hi, id_lo=examples.id_lo, keys=keys, shards=shards)
    names = []
    for shard in range(shards):
        chosen = order[bounds[shard] : bounds[shard + 1]]
        if len(chosen):
            names.append(_pack_shard(folder, shard, examples.take(chosen), keys[chosen], packer))
    rows = sum(folder.part(name).report["rows"] for name in names)
    names.append(_keep_rejected(folder, rejected))
    return names, {
        "in": total,
        "out": len(examples.tokens),
        "rejected": count_reasons(rejected["reason"]),
        "truncated": int((examples.flags & TRUNCATED > 0).sum()),
        "turns_dropped": int((examples.flags & TURNS_DROPPED > 0).sum()),
        "rows": rows,
        "tokens": tokens,
        "trained_tokens": int(examples.trained_tokens.sum()),
        "longest_example": int(examples.tokens.max(initial=0)),
        "shards": shards,
    }


def by_shard(*, id_hi: np.ndarray, id_lo: np.ndarray, keys: np.ndarray, shards: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of all examples, by shard and then by key, and where each shard begins in it.

    Args:
        id_hi, id_lo, keys: uint64 [examples].
    Returns: int64 [examples] and int64 [shards + 1].
    """
    shard = (id_lo % np.uint64(shards)).astype(np.min_scalar_type(shards))
    order = np.argsort(keys)
    sorted_keys = keys[order]
    if (sorted_keys[1:] == sorted_keys[:-1]).any():  # ids decide, as rarely as two keys of 64 bits are equal
        order = np.lexsort((id_lo, id_hi, keys))
    order = order[np.argsort(shard[order], kind="stable")] if shards > 1 else order
    return order, np.searchsorted(shard[order], np.arange(shards + 1))


def _load(units: Sequence[Unit]) -> _Examples:
    import pyarrow as pa

    if not units:
        return _Examples(*(np.empty(0, dtype=np.uint64) for _ in _Examples.__dataclass_fields__))
    tables = [read_table(unit.records) for unit in units]
    counts = [table.num_rows for table in tables]
    names = ["id_hi", "id_lo", "tokens", "trained_tokens", "flags", "text_hi", "text_lo"]
    joined = pa.concat_tables([table.select(names) for table in tables])
    return _Examples(
        **{name: numbers(one_piece(joined[name])).copy() for name in names},
        unit=np.repeat(np.arange(len(units), dtype=np.int32), counts),
        index=np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
    )


def _fit(
    examples: _Examples, units: Sequence[Unit], packer: Packer, open_encoder: Callable[[], Encoder]
) -> tuple[_Examples, pl.DataFrame]:
    """Cut or reject what is longer than a row."""
    over = np.flatnonzero(examples.tokens > packer.row_tokens)
    reasons: dict[int, str] = {}
    encoder = open_encoder() if len(over) and packer.overlong in ("drop_turns", "truncate") else None
    for position in over.tolist():
        unit, index = units[examples.unit[position]], int(examples.index[position])
        if packer.overlong == "error":
            raise OverlongExample(_complaint(examples, position, unit, packer.row_tokens))
        cut: Cut | str = "longer than a row"
        if encoder is not None:
            cut = cut_example(unit.prefix, index, packer=packer, flags=int(examples.flags[position]), encoder=encoder)
        if isinstance(cut, str):
            reasons[position] = cut
        else:
            for name in ("tokens", "trained_tokens", "flags", "text_hi", "text_lo"):
                getattr(examples, name)[position] = getattr(cut, name)
    rejected = _rejected(examples, units, reasons)
    if reasons:
        keep = np.ones(len(examples.tokens), dtype=bool)
        keep[list(reasons)] = False
        examples = examples.take(keep)
    return examples, rejected


def _pack_shard(folder: StageFolder, shard: int, examples: _Examples, keys: np.ndarray, packer: Packer) -> str:
    import polars as pl

    room = -(-examples.tokens // packer.align) * packer.align
    packing = packer.pack(lengths=room.astype(np.int32), keys=keys, row_tokens=packer.row_tokens)
    writer = PartWriter(folder.path, f"shard-{shard:05d}")
    ordered = examples.take(packing.order)
    write_frame(
        writer.path(".order.arrow"), pl.DataFrame({n: getattr(ordered, n) for n in ordered.__dataclass_fields__})
    )
    write_frame(writer.path(".rows.arrow"), pl.DataFrame({"start": packing.row_starts.astype(np.int64)}))
    writer.keep([".order.arrow", ".rows.arrow"], {"shard": shard, "rows": len(packing.row_starts) - 1})
    return writer.name


def _rejected(examples: _Examples, units: Sequence[Unit], reasons: dict[int, str]) -> pl.DataFrame:
    import polars as pl

    rows = [_place(units[examples.unit[position]], int(examples.index[position])) for position in reasons]
    chosen = list(reasons)
    return pl.DataFrame(
        {
            "id_hi": examples.id_hi[chosen],
            "id_lo": examples.id_lo[chosen],
            "file": pl.Series([file for file, _ in rows], dtype=pl.String),
            "place": pl.Series([place for _, place in rows], dtype=pl.Int64),
            "reason": pl.Series(list(reasons.values()), dtype=pl.String),
            "stage": pl.Series(["pack"] * len(rows), dtype=pl.String),
            "collection": pl.Series(
                [units[examples.unit[position]].collection for position in chosen], dtype=pl.String
            ),
        }
    )


def _keep_rejected(folder: StageFolder, rejected: pl.DataFrame) -> str:
    writer = PartWriter(folder.path, "rejected")
    write_frame(writer.path(".rejected.arrow"), rejected)
    writer.keep([".rejected.arrow"], {})
    return writer.name


def _place(unit: Unit, index: int) -> tuple[str | None, int]:
    row = read_frame(unit.records, columns=["file", "place"]).row(index)
    return row[0], int(row[1])


def _complaint(examples: _Examples, position: int, unit: Unit, row_tokens: int) -> str:
    file, place = _place(unit, int(examples.index[position]))
    name = id_text(int(examples.id_hi[position]), int(examples.id_lo[position]))
    return (
        f"packing: example {name} ({unit.collection}, {file}:{place}) has {examples.tokens[position]} tokens and a row "
        f'holds {row_tokens}; raise row_tokens, or set overlong = "drop", "drop_turns" or "truncate"'
    )
