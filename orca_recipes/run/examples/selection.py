"""Verb `mix`: how often each example of a collection stands in a mixture, decided before anything is paid for.

What is kept of a draw is its prefix in keyed order, so that when a count changes only its length changes. A stage holds
one number for each row: how often it stands, or below 0 why it cannot be drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import draw_keys, splitmix64
from orca_recipes.shards.records import DUPLICATE, EXCLUDED, HELD_OUT, NOT_DRAWN, OTHER_TASK, RESERVED
from orca_recipes.store.arrow_files import write_frame
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

SELECTION = "selection"
TRIED = "tried"
"""The part that holds what `--limit` leaves of the selection."""

ASKED = "asked"
"""The part that holds the selection without its reserve, where it has one."""

UNREAD = -1
"""The number of rows whose id is taken: they are no examples."""
DUPLICATE_ROW, EXCLUDED_ROW, HELD_OUT_ROW, OTHER_TASK_ROW, RESERVED_ROW = -2, -3, -4, -5, -6
REASONS: Mapping[int, str] = {
    DUPLICATE_ROW: DUPLICATE,
    EXCLUDED_ROW: EXCLUDED,
    RESERVED_ROW: RESERVED,
    HELD_OUT_ROW: HELD_OUT,
    OTHER_TASK_ROW: OTHER_TASK,
    0: NOT_DRAWN,
}
"""Why a row does not stand in a mixture, by its number."""

# Odd, so that no two repeats of an example get one id.
_COPY = np.uint64(0xD1B54A32D192ED03)
ORDER = "order"
"""The part of stage `mix` that holds the order of a draw with a reserve."""
SPARE = "in reserve, and not needed"


def keep_selection(folder: StageFolder, selection: np.ndarray, name: str = SELECTION) -> str:
    """Store a selection, int16 [rows], as a part; return its name."""
    writer = PartWriter(folder.path, name)
    data = io.BytesIO()  # numpy writes to a file by itself, and forgets why where a disk refuses it
    np.save(data, selection)
    writer.path(".npy").write_bytes(data.getbuffer())
    writer.keep([".npy"], {})
    return name


def read_selection(mix: StageFolder, name: str = SELECTION) -> np.ndarray:
    """Read a stored selection: int16 over the collection's ids."""
    return np.asarray(np.load(mix.file(f"{name}.npy")))


def asked_of(mix: StageFolder) -> np.ndarray:
    """Read a selection without its reserve, as used by a mixture that is a part of it."""
    return read_selection(mix, ASKED if mix.file(f"{ASKED}.npy").exists() else SELECTION)


def taken_copies(mix: StageFolder) -> np.ndarray:
    """Read the copies of each row that a build makes conversations of, int16 over the collection's ids; under `--limit`
    those left by it."""
    name = TRIED if mix.file(f"{TRIED}.npy").exists() else SELECTION
    return np.asarray(np.maximum(read_selection(mix, name), 0))


def report_of(selection: np.ndarray, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Make the report of a `mix` stage: in + created = out + left out by reason."""
    rows, out = int((selection > 0).sum()), int(np.maximum(selection, 0).sum(dtype=np.int64))
    left = {reason: int((selection == number).sum()) for number, reason in REASONS.items()}
    return {
        "in": int((selection != UNREAD).sum()),
        "created": {"repeat": out - rows} if out > rows else {},
        "out": out,
        "rejected": {},
        "left_out": {reason: number for reason, number in left.items() if number},
        **(facts or {}),
    }


def mixture_keys(*, id_hi: np.ndarray, id_lo: np.ndarray, seed: int) -> np.ndarray:
    """Return uint64 [examples]: what a draw orders examples by, then by id."""
    return draw_keys(id_hi=id_hi, id_lo=id_lo, seed=seed, purpose="mixture")


def repeated(frame: pl.DataFrame, copies: np.ndarray) -> pl.DataFrame:
    """Repeat each row as often as it was drawn; all copies but the first get ids of their own.

    Args:
        frame: with columns id_hi and id_lo. copies: integers [rows], 0 for rows that do not stand.
    """
    import polars as pl

    rows = np.flatnonzero(copies > 0)
    counts = copies[rows].astype(np.int64)
    if not (counts > 1).any():
        return frame.filter(pl.Series(copies > 0))
    places = np.repeat(rows, counts)
    number = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = frame[places]
    return found.with_columns(pl.Series("id_lo", copy_ids(found["id_lo"].to_numpy(), number)))


def copy_ids(id_lo: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Derive the low halves of the ids of repeats, uint64 [rows]; the high half is the example's own.

    So that all repeats of an example share one half, and are told apart by the other.
    Args:
        number: [rows], 0 for the example itself.
    """
    made = splitmix64(id_lo + number.astype(np.uint64) * _COPY)
    return np.where(number == 0, id_lo, made)


def conserved(report: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Return a stage's (created, rejected) counts by reason; rows left out unlisted (undrawn) are rejected."""
    return dict(report.get("created", {})), {**report["rejected"], **report.get("left_out", {})}


def keep_order(mix: StageFolder, order: pl.DataFrame, counts: list[int]) -> str:
    """Store a draw's order beside its selection; return the part's name."""
    writer = PartWriter(mix.path, ORDER)
    write_frame(writer.path(".arrow"), order)
    writer.keep([".arrow"], {"counts": counts})
    return ORDER
