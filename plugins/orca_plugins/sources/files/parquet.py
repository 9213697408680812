"""Parquet: only the columns that are wanted, in batches of bounded size.

What a column is can be known for the whole file, so a wrong type is one sentence about the file and not a rejection of
every row. A compressed file is unpacked beside the system's temporary files first, since Parquet is read from its end.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_plugins.sources.files.arrow_types import beside_texts, fits, no_numbers, plain, unfit_values
from orca_plugins.sources.files.checked_rows import Finish, Table
from orca_plugins.sources.files.columns import (
    LISTS,
    Wanted,
    columns_in_file,
    routes,
    shown,
    shown_path,
    whole_column,
)
from orca_plugins.sources.files.json_rows.strict_json import BadRow
from orca_plugins.sources.files.made_columns import with_completions
from orca_plugins.sources.files.places.byte_stream import BLOCK_BYTES, whole_file
from orca_plugins.sources.files.places.formats import compression_of
from orca_plugins.sources.files.places.seekable_files import seekable, sound
from orca_plugins.sources.files.turns.arrow_texts import is_list, values_or_faults
from orca_plugins.sources.files.turns.message_keys import carried_of, given_twice, holders, lost_of_row, watched
from orca_plugins.sources.files.turns.turn_columns import holding, is_answered, list_offsets
from orca_recipes.contract.conditions import told
from orca_recipes.contract.frames import BESIDE_MESSAGES
from orca_recipes.contract.kinds import Reading, Slice, SourceFile
from orca_recipes.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Route = tuple[str, ...]

_FORMAT = "broken Parquet"
_BATCH_ROWS = 2048
_BATCH_BYTES = 64 << 20
"""Of a batch's rows, about: pictures beside a question, which only reject it, may hold megabytes each."""

# Without a buffer pyarrow reads a whole column of a row group at once, which may be larger than memory.
_BUFFER_BYTES = 1 << 20
_WANTS = {"messages": "a list of {role, content}", **dict.fromkeys(LISTS, "text, or a list of texts")}


def slices(file: SourceFile, *, slice_bytes: int) -> list[Slice]:
    """Group row groups of about slice_bytes; start and stop count the bytes of all row groups, uncompressed."""
    if compression_of(file.path.name):
        return [whole_file(file)]
    with _opened(file) as parquet:
        rows = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
        bounds = _bounds(parquet)
    cuts, place = [(0, 1)], 1
    for bound, count in zip(bounds, rows, strict=False):
        if bound - cuts[-1][0] >= slice_bytes:
            cuts.append((bound, place))
        place += count
    stops = [start for start, _ in cuts[1:]] + [bounds[-1]]
    return [Slice(file, start, stop, first) for (start, first), stop in zip(cuts, stops, strict=True)]


def count_rows(file: SourceFile) -> int | None:
    """Return the row count in the file's metadata; None for a compressed file, which would have to be unpacked."""
    if compression_of(file.path.name):
        return None
    with _opened(file) as parquet:
        return int(parquet.metadata.num_rows)


def column_names(file: SourceFile) -> list[str]:
    """List the columns of a file; fields of structs have dotted names."""
    with _opened(file) as parquet:
        return names_of_schema(parquet.schema_arrow)


def raw_rows(file: SourceFile, *, at_most: int | None = None) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the rows of a file as Python values, no more than `at_most`; a BadRow for one with invalid text."""
    left = at_most
    with _opened(file) as parquet:
        batches = parquet.iter_batches(batch_size=_BATCH_ROWS if left is None else left, use_threads=False)
        while left is None or left > 0:
            with sound(file, _FORMAT):
                batch = next(batches, None)
            if batch is None:
                return
            rows = python_rows(batch if left is None else batch.slice(0, left))
            left = None if left is None else left - len(rows)
            yield from rows


def python_rows(batch: "pa.RecordBatch") -> list[Any]:
    """Convert rows to Python values; a row with invalid text to a BadRow."""
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        return values_or_faults(batch.to_struct_array())


def read(slice: Slice, *, file: SourceFile, wanted: Wanted, finish: Finish) -> Iterator[Reading]:
    """Read a slice.

    Raises: SourceError where the file is broken, or a wanted column missing or of a type that is not ours.
    """
    with _opened(file) as parquet:
        with sound(file, _FORMAT):
            columns = columns_of(shown_path(file.path), parquet.schema_arrow, wanted)
        whole = compression_of(file.path.name) is not None
        bounds = enumerate(_bounds(parquet)[:-1])
        groups = [group for group, bound in bounds if whole or slice.start <= bound < slice.stop]
        place, held, tables = slice.first_place, 0, []
        for batch in _batches(file, parquet, groups, wanted):
            tables.append(table_of(batch, columns, place, wanted))
            place += batch.num_rows
            held += sum(array.nbytes for array in tables[-1].columns.values())
            if held >= BLOCK_BYTES:
                yield finish.reading(tables)
                held, tables = 0, []
        if tables:
            yield finish.reading(tables)


class UnfitType(SourceError):
    """A wanted column has a type that does not fit."""


def columns_of(where: str, schema: "pa.Schema", wanted: Wanted) -> dict[str, list[Route]]:
    """Map ours to the routes on which rows of this schema have their column.

    A column that nobody named and that conversations do without may have a type that does not fit (`table_of`).

    Raises: SourceError where a column is missing; UnfitType where its type does not fit.
    """
    indexed = [path for path in wanted.paths.values() if _root(path) != path and _has(schema, routes(path)[-1])]
    found = columns_in_file(file=where, wanted=wanted, names=[*names_of_schema(schema), *indexed])
    columns = {}
    for ours, theirs in found.items():
        stored = {route: kind for route in routes(theirs) if (kind := _type(where, schema, route)) is not None}
        misfits = [kind for kind in stored.values() if not fits(ours, kind, wanted)]
        if misfits and not ("messages" in found and wanted.is_spare(ours)):
            wants = told(wanted.sorts[ours]) if ours in wanted.sorts else _WANTS.get(ours, "text")
            purpose = "where" if ours in wanted.sorts else whole_column(ours)
            raise UnfitType(
                f'{where}: column "{shown(theirs)}" has type {shown(str(misfits[0]))}; {purpose} wants {wants}'
            )
        columns[ours] = list(stored)
    return columns


def table_of(batch: "pa.RecordBatch", columns: dict[str, list[Route]], place: int, wanted: Wanted) -> Table:
    """Convert a batch of a file to a table; place is that of its first row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    arrays: dict[str, pa.Array] = {}
    unfit: dict[str, dict[int, str]] = {}
    for ours, found in columns.items():
        if ours in BESIDE_MESSAGES:
            continue
        stored = [_at(batch, route) for route in found]
        if not all(fits(ours, array.type, wanted) for array in stored):
            unfit[ours] = {row: why for array in stored for row, why in unfit_values(ours, array).items()}
            continue
        choices = [plain(ours, array, wanted) for array in stored]
        arrays[ours] = pc.coalesce(*choices) if len(choices) > 1 else choices[0]
        if ours in ("answer", "reference"):
            odd = {row: why for array in stored for row, why in no_numbers(ours, array).items()}
            unfit[ours] = {row: why for row, why in odd.items() if not arrays[ours][row].is_valid}
    places = np.arange(place, place + batch.num_rows, dtype=np.int64)
    answered = is_answered(arrays["messages"]) if "messages" in arrays else np.zeros(batch.num_rows, bool)
    arrays = with_completions(arrays, wanted)
    messages = arrays.get("messages")
    brought = np.zeros(batch.num_rows, bool) if messages is None else ~np.asarray(messages.is_null())
    beside, misread = _beside(batch, columns, brought, wanted)
    for ours, faults in unfit.items():
        misread |= {row: why for row, why in faults.items() if not (wanted.is_spare(ours) and answered[row])}
    return Table(places, {**arrays, **beside}, [], faults=misread | _lost(batch, brought, wanted))


def _beside(
    batch: "pa.RecordBatch", columns: dict[str, list[Route]], brought: np.ndarray, wanted: Wanted
) -> "tuple[dict[str, pa.Array], dict[int, str]]":
    """Read what rows bring beside messages: the columns that any row fills, and the faults by row."""
    import pyarrow as pa

    routes = {ours: found for ours, found in columns.items() if ours in BESIDE_MESSAGES}
    for ours, names in carried_of(wanted).items():
        all_routes = [(*holder, name) for holder in holders(wanted) for name in names]
        routes[ours] = [route for route in all_routes if _has(batch.schema, route)]
    arrays: dict[str, pa.Array] = {}
    faults: dict[int, str] = {}
    for ours, found in routes.items():
        texts: dict[int, str] = {}
        for route in found:
            array = _at(batch, route)
            # Variables may be set to empty values.
            filled = holding(array) if ours == "tools" else np.asarray(array.is_valid()) & brought
            read, misread = beside_texts(ours, array, filled)
            twice = {row: given_twice(ours) for row, text in read.items() if texts.get(row, text) != text}
            texts, faults = read | texts, misread | twice | faults
        if texts or ours in wanted.named:
            arrays[ours] = pa.array([texts.get(row) for row in range(batch.num_rows)], pa.large_string())
    return arrays, faults


def _lost(batch: "pa.RecordBatch", brought: np.ndarray, wanted: Wanted) -> dict[int, str]:
    """Find rows with a value in a column they must not have, with the sentence for each."""
    always = watched(wanted, with_messages=False)
    held: dict[str, np.ndarray] = {}
    carried = {name for names in carried_of(wanted).values() for name in names}
    for route in _watched(batch.schema, wanted):
        if route[-1] in carried:
            continue
        found = holding(_at(batch, route))
        held[".".join(route)] = found if route[-1] in always else found & brought
    lost: dict[int, list[str]] = {}
    for name, found in held.items():
        for row in np.flatnonzero(found).tolist():
            lost.setdefault(row, []).append(name)
    return {row: lost_of_row(names, wanted) for row, names in lost.items()}


def _watched(schema: "pa.Schema", wanted: Wanted) -> list[Route]:
    """List the routes to columns of the schema that rows must leave empty."""
    names = watched(wanted, with_messages=True)
    routes = [(*holder, name) for holder in holders(wanted) for name in names]
    return [route for route in routes if _has(schema, route)]


@contextlib.contextmanager
def _opened(file: SourceFile) -> "Iterator[pq.ParquetFile]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    with contextlib.ExitStack() as stack:
        with sound(file, _FORMAT):
            source = stack.enter_context(seekable(file)) or stack.enter_context(pa.OSFile(str(file.path)))
            # pyarrow checks no page's checksum unless it is asked to.
            parquet = pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, page_checksum_verification=True)
        yield parquet


def _bounds(parquet: "pq.ParquetFile") -> list[int]:
    """List the starts of row groups and the end of the last, in bytes; a group of unstated size counts 1, so that
    groups stay apart."""
    sizes = [parquet.metadata.row_group(group).total_byte_size for group in range(parquet.num_row_groups)]
    return [0, *itertools.accumulate(max(size, 1) for size in sizes)]


def _batches(
    file: SourceFile, parquet: "pq.ParquetFile", groups: list[int], wanted: Wanted
) -> "Iterator[pa.RecordBatch]":
    with sound(file, _FORMAT):
        beside = [".".join(route) for route in _watched(parquet.schema_arrow, wanted)]
        names = list(dict.fromkeys([*map(_root, wanted.paths.values()), *beside]))
        rows = _rows_at_once(parquet, groups) if beside else _BATCH_ROWS
    # One thread: speed comes from workers.
    batches = parquet.iter_batches(batch_size=rows, row_groups=groups, columns=names, use_threads=False)
    while groups:
        with sound(file, _FORMAT):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _rows_at_once(parquet: "pq.ParquetFile", groups: list[int]) -> int:
    """Return the rows of a batch of bounded size, by the sizes that row groups state for all their columns.

    Sizes of single columns are not read: in a damaged file pyarrow 26 crashes on them.
    """
    said = [parquet.metadata.row_group(group) for group in groups]
    largest = max((group.total_byte_size // max(group.num_rows, 1) for group in said), default=0)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(largest, 1)))


def _type(where: str, schema: "pa.Schema", route: Route) -> "pa.DataType | None":
    """Return the type at the end of a route, None where the file has no such column."""
    import pyarrow as pa

    kind: pa.DataType = pa.struct(list(schema))
    for key in route:
        if key.isdecimal() and is_list(kind):
            kind = kind.value_type
            continue
        places = kind.get_all_field_indices(key) if pa.types.is_struct(kind) else []
        if len(places) > 1:
            raise SourceError(f'{where}: two columns are called "{shown(key)}"; rename one')
        if not places:
            return None
        kind = kind.field(places[0]).type
    return kind


def _has(schema: "pa.Schema", route: Route) -> bool:
    """Tell whether a schema has a column at the end of a route."""
    import pyarrow as pa

    kind: pa.DataType = pa.struct(list(schema))
    for key in route:
        if key.isdecimal() and is_list(kind):
            kind = kind.value_type
            continue
        places = kind.get_all_field_indices(key) if pa.types.is_struct(kind) else []
        if len(places) != 1:
            return False
        kind = kind.field(places[0]).type
    return True


def names_of_schema(schema: "pa.Schema") -> list[str]:
    """List all columns; fields of structs have dotted names."""
    import pyarrow as pa

    names, inner = [], [(field.name, field.type) for field in schema]
    while inner:
        names += [name for name, _ in inner]
        structs = [(name, kind) for name, kind in inner if pa.types.is_struct(kind)]
        inner = [(f"{name}.{field.name}", field.type) for name, kind in structs for field in kind.fields]
    return names


def _at(batch: "pa.RecordBatch", route: Route) -> "pa.Array":
    import pyarrow.compute as pc

    array = batch.column(batch.schema.get_field_index(route[0]))
    for key in route[1:]:
        array = _item(array, int(key)) if is_list(array.type) else pc.struct_field(array, key)
    return array


def _item(lists: "pa.Array", place: int) -> "pa.Array":
    """Take the item at a place of each list; null where a list is shorter."""
    import pyarrow as pa

    starts = list_offsets(lists).to_numpy()
    there = starts[1:] - starts[:-1] > place
    return lists.flatten().take(pa.array(starts[:-1] + place, mask=~there))


def _root(path: str) -> str:
    """Return the column of a path, cut before its first index into a list."""
    keys = path.split(".")
    at = next((place for place, key in enumerate(keys) if place and key.isdecimal()), len(keys))
    return ".".join(keys[:at])
