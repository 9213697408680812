"""Answered examples that are shown before a question, drawn from the same task under the same system message.

The pool of a task is the beginning of its keyed order, of bounded size, so one pass over a collection finds it and any
number of workers can read it. Only examples that the mixture drew are in it: what is held out is never shown. Of equal
questions one is in it, and no example is shown its own question: the answer would stand before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import draw_below, draw_keys, splitmix64
from orca_recipes.contract.frames import shots_type
from orca_recipes.run.examples.read import Batch
from orca_recipes.store.arrow_files import read_frame, write_frame

if TYPE_CHECKING:
    import polars as pl

POOL = 64
"""Answered examples of one task and system message that are drawn from."""

_GROUP = ["task", "system"]
_ASKED = [*_GROUP, "question"]
_ORDER = [*_GROUP, "key", "id_hi", "id_lo"]


def write_pool(path: Path, *, batches: Sequence[Batch], ids: Path, selected: np.ndarray, seed: int) -> None:
    """Find the pool of every task of a collection.

    Args:
        ids, selected: of the whole collection, as for `ConverseTask`.
    """
    import polars as pl

    numbers = read_frame(ids)
    pool = pl.DataFrame()
    for batch in batches:
        of_batch = numbers.slice(batch.start, batch.stop - batch.start)
        rows = read_frame(batch.path).with_columns(of_batch["id_hi"], of_batch["id_lo"])
        found = _answered(rows.filter(pl.Series(selected[batch.start : batch.stop])), seed)
        pool = pl.concat([pool, found]) if pool.width else found
        pool = pool.sort(_ORDER, nulls_last=True).unique(_ASKED, keep="first", maintain_order=True)
        pool = pool.group_by(_GROUP, maintain_order=True).head(POOL)
    write_frame(path, pool)


def with_shots(
    examples: pl.DataFrame, questions: pl.Series, wanted: tuple[int, int], pool: Path | None, *, seed: int
) -> pl.DataFrame:
    """Give examples shots of their own, drawn by key, never of their question; `lacks` says why some cannot have them.

    Args:
        examples: columns of `frames.EXAMPLES`, and message_id, "" where `system` is the row's own.
        questions: String [examples], what each asks: its question, or the last user's turn of its conversation.
        wanted: the fewest and the most (`Strategy.shots`); (0, 0): none. pool: what `write_pool` wrote.
    """
    import polars as pl

    if wanted[1] == 0 or not examples.height:
        return examples.with_columns(lacks=pl.lit(None, dtype=pl.String))
    assert pool is not None, "strategies that show examples have a pool"
    known = read_frame(pool).with_row_index("at")
    places, lengths = _places(examples, questions, known, wanted, seed)
    few = pl.lit(f"its task has fewer than {wanted[0]} other answered examples under the same system message")
    return examples.with_columns(
        _lists(known.select("question", "answer"), places, lengths),
        lacks=pl.when(pl.Series(lengths < wanted[0])).then(few),
    )


def _answered(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Select questions with their trained answer: the row's own, else a drawn reference."""
    import polars as pl

    ids = {name: rows[name].to_numpy() for name in ("id_hi", "id_lo")}
    references = rows["references"].list.drop_nulls()
    counts = references.list.len().fill_null(0).cast(pl.Int64).to_numpy()
    drawn = draw_below(keys=draw_keys(**ids, seed=seed, purpose="reference"), bounds=counts)
    answer = pl.coalesce(pl.col("answer"), pl.lit(references.list.get(pl.Series(drawn), null_on_oob=True)))
    key = pl.Series("key", draw_keys(**ids, seed=seed, purpose="shots"))
    frame = rows.select("task", "system", "question", "id_hi", "id_lo", "messages", answer.alias("answer"), key)
    sound = pl.col("question").is_not_null() & pl.col("messages").is_null() & (pl.col("answer").str.len_bytes() > 0)
    return frame.filter(sound).drop("messages")


def _places(
    examples: pl.DataFrame, questions: pl.Series, pool: pl.DataFrame, wanted: tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the places in the pool of each example's shots, int64 [examples, most], and the number of its shots."""
    import polars as pl

    system = pl.when(pl.col("message_id") == "").then("system").alias("system")
    own = examples.select("task", system, questions.alias("question"), "id_hi", "id_lo")
    groups = pool.group_by(_GROUP).agg(first=pl.col("at").min(), size=pl.len())
    found = own.join(groups, on=_GROUP, how="left", nulls_equal=True, maintain_order="left")
    itself = own.select(_ASKED).join(
        pool.select("at", *_ASKED), on=_ASKED, how="left", nulls_equal=True, maintain_order="left"
    )
    first, size = (found[name].fill_null(0).cast(pl.Int64).to_numpy() for name in ("first", "size"))
    inside = itself["at"].is_not_null().to_numpy()
    self_at = np.where(inside, itself["at"].fill_null(0).cast(pl.Int64).to_numpy() - first, size)
    others = size - inside
    keys = draw_keys(id_hi=own["id_hi"].to_numpy(), id_lo=own["id_lo"].to_numpy(), seed=seed, purpose="drawn shots")
    spread = np.full(len(keys), wanted[1] - wanted[0] + 1, dtype=np.int64)
    lengths = np.minimum(wanted[0] + draw_below(keys=keys, bounds=spread), others)
    chosen = _distinct(keys, others, wanted[1])
    # Steps over the example's own question, where the pool holds it.
    return first[:, None] + chosen + (chosen >= self_at[:, None]), lengths


def _distinct(keys: np.ndarray, sizes: np.ndarray, count: int) -> np.ndarray:
    """Draw numbers below each size, no two of a row alike as long as there are so many: int64 [rows, count]."""
    chosen = np.zeros((len(keys), count), dtype=np.int64)
    for draw in range(count):
        keys = splitmix64(keys)
        number = draw_below(keys=keys, bounds=np.maximum(sizes - draw, 1))
        for earlier in np.sort(chosen[:, :draw], axis=1).T:
            # Stepping over earlier draws, in rising order, gives distinct numbers.
            number = number + (number >= earlier)
        chosen[:, draw] = number
    return chosen


def _lists(pool: pl.DataFrame, places: np.ndarray, lengths: np.ndarray) -> pl.Series:
    import polars as pl
    import pyarrow as pa

    taken = places[np.arange(places.shape[1])[None, :] < lengths[:, None]].astype(np.uint32)
    flat = pool[taken].to_struct("shots").to_arrow()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), type=pa.int64())
    lists: Any = pl.from_arrow(pa.LargeListArray.from_arrays(offsets, flat))
    return pl.Series(lists).cast(shots_type()).alias("shots")
