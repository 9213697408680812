"""Rows that lie in files: JSON lines, JSON lists, CSV, TSV and Parquet, plain or compressed.

The same rows give the same examples whatever the format. The formats differ only in how their bytes become columns
(`_files_jsonl`, `_files_array`, `_files_delimited`, `_files_parquet`); what makes a row sound is said once, in
`_files_tables` and `_files_records`.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from orca_plugins.sources.files import csv_tsv as _files_delimited
from orca_plugins.sources.files import json_array as _files_array
from orca_plugins.sources.files import jsonl as _files_jsonl
from orca_plugins.sources.files import parquet as _files_parquet
from orca_plugins.sources.files.byte_stream import whole_file
from orca_plugins.sources.files.checked_rows import Finish
from orca_plugins.sources.files.columns import Wanted, wanted_columns
from orca_plugins.sources.files.found_files import Format, compression_of, find_files, format_of
from orca_plugins.sources.files.options import Columns, Extra, IgnoreKeys, Task, TrainOn, identity_of
from orca_plugins.sources.files.unused_columns import FILES_LOOKED_AT, unused_columns
from orca_recipes.contract.kinds import Place, Reading, Slice, Source, SourceFile
from orca_recipes.contract.where import Where


class Files(Source):
    """Read examples from files; the format is said by their names, the columns by `columns` or by their own names.

        [collections.gsm8k]
        kind = "files"
        path = "data/gsm8k/*.jsonl.gz"
        columns = { question = "question", reference = "answer", task = "meta.task" }

    Rows that cannot be read are rejected with their physical line (text) or row (Parquet, JSON lists). A JSON list is
    read whole into memory; everything else in pieces. Messages may be OpenAI's (role, content) or ShareGPT's (from,
    value; human and gpt), or mix both; a content in parts is read where it is one part of text. `weight`, `train`,
    `trainable`, `loss_mask`, `loss` and `training` of a turn (0 or 1, true or false) decide whether it is trained. A
    row with any other key in a message, or with `tools` or `images` beside, is rejected, unless `ignore_keys` names it.
    """

    kind: Literal["files"] = "files"
    revision: ClassVar[int] = 3
    path: Annotated[
        Place,
        Field(description="a file, a folder (its files of a known format), or a pattern with *, ?, [...] and **"),
    ]
    format: Annotated[
        Format | None,
        Field(description="unset: by the name (.jsonl .ndjson .json .csv .tsv .parquet, each also with .gz or .zst)"),
    ] = None
    header: Annotated[
        bool, Field(description="csv, tsv: the first row names the columns; if false they are called 1, 2, 3 ...")
    ] = True
    quote: Annotated[
        str | None,
        Field(
            description='csv, tsv: what encloses a field; unset: " in csv and nothing in tsv; "" turns quotes into text'
        ),
    ] = None
    columns: Columns = None
    extra: Extra = ()
    task: Task = None
    train_on: TrainOn = None
    ignore_keys: IgnoreKeys = ()
    where: Where = None

    @field_validator("quote")
    @classmethod
    def _one_character(cls, quote: str | None) -> str | None:
        if quote and (len(quote) > 1 or quote == "," or not quote.isprintable()):
            raise PydanticCustomError("quote", "a quote is one printable character other than a comma")
        return quote

    def identity(self) -> dict[str, Any]:
        """As of every kind; unset or "all", the rows that are read are the same."""
        return identity_of(super().identity())

    def trains_history(self) -> bool:
        """Whether `train_on = "all"` is said."""
        return self.train_on == "all"

    def files(self) -> Sequence[SourceFile]:
        """The files that `path` names, sorted by name."""
        return find_files(path=self.path, format=self.format)

    def slices(self, *, slice_bytes: int) -> Sequence[Slice]:
        """Plain JSON lines are cut at line ends, Parquet between row groups; any other file is one slice."""
        return [piece for file in self.files() for piece in self.slices_of(file, slice_bytes=slice_bytes)]

    def read(self, *, slice: Slice) -> Iterator[Reading]:
        """Read one slice in batches of about 8 MB of text, unless one record is larger."""
        assert slice.file is not None, "a slice of files has a file"
        file, wanted = slice.file, self._wanted()
        finish = Finish(task=self.task, train_on=self.train_on or "all", wanted=wanted)
        match self._layout(file):
            case "parquet":
                yield from _files_parquet.read(slice, file=file, wanted=wanted, finish=finish)
            case "jsonl":
                yield from _files_jsonl.read(slice, file=file, wanted=wanted, finish=finish)
            case "json":
                yield from _files_array.read(file=file, wanted=wanted, finish=finish)
            case "csv" | "tsv" as layout:
                yield from self._delimited(file, layout, wanted, finish)

    def slices_of(self, file: SourceFile, *, slice_bytes: int) -> list[Slice]:
        """One file, cut as `slices` cuts it."""
        match self._layout(file):
            case "parquet":
                return _files_parquet.slices(file, slice_bytes=slice_bytes)
            case "jsonl" if compression_of(file.path.name) is None:
                return _files_jsonl.slices(file, slice_bytes=slice_bytes)
            case _:
                return [whole_file(file)]

    def column_names(self, file: SourceFile) -> list[str]:
        """The columns that a Parquet file has, or that the first rows of JSON lines name."""
        if self._layout(file) == "parquet":
            return _files_parquet.column_names(file)
        return _files_jsonl.column_names(file)

    def unused_columns(self) -> list[str]:
        """Columns of the files that nothing reads, by the first rows of the first files."""
        return unused_columns(map(self._names_in, self.files()[:FILES_LOOKED_AT]), self._wanted())

    def declared_rows(self) -> int | None:
        """The rows that plain Parquet files say they have, where all files are such."""
        files = self.files()
        if any(self._named_format(file) != "parquet" for file in files):
            return None
        counts = [_files_parquet.count_rows(file) for file in files]
        return None if None in counts else sum(count for count in counts if count is not None)

    def _names_in(self, file: SourceFile) -> list[str]:
        """The columns of a file; of a compressed Parquet file, which would be read whole for them, none."""
        layout = self._layout(file)
        if layout in ("csv", "tsv"):
            return _files_delimited.column_names(file, **self._manner(layout)) if self.header else []
        if layout == "json":
            return _files_array.column_names(file)
        return [] if layout == "parquet" and compression_of(file.path.name) else self.column_names(file)

    def _wanted(self) -> Wanted:
        return wanted_columns(
            columns=self.columns, task=self.task, extra=self.extra, ignore_keys=self.ignore_keys, where=self.where
        )

    def _named_format(self, file: SourceFile) -> Format:
        """The format by the recipe or the name; `find_files` let no other file through."""
        named = self.format or format_of(file.path.name)
        assert named is not None, f"{file.name} came without a format"
        return named

    def _layout(self, file: SourceFile) -> Format:
        """The format, where "json" means one list: a .json file may hold lines as well."""
        named = self._named_format(file)
        return "jsonl" if named == "json" and _files_array.holds_lines(file) else named

    def _delimited(
        self, file: SourceFile, layout: Literal["csv", "tsv"], wanted: Wanted, finish: Finish
    ) -> Iterator[Reading]:
        return _files_delimited.read(
            file=file, **self._manner(layout), header=self.header, wanted=wanted, finish=finish
        )

    def _manner(self, layout: Literal["csv", "tsv"]) -> dict[str, str]:
        usual = '"' if layout == "csv" else ""
        quote = usual if self.quote is None else self.quote
        return {"delimiter": "," if layout == "csv" else "\t", "quote": quote}
