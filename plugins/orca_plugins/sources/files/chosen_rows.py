"""The choice of rows by `where`: conditions on columns, of whatever type a file stores them as.

A column read only to choose rows is converted to texts, 64-bit floats or flags, compared, and dropped. A value of
another sort than it is compared with is a fault of its row, or of the file where that declares types; such a row is
never left out in silence.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_plugins.sources.files.columns import Wanted, shown, where_column, where_name
from orca_plugins.sources.files.json_rows.strict_json import BadRow, Digits, Unlike
from orca_recipes.contract.conditions import Sort, holding, told, unfit_pattern
from orca_recipes.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

LEFT_OUT = "where: it does not hold"
_FLAGS = {"true": True, "false": False}


def where_type(sort: Sort) -> "pa.DataType":
    """Return the type in which `where` compares a column; one that must only be there is a flag of whether it is."""
    import pyarrow as pa

    return {"text": pa.large_string(), "number": pa.float64()}.get(sort, pa.bool_())


def fits_where(sort: Sort, stored: "pa.DataType") -> bool:
    """Tell whether a column of a stored type can be compared as this sort."""
    import pyarrow.types as types

    if sort == "any" or types.is_null(stored):
        return True
    if types.is_dictionary(stored):
        return fits_where(sort, stored.value_type)
    if sort == "text":
        return bool(types.is_string(stored) or types.is_large_string(stored) or types.is_string_view(stored))
    if sort == "number":
        return bool(types.is_integer(stored) or types.is_floating(stored) or types.is_decimal(stored))
    return bool(types.is_boolean(stored))


def plain_where(sort: Sort, array: "pa.Array") -> "pa.Array":
    """Convert a column of a fitting type to the type it is compared in."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if sort == "any":
        return pc.if_else(array.is_valid(), True, pa.scalar(None, pa.bool_()))
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_float32(array.type):
        array = array.cast(pa.string())  # so that 0.9 is 0.9, as it is in a file of text
    return pc.cast(array, where_type(sort), safe=False)


def where_value(theirs: str, sort: Sort, value: Any) -> Any:
    """Convert a JSON value to the form it is compared in; null stays None.

    Raises: BadRow for one of another sort.
    """
    if value is None:
        return None
    if sort == "any":
        return True
    if sort == "text" and isinstance(value, str) and not isinstance(value, Digits):
        return value
    if sort == "flag" and isinstance(value, bool):
        return value
    if sort == "number" and (isinstance(value, Digits) or (isinstance(value, Unlike) and value.is_number)):
        return float(value if isinstance(value, Digits) else value.spelling)
    raise BadRow(_unlike(theirs, sort))


def fields_compared(ours: str, values: list[str], wanted: Wanted, faults: dict[int, str]) -> "pa.Array":
    """Convert fields of text to what is compared; an empty one is nothing.

    Args:
        faults: to which those of other sorts are added.
    """
    import pyarrow as pa

    sort = wanted.sorts[ours]
    made: list[Any] = []
    for row, text in enumerate(values):
        try:
            made.append(_of_field(text, sort) if text else None)
        except (ValueError, KeyError):
            faults.setdefault(row, _unlike(wanted.paths[ours], sort))
            made.append(None)
    return pa.array(made, where_type(sort))


def odd_numbers(columns: "Mapping[str, pa.Array]", wanted: Wanted) -> dict[int, str]:
    """Find rows that are compared by a number that is none, or infinite, with the sentence for each."""
    import pyarrow.compute as pc

    found: dict[int, str] = {}
    for ours, sort in wanted.sorts.items():
        if sort == "number" and ours in columns:
            odd = pc.invert(pc.is_finite(columns[ours])).fill_null(False).to_numpy(zero_copy_only=False)
            found |= dict.fromkeys(np.flatnonzero(odd).tolist(), _unlike(wanted.paths[ours], sort))
    return found


def by_messages(wanted: Wanted) -> bool:
    """Tell whether `where` looks at the messages of rows."""
    return "messages" in _compared(wanted).values()


def chosen_rows(
    columns: "Mapping[str, pa.Array]", wanted: Wanted, faults: Mapping[int, str], *, rows: int
) -> tuple[np.ndarray, int]:
    """Choose rows by `where`: bool [rows] of those kept, and the number left out.

    Args:
        columns: ours; messages as in `turns_type`. faults: rows that cannot be compared; they are kept here, because
            nobody can know whether they would be chosen.
    """
    kept = np.ones(rows, bool)
    if wanted.where is None or not rows:
        return kept, 0
    import polars as pl

    if sentence := unfit_pattern(wanted.where):
        raise SourceError(sentence)
    sound = kept.copy()
    sound[list(faults)] = False
    compared = {name: columns[ours] for name, ours in _compared(wanted).items() if ours in columns}
    found = {name: _only(array, sound) for name, array in compared.items()}
    frame = pl.DataFrame({name: pl.from_arrow(array) for name, array in found.items()})
    missing = {name: None for name in _compared(wanted) if name not in found}
    frame = frame.with_columns(pl.lit(None, dtype=_polars_type(wanted, name)).alias(name) for name in missing)
    kept[sound] = holding(wanted.where, frame).to_numpy()
    return kept, int(rows - kept.sum())


def without_choosing(columns: "Mapping[str, pa.Array]") -> "dict[str, pa.Array]":
    """Drop the columns that only choose rows."""
    return {ours: array for ours, array in columns.items() if where_name(ours) is None}


def _compared(wanted: Wanted) -> dict[str, str]:
    """Map each column named in `where`, as the file calls it, to ours."""
    asked = wanted.where.sorts() if wanted.where is not None else {}
    return {name: ours if (ours := where_column(name)) in wanted.sorts else "messages" for name in asked}


def _polars_type(wanted: Wanted, name: str) -> Any:
    import polars as pl

    sort = wanted.sorts.get(where_column(name), "messages")
    turn = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
    return {"text": pl.String, "number": pl.Float64, "messages": turn}.get(sort, pl.Boolean)


def _only(array: "pa.Array", kept: np.ndarray) -> "pa.Array":
    import pyarrow as pa

    return array if kept.all() else array.filter(pa.array(kept))


def _of_field(text: str, sort: Sort) -> Any:
    if sort == "number":
        # Python reads "1_0" as 10, and digits of any script.
        if "_" in text or not text.isascii():
            raise ValueError
        return float(text)
    if sort == "flag":
        return _FLAGS[text.strip().lower()]
    return True if sort == "any" else text


def _unlike(theirs: str, sort: Sort) -> str:
    return f'where: "{shown(theirs)}" is not {told(sort)}, which it is compared with'
