"""Verb `pack`: place examples in rows, and rows in shards.

Packing is indexing: nothing here touches a token, but where an overlong example is cut. The shard of an example is the
low half of its id modulo the number of shards, so that one shard after the other is gathered and packed, and memory
grows with a shard; inside a shard the packer sees examples in keyed order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import draw_keys, splitmix64
from orca_recipes.contract.kinds import Encoder, Packer, Packing
from orca_recipes.run.answers.stale_answers import answers_used
from orca_recipes.run.rows.overlong_policy import CHANGED, Fitted, fit, rejected_of
from orca_recipes.run.rows.units import STORED, TURN, Columns, Unit, only_taken, units_of_dataset
from orca_recipes.run.work.account import count_reasons
from orca_recipes.run.work.bench import Bench
from orca_recipes.run.work.blame import of_kind, unsound
from orca_recipes.run.work.loaded_tokenizer import opened
from orca_recipes.shards.records import ALL_TURNS, TRUNCATED, TURNS_DROPPED
from orca_recipes.store.arrow_files import column_of, write_frame, write_table
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

_ORDER = (*STORED, "unit", "index")
_SUMS = ("out", "truncated", "turns_dropped", "rows", "trained_tokens")


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `pack` of a dataset."""
    bench.progress.begin(f"pack {subject}", total=1, unit="datasets")
    names, report = pack_dataset(
        folder,
        units=units_of_dataset(bench, subject),
        packer=bench.recipe.packing,
        shard_tokens=bench.recipe.output.shard_tokens,
        seed=bench.recipe.seed,
        open_encoder=partial(opened, bench.recipe.tokenizer, bench.student.folder),
        turn_ends={ids[-1] for ids in bench.student.ending.terminators},
    )
    used = answers_used(bench.recipe, bench.plan, bench.store, subject)
    folder.finish(names, {**report, **({"answers": used} if used else {})})
    bench.end(report, "example")


def pack_dataset(
    folder: StageFolder,
    *,
    units: Sequence[Unit],
    packer: Packer,
    shard_tokens: int,
    seed: int,
    open_encoder: Callable[[], Encoder],
    turn_ends: Collection[int],
) -> tuple[list[str], dict[str, Any]]:
    """Store the order of every shard; return the parts' names and the stage's report.

    Args:
        open_encoder: loads what decodes the rest of examples that are cut; called only where some are. turn_ends: as
            for `cut_example`.
    Raises: OverlongExample where the recipe wants that.
    """
    stored = [unit.columns() for unit in units]
    fitted = fit(stored, units, packer, open_encoder, turn_ends)
    held = list(zip(stored, units, fitted, strict=True))
    tokens = sum(_tokens_left(*one) for one in held)
    shards = max(1, -(-tokens // shard_tokens))
    placed = [_shards_of(*one, shards) for one in held]
    rejected = rejected_of(stored, units, fitted)
    names, sums, longest = [], Counter(dict.fromkeys(_SUMS, 0)), 0
    for shard in range(shards):
        examples = _gathered(stored, fitted, placed, shard)
        if len(examples["tokens"]):
            names.append(_pack_shard(folder, shard, examples, packer, seed))
            sums.update(_sums(examples), rows=folder.part(names[-1]).report["rows"])
            longest = max(longest, int(examples["tokens"].max()))
    names.append(_keep_rejected(folder, rejected))
    total = sum(int(only_taken(np.ones_like(columns["tokens"]), unit).sum()) for columns, unit, _ in held)
    report = {"in": total, "rejected": count_reasons(rejected["reason"]), "tokens": tokens, **sums}
    return names, {**report, "longest_example": longest, "shards": shards}


def keyed_order(*, id_hi: np.ndarray, id_lo: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Sort a shard's examples by key, and by id in the rare case of two equal 64-bit keys.

    Args:
        id_hi, id_lo, keys: uint64 [examples].
    Returns: int64 [examples].
    """
    order = np.argsort(keys)
    sorted_keys = keys[order]
    if (sorted_keys[1:] == sorted_keys[:-1]).any():
        order = np.lexsort((id_lo, id_hi, keys))
    return order


def _sums(examples: Columns) -> dict[str, int]:
    return {
        "out": len(examples["tokens"]),
        "truncated": int((examples["flags"] & TRUNCATED > 0).sum()),
        "turns_dropped": int((examples["flags"] & TURNS_DROPPED > 0).sum()),
        "trained_tokens": int(examples["trained_tokens"].sum(dtype=np.int64)),
    }


def _tokens_left(columns: Columns, unit: Unit, fitted: Fitted) -> int:
    changed = np.concatenate([fitted.cut["index"], np.array(list(fitted.lost), dtype=np.int64)])
    over = int(columns["tokens"][changed].sum(dtype=np.int64)) - int(fitted.cut["tokens"].sum(dtype=np.int64))
    return int(only_taken(columns["tokens"], unit).sum(dtype=np.int64)) - over


def _shards_of(columns: Columns, unit: Unit, fitted: Fitted, shards: int) -> np.ndarray:
    """Compute the shard of each example of a unit, `shards` for one that is lost or does not count; in the narrowest
    dtype, because all are held."""
    found = (columns["id_lo"] % np.uint64(shards)).astype(np.min_scalar_type(shards))
    found[list(fitted.lost)] = shards
    if unit.is_taken is not None:
        found[~unit.is_taken] = shards
    return found


def _gathered(stored: Sequence[Columns], fitted: Sequence[Fitted], placed: Sequence[np.ndarray], shard: int) -> Columns:
    """Gather the examples of a shard after cuts, unit by unit; columns unit and index locate the tokens of each."""
    chosen = [np.flatnonzero(shards == shard) for shards in placed]
    pieces = [_piece(*parts) for parts in zip(stored, fitted, chosen, strict=True)]
    if not pieces:
        return {"tokens": np.empty(0, dtype=np.int32)}
    examples = {name: np.concatenate([piece.pop(name) for piece in pieces]) for name in (*STORED, TURN)}
    examples["unit"] = np.repeat(np.arange(len(chosen), dtype=np.int32), [len(rows) for rows in chosen])
    examples["index"] = np.concatenate(chosen).astype(np.int32)
    return examples


def _piece(columns: Columns, fitted: Fitted, rows: np.ndarray) -> Columns:
    """Return some examples of a unit, which rise, as they fit."""
    piece = {name: columns[name][rows] for name in (*STORED, TURN)}
    at = np.searchsorted(rows, fitted.cut["index"])
    here = np.flatnonzero(np.append(rows, -1)[at] == fitted.cut["index"])
    for name in CHANGED:
        piece[name][at[here]] = fitted.cut[name][here]
    return piece


def _pack_shard(folder: StageFolder, shard: int, examples: Columns, packer: Packer, seed: int) -> str:
    import polars as pl
    import pyarrow as pa

    ids = {name: examples[name] for name in ("id_hi", "id_lo")}
    keys = _keys(examples, seed)
    order = keyed_order(**ids, keys=keys)
    # Examples begin at multiples of align in a row: what they take is rounded up before they are placed.
    room = -(-examples["tokens"][order] // packer.align) * packer.align
    packing = _packed(packer, room.astype(np.int32), keys[order])
    order = order[packing.order]
    writer = PartWriter(folder.path, f"shard-{shard:05d}")
    write_table(writer.path(".order.arrow"), pa.table({name: column_of(examples[name][order]) for name in _ORDER}))
    write_frame(writer.path(".rows.arrow"), pl.DataFrame({"start": packing.row_starts.astype(np.int64)}))
    writer.keep([".order.arrow", ".rows.arrow"], {"shard": shard, "rows": len(packing.row_starts) - 1})
    return writer.name


def _packed(packer: Packer, lengths: np.ndarray, keys: np.ndarray) -> Packing:
    """Ask the packer for rows. Raises: PluginError where it loses or repeats an example, or fills a row too far."""
    with of_kind(packer):
        packing = packer.pack(lengths=lengths, keys=keys, row_tokens=packer.row_tokens)
        order, starts = np.asarray(packing.order), np.asarray(packing.row_starts)
        times = np.bincount(order, minlength=len(lengths))
        if len(times) > len(lengths) or (times != 1).any():
            raise unsound(packer, f"does not place each of {len(lengths):,} examples once")
        if starts[0] != 0 or starts[-1] != len(order) or (np.diff(starts) <= 0).any():
            raise unsound(packer, "makes rows that do not follow each other")
        ends = np.append(0, np.cumsum(lengths[order], dtype=np.int64))
        if (np.diff(ends[starts]) > packer.row_tokens).any():
            raise unsound(packer, f"fills a row with more than {packer.row_tokens:,} tokens")
    return packing


def _keys(examples: Columns, seed: int) -> np.ndarray:
    """Draw the keys that order the examples; turns of one conversation share an id, and get keys as far apart as any
    others."""
    keys = draw_keys(id_hi=examples["id_hi"], id_lo=examples["id_lo"], seed=seed, purpose="rows")
    alone = np.flatnonzero(examples[TURN] != ALL_TURNS)
    keys[alone] = splitmix64(keys[alone] + examples[TURN][alone].astype(np.uint64))
    return keys


def _keep_rejected(folder: StageFolder, rejected: pl.DataFrame) -> str:
    writer = PartWriter(folder.path, "rejected")
    write_frame(writer.path(".rejected.arrow"), rejected)
    writer.keep([".rejected.arrow"], {})
    return writer.name
