"""Arrow columns as files store them, brought to three plain types.

Text is large_string, references and options are lists of it, messages are lists of `turn_columns`. Integers become
their digits here, so that a number means the same in every format.
"""

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from orca_plugins.sources.files.chosen_rows import fits_where, plain_where, where_type
from orca_plugins.sources.files.columns import LISTS, Wanted, shown
from orca_plugins.sources.files.json_rows.strict_json import BAD_TEXT, CONSTANT, FRACTION, BadRow
from orca_plugins.sources.files.turns.arrow_texts import is_list
from orca_plugins.sources.files.turns.spelt_messages import spelt_column
from orca_plugins.sources.files.turns.tool_values import beside_text, without_nulls
from orca_plugins.sources.files.turns.turn_columns import is_turn, list_offsets, plain_turns, turns_type
from orca_recipes.contract.frames import BESIDE_MESSAGES

if TYPE_CHECKING:
    import pyarrow as pa


def references_type() -> "pa.DataType":
    """Return the type of references and options: a list of texts."""
    import pyarrow as pa

    return pa.large_list(pa.large_string())


def column_type(ours: str, wanted: Wanted) -> "pa.DataType | None":
    """Return the type for a column built from JSON values; None lets Arrow infer it."""
    if ours in wanted.sorts:
        return where_type(wanted.sorts[ours])
    types = {**dict.fromkeys(LISTS, references_type), "messages": turns_type}
    return types[ours]() if ours in types else None


def fits(ours: str, stored: "pa.DataType", wanted: Wanted) -> bool:
    """Tell whether a column of a stored type can be read as one of ours."""
    if ours in wanted.sorts:
        return fits_where(wanted.sorts[ours], stored)
    if ours in BESIDE_MESSAGES:
        return True
    if ours == "messages":
        return _is_null(stored) or (is_list(stored) and is_turn(stored.value_type)) or _is_spelt(stored, wanted)
    if ours == "answer" and is_talk(stored):
        return wanted.takes_completions
    if ours in ("answer", "reference") and _is_fraction(stored):
        return True
    if ours in LISTS and is_list(stored):
        return _is_text(stored.value_type) or (ours == "reference" and _is_fraction(stored.value_type))
    return _is_text(stored)


def plain(ours: str, array: "pa.Array", wanted: Wanted) -> "pa.Array":
    """Convert a column of a fitting type to our plain type, without checking its text."""
    import pyarrow as pa

    if ours in wanted.sorts:
        return plain_where(wanted.sorts[ours], array)
    if ours == "messages":
        if _is_null(array.type):
            return pa.nulls(len(array), turns_type())
        return spelt_column(array, wanted) if _is_spelt(array.type, wanted) else _plain_messages(array, wanted)
    if ours == "answer" and is_talk(array.type):
        return _plain_messages(array, wanted)
    if ours not in LISTS:
        return _plain_text(array)
    return _plain_references(array) if is_list(array.type) else _singles(_plain_text(array))


def beside_texts(ours: str, array: "pa.Array", which: np.ndarray) -> tuple[dict[int, str], dict[int, str]]:
    """Read the values that some rows bring beside messages (`tools` and the like): texts by row, and faults by row.

    Args:
        which: bool [rows].
    """
    texts: dict[int, str] = {}
    faults: dict[int, str] = {}
    known: dict[str, str | None] = {}  # many rows bring the same tools
    for row in np.flatnonzero(which).tolist():
        try:
            value = without_nulls(array[row].as_py())
            text = known.get(value) if isinstance(value, str) else None
            text = text or beside_text(ours, value)
        except BadRow as reason:
            faults[row] = str(reason)
            continue
        except UnicodeDecodeError:
            faults[row] = BAD_TEXT
            continue
        if isinstance(value, str):
            known[value] = text
        if text is not None:
            texts[row] = text
    return texts, faults


def unfit_values(ours: str, array: "pa.Array") -> dict[int, str]:
    """Find values of a column whose type does not fit, with the sentence for each, by position."""
    items = ours in LISTS and is_list(array.type)
    called = _called(array.type.value_type if items else array.type)
    whole = called if called == FRACTION else f"{called} where text should be"
    said = f"{ours}: a list that holds {called}" if items else f"{ours}: {whole}"
    return dict.fromkeys(_rows_with(array, ours, lambda values: values.is_valid()), said)


def no_numbers(ours: str, array: "pa.Array") -> dict[int, str]:
    """Find fractions that are no numbers, or infinite, with the sentence for each, by position."""
    import pyarrow.compute as pc

    items = ours in LISTS and is_list(array.type)
    if not _is_fraction(array.type.value_type if items else array.type):
        return {}
    said = f"{ours}: a list that holds {CONSTANT}" if items else f"{ours}: {CONSTANT}"
    return dict.fromkeys(_rows_with(array, ours, lambda values: pc.invert(pc.is_finite(values))), said)


def _rows_with(array: "pa.Array", ours: str, told: "Callable[[pa.Array], pa.Array]") -> list[int]:
    """Return the rows in whose value, or in one of whose items, something is told."""
    import pyarrow.compute as pc

    if not (ours in LISTS and is_list(array.type)):
        return [int(row) for row in np.flatnonzero(_flags(told(array)))]
    parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    return [int(row) for row in np.unique(parents[_flags(told(pc.list_flatten(array)))])]


def _flags(array: "pa.Array") -> np.ndarray:
    return np.asarray(array.fill_null(False).to_numpy(zero_copy_only=False))


def _called(stored: "pa.DataType") -> str:
    """Return what a sentence calls values of a type that is no text."""
    import pyarrow.types as types

    if types.is_boolean(stored):
        return "a boolean"
    if types.is_struct(stored) or types.is_map(stored):
        return "an object"
    if types.is_floating(stored):
        return FRACTION
    return "a list" if is_list(stored) else f"a value of type {shown(str(stored))}"


def is_talk(stored: "pa.DataType") -> bool:
    """Tell whether a stored type can be a conversation: a list of messages."""
    return is_list(stored) and not _is_null(stored.value_type) and is_turn(stored.value_type)


def _is_spelt(stored: "pa.DataType", wanted: Wanted) -> bool:
    """Tell whether a stored type can be a conversation spelt as text, texts, pairs or items."""
    import pyarrow.types as types

    if wanted.asks_last:
        return True
    if is_list(stored):
        item = stored.value_type
        keys = {field.name for field in item.fields} if types.is_struct(item) else set()
        takes_items = (bool(wanted.items) or wanted.tags is not None) and types.is_struct(item)
        return _is_string(item) or takes_items or (wanted.pairs is not None and set(wanted.pairs) <= keys)
    return _is_string(stored)


def _is_string(stored: "pa.DataType") -> bool:
    import pyarrow.types as types

    return bool(types.is_string(stored) or types.is_large_string(stored) or types.is_string_view(stored))


def _is_fraction(stored: "pa.DataType") -> bool:
    import pyarrow.types as types

    return bool(types.is_floating(stored))


def _plain_messages(array: "pa.Array", wanted: Wanted) -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    messages = plain_turns(pc.list_flatten(array), wanted)
    return pa.LargeListArray.from_arrays(list_offsets(array), messages, mask=array.is_null())


def _plain_references(array: "pa.Array") -> "pa.Array":
    """Convert lists of references to our plain type; an empty list becomes null, as in formats without lists."""
    import pyarrow as pa
    import pyarrow.compute as pc

    none = pc.equal(pc.fill_null(pc.list_value_length(array), 0), 0)
    if odd := no_numbers("reference", array):
        none = pc.or_(none, pa.array(np.isin(np.arange(len(array)), list(odd))))
    return pa.LargeListArray.from_arrays(list_offsets(array), _plain_text(pc.list_flatten(array)), mask=none)


def _plain_text(array: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        return pa.array([_fraction(value, array.type) for value in array.to_pylist()], pa.large_string())
    return array if pa.types.is_large_string(array.type) else array.cast(pa.large_string())


def _fraction(value: float | None, stored: "pa.DataType") -> str | None:
    """Write a fraction as text, the shortest that is the same number of its width; None for what is no number."""
    import pyarrow as pa

    if value is None or not isfinite(value):
        return None
    widths: dict[pa.DataType, type[np.floating]] = {pa.float16(): np.float16, pa.float32(): np.float32}
    return repr(float(str(widths[stored](value)))) if stored in widths else repr(value)


def _singles(texts: "pa.Array") -> "pa.Array":
    """Wrap each text in a list of one; null stays null."""
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


def _is_null(stored: "pa.DataType") -> bool:
    import pyarrow.types as types

    return bool(types.is_null(stored))
