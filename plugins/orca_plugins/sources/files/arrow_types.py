"""Arrow columns as files store them, brought to three plain types.

Text is large_string, references and options are lists of it, messages are lists of `_files_turns`. Integers become
their digits here, so that a number means the same in every format.
"""

from typing import TYPE_CHECKING

import numpy as np

from orca_plugins.sources.files.chosen_rows import fits_where, plain_where, where_type
from orca_plugins.sources.files.columns import LISTS, Wanted
from orca_plugins.sources.files.turn_columns import is_turn, list_offsets, plain_turns, turns_type

if TYPE_CHECKING:
    import pyarrow as pa


def references_type() -> "pa.DataType":
    """references, options: a list of texts."""
    import pyarrow as pa

    return pa.large_list(pa.large_string())


def column_type(ours: str, wanted: Wanted) -> "pa.DataType | None":
    """The type of a column that is made of values of JSON; None: as Arrow finds it."""
    if ours in wanted.sorts:
        return where_type(wanted.sorts[ours])
    types = {**dict.fromkeys(LISTS, references_type), "messages": turns_type}
    return types[ours]() if ours in types else None


def fits(ours: str, stored: "pa.DataType", wanted: Wanted) -> bool:
    """Whether a column of a stored type can be one of ours."""
    if ours in wanted.sorts:
        return fits_where(wanted.sorts[ours], stored)
    if ours == "messages":
        return _is_null(stored) or (_is_list(stored) and is_turn(stored.value_type))
    if ours in LISTS and _is_list(stored):
        return _is_text(stored.value_type)
    return _is_text(stored)


def plain(ours: str, array: "pa.Array", wanted: Wanted) -> "pa.Array":
    """A column whose type fits, in our plain type; no text is checked here."""
    import pyarrow as pa

    if ours in wanted.sorts:
        return plain_where(wanted.sorts[ours], array)
    if ours == "messages":
        return pa.nulls(len(array), turns_type()) if _is_null(array.type) else _plain_messages(array, wanted)
    if ours not in LISTS:
        return _plain_text(array)
    return _plain_references(array) if _is_list(array.type) else _singles(_plain_text(array))


def _plain_messages(array: "pa.Array", wanted: Wanted) -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    messages = plain_turns(pc.list_flatten(array), wanted)
    return pa.LargeListArray.from_arrays(list_offsets(array), messages, mask=array.is_null())


def _plain_references(array: "pa.Array") -> "pa.Array":
    """No references at all are null, so that the row is the same in a format without lists."""
    import pyarrow as pa
    import pyarrow.compute as pc

    none = pc.equal(pc.fill_null(pc.list_value_length(array), 0), 0)
    return pa.LargeListArray.from_arrays(list_offsets(array), _plain_text(pc.list_flatten(array)), mask=none)


def _plain_text(array: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array if pa.types.is_large_string(array.type) else array.cast(pa.large_string())


def _singles(texts: "pa.Array") -> "pa.Array":
    """Each text as a list of one, null as null."""
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum(texts.is_valid().to_numpy(zero_copy_only=False))])
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), texts.drop_null(), mask=texts.is_null())


def _is_text(stored: "pa.DataType") -> bool:
    import pyarrow.types as types

    if types.is_dictionary(stored):
        return _is_text(stored.value_type)
    if types.is_decimal(stored):
        return bool(stored.scale == 0)
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer, types.is_null)
    return any(is_one(stored) for is_one in texts)


def _is_list(stored: "pa.DataType") -> bool:
    import pyarrow.types as types

    return any(is_one(stored) for is_one in (types.is_list, types.is_large_list, types.is_fixed_size_list))


def _is_null(stored: "pa.DataType") -> bool:
    import pyarrow.types as types

    return bool(types.is_null(stored))
