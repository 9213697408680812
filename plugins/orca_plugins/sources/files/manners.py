"""How each file of a source is read: the format of what it holds, its first rows, and the names of its columns."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from orca_plugins.sources.files import arrow_file, csv_tsv, parquet
from orca_plugins.sources.files.columns import shown_path
from orca_plugins.sources.files.json_rows import json_array, jsonl
from orca_plugins.sources.files.places.formats import Format, compression_of, format_of
from orca_plugins.sources.files.raw_rows import first_rows, raw_rows
from orca_plugins.sources.files.unused_columns import FILES_LOOKED_AT
from orca_recipes.contract.kinds import SourceFile
from orca_recipes.errors import SourceError

TABLES = ("csv", "tsv")


@dataclass(frozen=True)
class Manner:
    """What a recipe says of how its files are to be read.

    format, header, delimiter, quote, rows: the options of `Files`. row_keys: tells the keys of rows; in a .json file an
    object over several lines that has one of them is a row.
    """

    format: Format | None
    header: bool
    delimiter: str | None
    quote: str | None
    rows: str | None
    row_keys: Callable[[], Collection[str]]

    def named_format(self, file: SourceFile) -> Format:
        """Return the format set by the recipe, or else in the file's name; `find_files` let no file without one
        through."""
        named = self.format or format_of(file.path.name)
        assert named is not None, f"{file.name} came without a format"
        return named

    def layout(self, file: SourceFile) -> Format:
        """Return the format of what a file holds: for a .json file, "json" if it is one list of rows, "jsonl" if it
        holds lines.

        Raises: SourceError.
        """
        named = self.named_format(file)
        if self.rows is not None and named != "json":
            raise SourceError(
                f"{shown_path(file.path)}: rows = {json.dumps(self.rows)} is for .json files; leave it out"
            )
        if named != "json" or self.rows is not None:
            return named
        return "jsonl" if json_array.holds_lines(file, self.row_keys()) else "json"

    def marks(self, layout: Format) -> dict[str, str]:
        """Return what stands between and around the fields of a table."""
        usual = '"' if layout == "csv" else ""
        quote = usual if self.quote is None else self.quote
        between = "," if layout == "csv" else "\t"
        return {"delimiter": between if self.delimiter is None else self.delimiter, "quote": quote}

    def heads(self, files: Sequence[SourceFile]) -> list[tuple[SourceFile, list[dict[str, Any]]]]:
        """Read the first rows of each of the first files (FILES_LOOKED_AT)."""
        found = []
        for file in files[:FILES_LOOKED_AT]:
            layout = self.layout(file)
            marks = self.marks(layout) if layout in TABLES else {}
            found.append((file, first_rows(file, layout, rows=self.rows, header=self.header, **marks)))
        return found

    def tells_columns(self, file: SourceFile) -> bool:
        """Tell whether a file need not be read whole for the names of its columns, as compressed Parquet and Arrow
        are."""
        return compression_of(file.path.name) is None or self.layout(file) not in ("parquet", "arrow")

    def raw_rows(self, file: SourceFile) -> Iterator[tuple[int, Any]]:
        """Place and value of each row, as `raw_rows.raw_rows` gives them."""
        return raw_rows(file, self.layout(file), rows=self.rows)

    def column_names(self, file: SourceFile) -> list[str]:
        """List the columns of a file, of JSON those in its first rows."""
        layout = self.layout(file)
        if layout in TABLES:
            return csv_tsv.column_names(file, **self.marks(layout)) if self.header else []
        if layout == "json":
            return json_array.column_names(file, self.rows)
        if layout == "jsonl":
            return jsonl.column_names(file)
        return arrow_file.column_names(file) if layout == "arrow" else parquet.column_names(file)
