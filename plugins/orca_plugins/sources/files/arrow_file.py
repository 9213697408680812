"""Arrow's own files, as `save_to_disk` writes them: streams of batches, and files with an index at their end.

Both are read from front to end, a batch at a time, so that a row's place is its number in the file.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from orca_plugins.sources.files.checked_rows import Finish
from orca_plugins.sources.files.columns import Wanted, shown_path
from orca_plugins.sources.files.json_rows.strict_json import BadRow
from orca_plugins.sources.files.parquet import columns_of, names_of_schema, python_rows, table_of
from orca_plugins.sources.files.places.byte_stream import BLOCK_BYTES
from orca_plugins.sources.files.places.seekable_files import seekable, sound
from orca_plugins.sources.files.turns.arrow_texts import is_list
from orca_recipes.contract.kinds import Reading, SourceFile
from orca_recipes.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

_FORMAT = "a broken Arrow file"
_BATCH_ROWS = 2048
_MAGIC = b"ARROW1"
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"
"""What follows the last batch. Arrow does without it, but then a stream that was cut off between two batches would lose
rows in silence."""


def column_names(file: SourceFile) -> list[str]:
    """List the columns of a file; fields of structs have dotted names."""
    with _opened(file) as (schema, _):
        return names_of_schema(schema)


def raw_rows(file: SourceFile, *, at_most: int | None = None) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the rows of a file as Python values, no more than `at_most`; a BadRow for one with invalid text."""
    left = at_most
    with _opened(file) as (_, batches):
        for batch in _pieces(file, batches):
            rows = python_rows(batch if left is None else batch.slice(0, left))
            yield from rows
            left = None if left is None else left - len(rows)
            if left == 0:
                return


def read(*, file: SourceFile, wanted: Wanted, finish: Finish) -> Iterator[Reading]:
    """Read a file in batches of about 8 MB.

    Raises: SourceError where the file is broken, or a wanted column missing or of a type that is not ours.
    """
    with _opened(file) as (schema, batches):
        columns = columns_of(shown_path(file.path), schema, wanted)
        place, held, tables = 1, 0, []
        for batch in _pieces(file, batches):
            tables.append(table_of(batch, columns, place, wanted))
            place += batch.num_rows
            held += sum(array.nbytes for array in tables[-1].columns.values())
            if held >= BLOCK_BYTES:
                yield finish.reading(tables)
                held, tables = 0, []
        if tables:
            yield finish.reading(tables)


def _pieces(file: SourceFile, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
    """Yield batches of bounded size, in order; a damaged one is looked through first, since Arrow trusts what it
    reads."""
    while True:
        with sound(file, _FORMAT):
            batch = next(batches, None)
            if batch is not None:
                for column in batch.columns:
                    _require_sound(column)
        if batch is None:
            return
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield batch.slice(start, _BATCH_ROWS)


def _require_sound(array: "pa.Array") -> None:
    """Raise what Arrow says of a damaged array; text that is not UTF-8 is no damage, and rejects its row alone."""
    import pyarrow as pa

    try:
        array.validate(full=True)
    except pa.ArrowInvalid as damage:
        if "UTF8" not in str(damage):
            raise
        # Arrow stops at the first fault that it finds, and looks at an array before its children.
        if pa.types.is_struct(array.type):
            for place in range(array.type.num_fields):
                _require_sound(array.field(place))
        elif isinstance(array, pa.DictionaryArray):
            _require_sound(array.dictionary)
        elif isinstance(array, pa.ExtensionArray):
            _require_sound(array.storage)
        elif is_list(array.type) or isinstance(array, pa.MapArray):
            _require_sound(array.values)


@contextlib.contextmanager
def _opened(file: SourceFile) -> "Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]":
    """Open a file and provide its schema and its batches; refuse a stream that was cut off."""
    import pyarrow as pa

    with contextlib.ExitStack() as stack:
        with sound(file, _FORMAT):
            source = stack.enter_context(seekable(file)) or stack.enter_context(pa.memory_map(str(file.path)))
            has_index = source.read(len(_MAGIC)) == _MAGIC
            source.seek(max(source.size() - len(_STREAM_END), 0))
            is_whole = has_index or source.read() == _STREAM_END
            source.seek(0)
            if not is_whole:
                raise SourceError(f"{shown_path(file.path)}: this Arrow stream ends too early: the file was cut off")
            if has_index:
                indexed = stack.enter_context(pa.ipc.open_file(source))
                found = indexed.schema, map(indexed.get_batch, range(indexed.num_record_batches))
            else:
                stream = stack.enter_context(pa.ipc.open_stream(source))
                found = stream.schema, iter(stream)
        yield found
