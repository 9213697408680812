"""Verb `mix`: which examples of a collection a dataset takes, decided before anything is paid for.

What is kept of a draw is its prefix in keyed order, so that when a count changes only its length changes.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from orca_recipes.contract.draws import draw_keys
from orca_recipes.errors import Shortfall
from orca_recipes.recipe.model import Take
from orca_recipes.run.arrow import read_frame
from orca_recipes.run.read import IDS
from orca_recipes.run.store import PartWriter, StageFolder

SELECTION = "selection"


def draw_examples(
    read: StageFolder, mix: StageFolder, *, take: Take, limit: int | None, seed: int, where: str
) -> dict[str, Any]:
    """Store the selection over a collection's ids and report its counts.

    Args:
        where: the dotted path of the take in the recipe, for the complaint.
    Raises: Shortfall where more rows are asked for than there are.
    """
    ids = read_frame(read.path / f"{IDS}.arrow")
    selected = ids["keep"].to_numpy().copy()
    there = int(selected.sum())
    asked = there if take.rows is None else take.rows
    if asked > there:
        raise Shortfall(
            f"{where}: {asked} rows are asked for, and there are {there} ({asked - there} too few); "
            f"ask for at most {there}, take all = true, or add to the collection"
        )
    wanted = asked if limit is None else min(asked, limit)
    if wanted < there:
        selected = _first_in_keyed_order(ids["id_hi"].to_numpy(), ids["id_lo"].to_numpy(), selected, wanted, seed)
    writer = PartWriter(mix.path, SELECTION)
    data = io.BytesIO()  # numpy writes to a file by itself, and forgets why where a disk refuses it
    np.save(data, selected)
    writer.path(".npy").write_bytes(data.getbuffer())
    writer.keep([".npy"], {})
    left = there - wanted
    return {"in": there, "out": wanted, "rejected": {}, "not_drawn": left}


def read_selection(mix: StageFolder) -> np.ndarray:
    """Bool over the collection's ids."""
    return np.asarray(np.load(mix.path / f"{SELECTION}.npy"))


def mixture_keys(*, id_hi: np.ndarray, id_lo: np.ndarray, seed: int) -> np.ndarray:
    """uint64 [examples]: what a draw orders examples by, then by id."""
    return draw_keys(id_hi=id_hi, id_lo=id_lo, seed=seed, purpose="mixture")


def _first_in_keyed_order(hi: np.ndarray, lo: np.ndarray, keep: np.ndarray, count: int, seed: int) -> np.ndarray:
    candidates = np.flatnonzero(keep)
    keys = mixture_keys(id_hi=hi[candidates], id_lo=lo[candidates], seed=seed)
    order = np.lexsort((lo[candidates], hi[candidates], keys))
    selected = np.zeros(len(keep), dtype=bool)
    selected[candidates[order[:count]]] = True
    return selected
