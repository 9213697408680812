"""The content digest of a Parquet file: equal where tables are equal, whatever wrote them.

Parquet writers stamp their version into a file and choose encodings and row groups as they like, so a build promises
its tables by content: names and types of columns, and of each column the nulls, lengths and values, hashed as streams
that run over all row groups. One pass, in memory of one batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.shards.digests import as_digest, new_hash
from orca_recipes.shards.files import damage
from orca_recipes.shards.text_columns import is_null, numbers, text_bytes, text_lengths

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

# Bounds memory alone: the digest is the same wherever batches end.
_ROWS_A_BATCH = 1 << 16


def content_digest_of_table(path: Path) -> str:
    """Digest of what a Parquet file holds: its columns in order, each by name, type, nulls and values.

    Text is text and bytes are bytes, plain, large, viewed, of one length or dictionary-encoded; integers, floats and
    booleans keep their width.

    Raises: DamagedShard where the file cannot be read or a column is nested.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=False) as file:
            columns = [_Column(path, field) for field in file.schema_arrow]
            for batch in file.iter_batches(batch_size=_ROWS_A_BATCH, use_threads=False):
                for column, values in zip(columns, batch.columns, strict=True):
                    column.add(values)
    except (pa.ArrowException, OSError) as error:
        raise damage(path, f"it cannot be read as Parquet ({_first_line(error)})") from error
    return _joined(columns)


def content_digest_of(table: pa.Table, path: Path) -> str:
    """Digest a table already read whole from a Parquet file, as `content_digest_of_table`.

    Raises: DamagedShard, naming the path, where a column is nested.
    """
    columns = [_Column(path, field) for field in table.schema]
    for column, values in zip(columns, table.columns, strict=True):
        for chunk in values.chunks:
            for start in range(0, len(chunk), _ROWS_A_BATCH):
                column.add(chunk.slice(start, _ROWS_A_BATCH))
    return _joined(columns)


def rows_of_table(path: Path) -> int:
    """Count the rows of a sound Parquet file by its metadata."""
    import pyarrow.parquet as pq

    rows: int = pq.read_metadata(path).num_rows
    return rows


class _Column:
    """Hashes of one column: two streams, so that the bounds of batches leave no trace."""

    def __init__(self, path: Path, field: pa.Field[Any]) -> None:
        self._name = field.name.encode()
        self._type_name, self._type = _normal(path, field)
        self._rows = 0
        self._shape = new_hash()
        self._values = new_hash()

    def add(self, values: pa.Array[Any]) -> None:
        import pyarrow as pa

        normal = values.cast(self._type)
        kept = normal.drop_null() if normal.null_count else normal
        self._rows += len(normal)
        if isinstance(normal, pa.LargeBinaryArray):
            self._shape.update(text_lengths(normal).data)
            self._values.update(text_bytes(kept))
        else:
            self._shape.update(is_null(normal).view(np.uint8).data)
            self._values.update(numbers(kept).data)

    def digest(self) -> bytes:
        head = b"%d:%b %b %d\n" % (len(self._name), self._name, self._type_name.encode(), self._rows)
        return new_hash(head + self._shape.digest() + self._values.digest()).digest()


def _joined(columns: Sequence[_Column]) -> str:
    whole = new_hash(b"table\n")
    for column in columns:
        whole.update(column.digest())
    return as_digest(whole)


def _normal(path: Path, field: pa.Field[Any]) -> tuple[str, pa.DataType]:
    """Return a type's name in the digest, and the type to read its values as."""
    import pyarrow as pa

    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text", pa.large_binary()
    is_fixed = pa.types.is_fixed_size_binary(kind)
    if is_fixed or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return "bytes", pa.large_binary()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return str(kind), kind
    raise damage(path, f'column "{field.name}" has type {field.type}, which tables of a build do not use')


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
