"""Comparison of the rows of two tables, column by column and byte by byte, through lists and structs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import splitmix64
from orca_recipes.shards.text_columns import numbers
from orca_recipes.store.arrow_files import indices, one_piece

if TYPE_CHECKING:
    import pyarrow as pa


def same_rows(one: pa.Table, other: pa.Table) -> np.ndarray:
    """Return bool [rows]: where two tables of equal length hold the same; a column that one lacks is null there."""
    names = dict.fromkeys([*one.column_names, *other.column_names])
    same = np.ones(one.num_rows, dtype=bool)
    for name in names:
        same &= _same(_column(one, name), _column(other, name))
    return same


def places_by_id(wanted: pa.Table, there: pa.Table) -> np.ndarray:
    """Return int64 [wanted]: where a row of the same id stands, -1 where none does."""
    (hi, lo), (their_hi, their_lo) = ((_numbers(table, "id_hi"), _numbers(table, "id_lo")) for table in (wanted, there))
    if not len(their_hi):
        return np.full(len(hi), -1)
    # Repeats of an example share one half of their ids.
    mine, theirs = (splitmix64(high) ^ low for high, low in ((hi, lo), (their_hi, their_lo)))
    order = np.argsort(theirs, kind="stable")
    places = order[np.minimum(np.searchsorted(theirs[order], mine), len(order) - 1)]
    return np.where((their_hi[places] == hi) & (their_lo[places] == lo), places, -1)


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    return numbers(one_piece(table[name]))


def _column(table: pa.Table, name: str) -> Any:
    """Return a column in one piece, None if the table lacks it."""
    return one_piece(table[name]) if name in table.column_names else None


def _same(one: Any, other: Any) -> np.ndarray:
    """Compare two arrays of equal length, one of which may be missing, all of it null: bool [rows]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if one is None or other is None:
        held = other if one is None else one
        return np.asarray(held.is_null().to_numpy(zero_copy_only=False))
    if pa.types.is_large_list(one.type) or pa.types.is_list(one.type):
        return _same_lists(one, other)
    if pa.types.is_struct(one.type):
        found = np.asarray(pc.equal(one.is_null(), other.is_null()).to_numpy(zero_copy_only=False))
        names = dict.fromkeys(field.name for array in (one, other) for field in array.type.fields)
        for name in names:
            found &= _same(_field(one, name), _field(other, name))
        return found
    alike = pc.equal(one, other)
    if one.null_count or other.null_count:
        alike = pc.if_else(pc.and_(one.is_null(), other.is_null()), True, alike).fill_null(False)
    return np.asarray(alike.to_numpy(zero_copy_only=False))


def _field(struct: Any, name: str) -> Any:
    import pyarrow.compute as pc

    return pc.struct_field(struct, name) if struct.type.get_field_index(name) >= 0 else None


def _same_lists(one: Any, other: Any) -> np.ndarray:
    """Return bool [rows]: lists are the same where they are as long and their elements are the same."""
    import pyarrow.compute as pc

    lengths = [numbers(pc.list_value_length(lists).fill_null(-1)) for lists in (one, other)]
    same = lengths[0] == lengths[1]
    rows = np.flatnonzero(same)
    if len(rows) < len(same):
        one, other = one.take(indices(rows)), other.take(indices(rows))
    elements = _same(one.flatten(), other.flatten())
    counts = np.maximum(lengths[0][rows], 0)
    wrong = np.repeat(rows, counts)[~elements]
    same[wrong] = False
    return np.asarray(same)
