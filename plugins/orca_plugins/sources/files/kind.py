"""Rows that lie in files: JSON lines, JSON lists, CSV, TSV, Parquet and Arrow, plain, compressed or in archives.

The same rows give the same examples whatever the format. The formats differ only in how their bytes become columns
(`json_rows`, `csv_tsv`, `parquet`, `arrow_file`); what makes a row sound is said once, in `checked_rows` and
`row_records`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, field_validator
from pydantic_core import PydanticCustomError

from orca_plugins.sources.files import arrow_file, csv_tsv, parquet, trees
from orca_plugins.sources.files.checked_rows import Finish
from orca_plugins.sources.files.columns import (
    Shape,
    Wanted,
    extra_column,
    named,
    parts_named,
    shown_path,
    wanted_columns,
)
from orca_plugins.sources.files.first_look import looked_at
from orca_plugins.sources.files.json_rows import json_array, jsonl
from orca_plugins.sources.files.manners import TABLES, Manner
from orca_plugins.sources.files.options import (
    Columns,
    Extra,
    IgnoreKeys,
    Paths,
    Roles,
    SecondSystem,
    ShapeName,
    Task,
    TrainOn,
    identity_of,
)
from orca_plugins.sources.files.places import addressed_files
from orca_plugins.sources.files.places.byte_stream import whole_file
from orca_plugins.sources.files.places.formats import Format, compression_of
from orca_plugins.sources.files.places.found_files import find_files, remarks_on
from orca_plugins.sources.files.shapes import (
    AUTO,
    equally_fitting,
    fitting,
    only_fitting,
    row_keys,
    shape_named,
    shapes,
)
from orca_plugins.sources.files.unfound_columns import absent, lacking
from orca_plugins.sources.files.unused_columns import FILES_LOOKED_AT, unused_columns
from orca_recipes.contract.conditions import Where
from orca_recipes.contract.kinds import Place, Reading, Slice, Source, SourceFile
from orca_recipes.contract.source import Look
from orca_recipes.errors import SourceError, UserError


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


class Files(Source):
    """Read examples from files; their names tell the format, `columns` or `shape` the columns.

        [collections.gsm8k]
        kind = "files"
        path = "data/gsm8k/*.jsonl.gz"
        columns = { question = "question", reference = "answer", task = "meta.task" }

    A row that cannot be read is rejected with its line (text) or row (Parquet, Arrow, JSON lists).

    - **Places.** Members of a zip or tar are files: `path = "data.zip"`, or by a pattern `"data.zip/train/*.jsonl"`. A
      folder of `save_to_disk`, or a clone of a data set of the hub, says itself which files hold its rows.
    - **Messages** are OpenAI's (role, content), ShareGPT's (from, value; human and gpt), or a mix of both. They may be
      JSON text, or a list of texts: a user's and an assistant's in turn. A content in parts of text is these texts, one
      behind the other.
    - **Trained turns.** `weight`, `train`, `trainable`, `loss_mask`, `loss` or `training` of a turn (0 or 1, true or
      false) says whether it is trained. An `answer` beside messages may be a list of messages; it alone is trained.
    - **For the template**: thoughts (`reasoning_content`, `reasoning`, `thinking`, `think`), calls (`tool_calls`,
      `function_call`; arguments as an object or as JSON text), `tool_call_id`, `name`, and a row's `tools` (or
      `functions`) and `chat_template_kwargs`.
    - **Anything else** rejects the row: another key in a message, or `images` beside it, unless `ignore_keys` names it.
    """

    kind: Literal["files"] = "files"
    revision: ClassVar[int] = 9
    path: Annotated[
        Place,
        Field(
            description="a file, a folder (its files of a known format), or a pattern with *, ?, [...] and **; of zip "
            "and tar the members, which a pattern after their names chooses; also s3://, gs://, az://, https:// and "
            "hf://datasets/OWNER/NAME@REVISION/path"
        ),
    ]
    format: Annotated[
        Format | None,
        Field(
            description="unset: by the name (.jsonl .ndjson .json .traj .csv .tsv .parquet .arrow, each also with .gz, "
            ".zst, .xz or .bz2)"
        ),
    ] = None
    header: Annotated[
        bool, Field(description="csv, tsv: the first row names the columns; if false they are called 1, 2, 3 ...")
    ] = True
    delimiter: Annotated[
        str | None, Field(description='csv, tsv: what stands between fields; unset: "," in csv and a tab in tsv')
    ] = None
    quote: Annotated[
        str | None,
        Field(
            description='csv, tsv: what encloses a field; unset: " in csv and nothing in tsv; "" turns quotes into text'
        ),
    ] = None
    rows: Annotated[
        str | None,
        Field(
            pattern=r"^[^.]+(\.[^.]+)*$",
            description="json: the keys that lead to the list of rows, with dots between them",
        ),
    ] = None
    config: Annotated[
        str | None, Field(description="the configuration, where a clone of a data set of the hub has several")
    ] = None
    split: Annotated[
        tuple[str, ...],
        BeforeValidator(_as_tuple, json_schema_input_type=str | tuple[str, ...]),
        Field(description="the splits of a data set's folder; unset: train, or the only one"),
    ] = ()
    columns: Columns = None
    extra: Extra = ()
    task: Task = None
    train_on: TrainOn = None
    ignore_keys: IgnoreKeys = ()
    where: Where = None
    shape: ShapeName = None
    paths: Paths = None
    roles: Roles = Field(default_factory=dict)
    second_system: SecondSystem = None
    # A build looks for files once, and once more when it has read them, to see whether some came or went.
    _is_settled: bool = PrivateAttr(default=False)
    _found: tuple[SourceFile, ...] | None = PrivateAttr(default=None)

    @field_validator("path")
    @classmethod
    def _is_an_address(cls, path: Path) -> Path:
        try:
            addressed_files.require_address(path)
        except UserError as fault:
            raise PydanticCustomError("path", "{sentence}", {"sentence": str(fault)}) from None
        return path

    @field_validator("delimiter")
    @classmethod
    def _parts_fields(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"' or not delimiter.isascii()):
            raise PydanticCustomError("delimiter", "a delimiter is one character of ASCII, and no quote or line end")
        return delimiter

    @field_validator("quote")
    @classmethod
    def _one_character(cls, quote: str | None) -> str | None:
        if quote and (len(quote) > 1 or quote == "," or not quote.isprintable()):
            raise PydanticCustomError("quote", "a quote is one printable character other than a comma")
        return quote

    def identity(self) -> dict[str, Any]:
        """Identify the rows that are read: unset options are left out, and an unset `train_on` is the same as "all"."""
        later = ("rows", "config", "split")
        said = super().identity()
        return identity_of({name: value for name, value in said.items() if name not in later or value})

    def trains_history(self) -> bool:
        """Tell whether `train_on = "all"` is set."""
        return self.train_on == "all"

    def kept_columns(self) -> Collection[str]:
        return self.extra

    def second_systems(self) -> Literal["reject", "merge", "keep"]:
        """Return `second_system`, "reject" where it is unset."""
        return self.second_system or "reject"

    def __getstate__(self) -> dict[Any, Any]:
        """Leave the names of all files out of what workers are sent: each part says which it reads."""
        state = super().__getstate__()
        return {**state, "__pydantic_private__": {**(state["__pydantic_private__"] or {}), "_found": None}}

    def files(self) -> Sequence[SourceFile]:
        """List the files that `path` names, sorted by name; those at an address are copied here first."""
        if self._found is not None:
            return self._found
        path = addressed_files.copied(self.path, versions={}, insist=False)
        found = tuple(find_files(path=path, format=self.format, config=self.config, split=self.split))
        if self._is_settled:
            self._found = found
        return found

    def slices(self, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut plain JSON lines at line ends and Parquet between row groups; any other file is one slice."""
        return [piece for file in self.files() for piece in self.slices_of(file, slice_bytes=slice_bytes)]

    def read(self, *, slice: Slice) -> Iterator[Reading]:
        """Read one slice in batches of about 8 MB of text, unless one record is larger."""
        assert slice.file is not None, "a slice of files has a file"
        assert self.shape != AUTO, "a source is settled before it is read"
        file, wanted = slice.file, self._wanted()
        finish = Finish(task=self.task, train_on=self.train_on or "all", wanted=wanted)
        if self._tree is not None:
            rows = self._manner.raw_rows(file)
            yield trees.read(rows, self._tree, wanted=wanted, finish=finish, best=self.paths == "best")
            return
        manner = self._manner
        layout = manner.layout(file)
        if layout == "jsonl" and slice.start == 0 and manner.named_format(file) == "json":
            json_array.require_lines(file, wanted)
        match layout:
            case "parquet":
                yield from parquet.read(slice, file=file, wanted=wanted, finish=finish)
            case "jsonl":
                yield from jsonl.read(slice, file=file, wanted=wanted, finish=finish)
            case "json":
                yield from json_array.read(file=file, wanted=wanted, finish=finish, path=self.rows)
            case "arrow":
                yield from arrow_file.read(file=file, wanted=wanted, finish=finish)
            case "csv" | "tsv":
                marks = manner.marks(layout)
                yield from csv_tsv.read(file=file, **marks, header=self.header, wanted=wanted, finish=finish)

    def slices_of(self, file: SourceFile, *, slice_bytes: int) -> list[Slice]:
        """Cut one file as `slices` does; a file of trees stays whole, because a tree's messages may lie anywhere in
        it."""
        if self._tree is not None:
            return [whole_file(file)]
        match self._manner.layout(file):
            case "parquet":
                return parquet.slices(file, slice_bytes=slice_bytes)
            case "jsonl" if compression_of(file.path.name) is None:
                return jsonl.slices(file, slice_bytes=slice_bytes)
            case _:
                return [whole_file(file)]

    def column_names(self, file: SourceFile) -> list[str]:
        """List the columns of a file, of JSON those in its first rows."""
        return self._manner.column_names(file)

    def unfound_columns(self) -> Mapping[str, str]:
        return self.unfound_columns_of(self.files()) | self.absent_columns_of(self.files())

    def unfound_columns_of(self, files: Sequence[SourceFile]) -> dict[str, str]:
        """Return the columns that the recipe names and first rows lack; those of a text made of several are not looked
        for."""
        chosen = {ours: named(theirs) for ours, theirs in (self.columns or {}).items() if ours in self._wanted().paths}
        sought = {ours: theirs for ours, (theirs, *others) in chosen.items() if not others}
        sought |= {extra_column(theirs): theirs for theirs in self.extra}
        return {} if self._tree is not None else lacking(files, sought, self._manner)

    def absent_columns_of(self, files: Sequence[SourceFile]) -> dict[str, str]:
        """Return the columns of texts made of several that no row of some files has."""
        return absent(files, parts_named(self.columns or {}) if self._tree is None else {}, self._manner)

    def unused_columns(self) -> list[str]:
        """Return columns of the files that nothing reads, by the first rows of the first files."""
        return self.unused_columns_of(self.files())

    def unused_columns_of(self, files: Sequence[SourceFile]) -> list[str]:
        """Return columns of some files that nothing reads, by the first rows of the first ones."""
        keys, manner = self._tree.values() if self._tree is not None else (), self._manner
        told = filter(manner.tells_columns, files[:FILES_LOOKED_AT])
        return unused_columns(map(manner.column_names, told), self._wanted(), keys)

    def declared_rows(self) -> int | None:
        """Sum the row counts that plain Parquet files state; None if any file is another, rows are trees or chosen by
        `where`, or an address would have to be asked."""
        if addressed_files.address_in(self.path) is not None:
            return None
        files = self.files()
        if self._tree is not None or self.where is not None:
            return None
        manner = self._manner
        if any(manner.named_format(file) != "parquet" for file in files):
            return None
        counts = [parquet.count_rows(file) for file in files]
        return None if None in counts else sum(count for count in counts if count is not None)

    def settled(self, *, files: Sequence[str], versions: Mapping[str, str], insist: bool) -> Self:
        """Return this source with its files on this machine and its shape known, from the lock or the first rows of the
        first files."""
        if self._is_settled:
            return self
        path = addressed_files.copied(self.path, versions=versions, insist=insist)
        found = self.model_copy(update={"path": path})
        found._is_settled = True
        if found.shape != AUTO:
            return found
        return found.model_copy(update={"shape": versions.get("shape") or found.shape_of(found.files())})

    def afresh(self) -> Self:
        found = self.model_copy()
        found._found = None
        return found

    def away(self, *, versions: Mapping[str, str]) -> str | None:
        return addressed_files.away(self.path, versions=versions)

    def looks_to_settle(self, *, versions: Mapping[str, str]) -> bool:
        """Tell whether the shape must be found from the first rows."""
        return self.shape == AUTO and not versions.get("shape")

    def pins(self) -> Mapping[str, str]:
        """Pin the shape, so that it is not guessed twice, and the etags of objects."""
        return addressed_files.etags_of(self.path) | ({} if self.shape is None else {"shape": self.shape})

    @classmethod
    def layouts(cls) -> Mapping[str, tuple[str, str]]:
        """Describe all shapes: name to (what it is, an example row)."""
        return {name: (shape.about, shape.example) for name, shape in shapes().items()}

    def suggested(self) -> Mapping[str, Any]:
        """Suggest `rows`, the path to the list of rows, if the files are objects that hold one; no `header` where
        `columns` are numbers."""
        if self.rows is not None:
            return {}
        said = [name for theirs in (self.columns or {}).values() for name in named(theirs)]
        if said and all(map(str.isdecimal, said)) and self._manner.named_format(self.files()[0]) in TABLES:
            return {"header": False}
        files = [file for file in self.files()[:FILES_LOOKED_AT] if self._manner.named_format(file) == "json"]
        keys = {key for file in files for key in json_array.lists_of_object(file, unless=row_keys())}
        return {"rows": keys.pop()} if len(keys) == 1 else {}

    def look(self) -> Look:
        """Guess the layout from the first rows of the first files, and find their faults; nothing for files at an
        address."""
        if addressed_files.address_in(self.path) is not None:
            return Look()
        files = self.files()
        remarks = remarks_on(self.path, files, config=self.config, split=self.split)
        return replace(self.look_at(files), remarks=tuple(remarks))

    def look_at(self, files: Sequence[SourceFile]) -> Look:
        """Guess the layout from the first rows of some files, and find their faults."""
        heads, by_hand = self._manner.heads(files), self.columns is not None
        try:
            told = self if self.shape != AUTO else self.model_copy(update={"shape": self.shape_of(files)})
        except SourceError as fault:
            look = looked_at(heads, None, named=None, chosen_by_hand=by_hand)
            return replace(look, faults=look.faults or (str(fault),))
        return looked_at(heads, told._wanted(), named=told.shape, chosen_by_hand=by_hand)

    def shape_of(self, files: Sequence[SourceFile]) -> str:
        """Return the shape that the first rows of some files fit.

        Raises: SourceError where no known shape fits, or several fit equally well.
        """
        heads = self._manner.heads(files)
        rows = [row for _, found in heads for row in found]
        alone = {shown_path(file.path): equally_fitting(found) for file, found in heads}
        if not fitting(rows) and len(set(map(tuple, alone.values()))) > 1:
            each = ", ".join(f"{file} ({' or '.join(names) or 'no known shape'})" for file, names in alone.items())
            raise SourceError(
                f"{shown_path(self.path)}: its files have different layouts: {each}; read them as collections of "
                "their own, each with its path"
            )
        if not fitting(rows) and self.rows is None:
            for file in files[:FILES_LOOKED_AT]:
                if (named := self._manner.named_format(file)) in ("json", "jsonl"):
                    json_array.require_no_list(file, row_keys=row_keys(), is_json=named == "json")
        where = shown_path(self.path if len(files) > 1 else files[0].path)
        is_table = any(self._manner.layout(file) in TABLES for file in files[:FILES_LOOKED_AT])
        return only_fitting(rows, where=where, is_table=is_table)

    @property
    def _tree(self) -> Mapping[str, str] | None:
        """Return the keys of the shape's trees, None where its rows are none."""
        shape = self._shape
        return shape.tree if shape is not None and shape.tree else None

    @property
    def _shape(self) -> Shape | None:
        return shape_named(self.shape) if self.shape not in (None, AUTO) else None

    def _wanted(self) -> Wanted:
        return wanted_columns(
            columns=self.columns,
            task=self.task,
            extra=self.extra,
            ignore_keys=self.ignore_keys,
            where=self.where,
            trains_history=self.trains_history(),
            shape=self._shape,
            roles=self.roles,
        )

    def _row_keys(self) -> Collection[str]:
        """Return the keys by one of which an object is known for a row."""
        return row_keys() if self.shape == AUTO else {path.partition(".")[0] for path in self._wanted().paths.values()}

    @property
    def _manner(self) -> Manner:
        return Manner(self.format, self.header, self.delimiter, self.quote, self.rows, self._row_keys)
