"""The rows of a file as values of JSON, one by one: for what looks at rows and not at columns (trees, first rows).

A typed file's numbers come as JSON's do (`strict_json`), so that a row is the same value whatever file it lies in.
"""

import csv
import gzip
import itertools
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from orca_plugins.sources.files import arrow_file, parquet
from orca_plugins.sources.files.json_rows import json_array, jsonl
from orca_plugins.sources.files.json_rows.jsonl_pyarrow import objects_in
from orca_plugins.sources.files.json_rows.strict_json import BadRow, as_json
from orca_plugins.sources.files.places.byte_stream import HEAD_BYTES, head_lines, said_of
from orca_plugins.sources.files.places.formats import Format, compression_of
from orca_plugins.sources.files.turns.tool_values import without_nulls
from orca_recipes.contract.kinds import SourceFile
from orca_recipes.errors import SourceError

HEAD_ROWS = 20
"""First rows that a layout is told by."""


def raw_rows(file: SourceFile, layout: Format, *, rows: str | None = None) -> Iterator[tuple[int, Any]]:
    """Place and value of each row; a BadRow in the place of one that cannot be read.

    Raises: SourceError.
    """
    match layout:
        case "jsonl":
            yield from jsonl.raw_rows(file)
        case "json":
            yield from json_array.raw_rows(file, rows)
        case "parquet" | "arrow":
            for place, row in enumerate((arrow_file if layout == "arrow" else parquet).raw_rows(file), 1):
                yield place, as_json(without_nulls(row))
        case _:
            raise SourceError(f"{file.name}: rows of {layout} are no trees")


def first_rows(
    file: SourceFile,
    layout: Format,
    *,
    rows: str | None = None,
    delimiter: str = ",",
    quote: str = '"',
    header: bool = True,
) -> list[dict[str, Any]]:
    """Read the first rows of a file, objects only; without a header the columns of CSV are their numbers, from 1."""
    match layout:
        case "jsonl":
            return list(objects_in(line for line in _head(file)[:HEAD_ROWS] if line.strip()))
        case "json":
            return json_array.first_rows(file, HEAD_ROWS, rows)
        case "parquet" | "arrow":
            found_rows = (arrow_file if layout == "arrow" else parquet).raw_rows(file, at_most=HEAD_ROWS)
            return [as_json(row) for row in found_rows if not isinstance(row, BadRow)]
    # As utf-8-sig, for what Excel writes before the first name.
    lines = b"\n".join(_head(file)).decode("utf-8-sig", errors="replace").split("\n")
    reader = csv.reader(lines, delimiter=delimiter, **({"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}))
    found: list[list[str]] = []
    with suppress(csv.Error):
        found += itertools.islice((fields for fields in reader if fields), HEAD_ROWS + header)
    if header:
        # A table that pandas wrote has an index, in a column without a name.
        return [{name: field for name, field in zip(found[0], row, strict=False) if name} for row in found[1:]]
    return [{str(number): field for number, field in enumerate(fields, start=1)} for fields in found]


def _head(file: SourceFile) -> list[bytes]:
    """Read the first lines of a file; gzip by the standard library, because the reader of whole files takes long to
    import."""
    if compression_of(file.path.name) != "gzip":
        return head_lines(file.path)
    with said_of(file.path), suppress(EOFError, zlib.error), gzip.open(file.path) as stream:
        return stream.read(HEAD_BYTES).split(b"\n")
    return []
