"""Columns of Arrow that hold text, whatever type stores it, brought to large_string."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_plugins.sources.files.json_rows.strict_json import BAD_TEXT, BadRow

if TYPE_CHECKING:
    import pyarrow as pa


def texts_at(count: int, found: Mapping[int, str]) -> "pa.Array":
    """Build a column of texts by position, null elsewhere: large_string [count]."""
    import pyarrow as pa

    if not found:
        return pa.nulls(count, pa.large_string())
    # Many positions share few texts: each is stored once and gathered.
    texts = list(dict.fromkeys(found.values()))
    number = {text: place for place, text in enumerate(texts)}
    places = np.full(count, -1)
    places[list(found)] = [number[text] for text in found.values()]
    return pa.array(texts, pa.large_string()).take(pa.array(places, mask=places < 0))


def values_or_faults(array: "pa.Array") -> list[Any]:
    """Return Python values, a BadRow in place of each with text that is not UTF-8, which files may hold as text."""
    try:
        return list(array.to_pylist())
    except UnicodeDecodeError:
        return [_value_or_fault(array, row) for row in range(len(array))]


def _value_or_fault(array: "pa.Array", row: int) -> Any:
    try:
        return array[row].as_py()
    except UnicodeDecodeError:
        return BadRow(BAD_TEXT)


def first_text(arrays: "Sequence[pa.Array]", count: int) -> "pa.Array":
    """Take the first text that is there, at no cost for columns of nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # coalesce copies whole columns, and nearly all of these hold nothing.
    filled = [array for array in arrays if array.null_count < count]
    if not filled:
        return pa.nulls(count, pa.large_string())
    return pc.coalesce(*filled) if len(filled) > 1 else filled[0]


def plain_text(array: "pa.Array") -> "pa.Array":
    """Convert a column of text to large_string."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array if pa.types.is_large_string(array.type) else array.cast(pa.large_string())


def is_text(stored: "pa.DataType") -> bool:
    """Tell whether a stored type is one of Arrow's text types, or null, which any column without values has."""
    import pyarrow.types as types

    if types.is_dictionary(stored):
        return is_text(stored.value_type)
    return any(
        is_one(stored) for is_one in (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    )


def is_list(stored: "pa.DataType") -> bool:
    """Tell whether a stored type is one of Arrow's list types (list, large list, fixed-size list)."""
    import pyarrow.types as types

    return any(is_one(stored) for is_one in (types.is_list, types.is_large_list, types.is_fixed_size_list))
