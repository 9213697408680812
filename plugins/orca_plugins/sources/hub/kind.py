"""Any data set of the Hugging Face hub.

`datasets` says which files a configuration and split are made of; they are loaded once into the hub's cache and read as
the source `files` reads files, so that rows are the same and have the same places wherever their files lie. A data set
that is not made of such files, or too large to be kept, can be streamed through `datasets` instead.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from orca_plugins.sources.files.checked_rows import Finish
from orca_plugins.sources.files.columns import wanted_columns
from orca_plugins.sources.files.kind import Files
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
from orca_plugins.sources.files.places.formats import format_of
from orca_plugins.sources.files.places.hub_sets import HubName, Revision, away, chosen, fetched, is_commit, looked_up
from orca_plugins.sources.files.shapes import AUTO, shape_named
from orca_plugins.sources.files.unused_columns import FILES_LOOKED_AT
from orca_plugins.sources.hub import splits as _hub_datasets
from orca_recipes.contract.conditions import Where
from orca_recipes.contract.kinds import Reading, Slice, Source, SourceFile
from orca_recipes.contract.source import Look


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Hub(Source):
    """Read examples from a data set of the Hugging Face hub.

        [collections.orca]
        kind = "hub"
        name = "Open-Orca/OpenOrca"
        data_files = "1M-GPT4-Augmented.parquet"
        columns = { id = "id", system = "system_prompt", question = "question", answer = "response" }

    The lock keeps the commit. Where the hub cannot be reached, the locked commit is read from the hub's cache.
    """

    kind: Literal["hub"] = "hub"
    revision: ClassVar[int] = 8
    name: Annotated[HubName, Field(description='a data set of the hub, "organisation/name"')]
    hub_revision: Annotated[Revision, Field(description="branch, tag or commit; the lock keeps the commit")] = "main"
    config: Annotated[str | None, Field(description="the configuration, where the data set has several")] = None
    split: Annotated[str, Field(min_length=1, description="the split")] = "train"
    data_files: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(_as_tuple, json_schema_input_type=str | tuple[str, ...]),
        Field(min_length=1, description="files of the data set by name or pattern, in place of config and split"),
    ] = None
    streaming: Annotated[
        bool, Field(description="read rows as they come, without keeping files: slower, in one process")
    ] = False
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

    @model_validator(mode="after")
    def _streams_a_split(self) -> Self:
        if self.streaming and self.shape is not None and (self.shape == AUTO or shape_named(self.shape).tree):
            raise ValueError("a stream has no first look and no trees; name another shape, or leave out `streaming`")
        if self.streaming and self.data_files is not None:
            raise ValueError("`data_files` are kept as files; leave out `streaming`, or name `config` and `split`")
        if self.config is not None and self.data_files is not None:
            raise ValueError("give either `config` or `data_files`")
        return self

    def identity(self) -> dict[str, Any]:
        """Identify the rows that are read: options are left out where they change nothing, and an unset `train_on` is
        the same as "all"."""
        return identity_of(super().identity())

    def trains_history(self) -> bool:
        """Tell whether `train_on = "all"` is set."""
        return self.train_on == "all"

    def kept_columns(self) -> Collection[str]:
        return self.extra

    def second_systems(self) -> Literal["reject", "merge", "keep"]:
        """Return `second_system`, "reject" where it is unset."""
        return self.second_system or "reject"

    def settled(self, *, files: Sequence[str], versions: Mapping[str, str], insist: bool) -> Self:
        """Return this source at a commit and, where it is read as files, with their names and shape."""
        found = self._at_a_commit(files=files, versions=versions, insist=insist)
        if found.shape != AUTO:
            return found
        shape = versions.get("shape") or found._reader_of_files(first := found._first_file()).shape_of([first])
        return found.model_copy(update={"shape": shape})

    def look(self) -> Look:
        """Guess the layout from the first rows of the first file; nothing for a stream, or for a revision that may
        move."""
        if self.streaming or not is_commit(self.hub_revision):
            return Look()
        first = self._first_file()
        return self._reader_of_files(first).look_at([first])

    def _first_file(self) -> SourceFile:
        """Return its first file, downloading it alone where it is not in the cache."""
        commit = self.hub_revision
        return fetched(self.name, commit, sorted(self._names(commit))[:1])[0]

    def _at_a_commit(self, *, files: Sequence[str], versions: Mapping[str, str], insist: bool) -> Self:
        if is_commit(self.hub_revision) and (self.streaming or all(map(_literal_name, self.data_files or ("*",)))):
            return self
        locked = versions.get("revision")
        if insist and locked and (files or self.streaming):
            return self._at(locked, files)
        listing = looked_up(self.name, self.hub_revision, locked=locked)
        # The lock's files are still there, so `datasets` need not be asked for them.
        if files and listing.commit == locked and {*files} <= {*listing.names}:
            return self._at(listing.commit, files)
        return self._at(listing.commit, () if self.streaming else self._names(listing.commit))

    def files(self) -> Sequence[SourceFile]:
        """List its files, downloading those that are not in the cache; none for a stream."""
        if self.streaming:
            return ()
        commit = self.hub_revision
        if not is_commit(commit):
            commit = looked_up(self.name, commit, locked=None).commit
        return fetched(self.name, commit, self._names(commit))

    @classmethod
    def layouts(cls) -> Mapping[str, tuple[str, str]]:
        """Describe all shapes, as `Files.layouts` does."""
        return Files.layouts()

    def away(self, *, versions: Mapping[str, str]) -> str | None:
        if self.streaming:
            return f"{self.name} is read as it comes"
        return away(self.name, self.hub_revision, locked=versions.get("revision"), wanted=self._is_wanted)

    def pins(self) -> Mapping[str, str]:
        versions = {"revision": self.hub_revision} | ({"shape": self.shape} if self.shape is not None else {})
        return versions | {"datasets": _hub_datasets.version()} if self.streaming else versions

    def slices(self, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut each file as its format is cut; a stream is one slice."""
        if self.streaming:
            return [Slice(file=None, start=0, stop=1)]
        reader = self._reader_of_files
        return [piece for file in self.files() for piece in reader(file).slices_of(file, slice_bytes=slice_bytes)]

    def read(self, *, slice: Slice) -> Iterator[Reading]:
        """Read one slice in batches of about 8 MB of text."""
        if slice.file is not None:
            return self._reader_of_files(slice.file).read(slice=slice)
        wanted = wanted_columns(
            columns=self.columns,
            task=self.task,
            extra=self.extra,
            ignore_keys=self.ignore_keys,
            where=self.where,
            trains_history=self.trains_history(),
            shape=shape_named(self.shape) if self.shape is not None else None,
            roles=self.roles,
        )
        return _hub_datasets.rows(
            _hub_datasets.Split(self.name, self.hub_revision, self.config, self.split),
            wanted=wanted,
            finish=Finish(task=self.task, train_on=self.train_on or "all", wanted=wanted),
        )

    def _at(self, commit: str, names: Sequence[str]) -> Self:
        if self.streaming:
            return self.model_copy(update={"hub_revision": commit})
        patterns = tuple(sorted(glob.escape(name) for name in names))
        return self.model_copy(
            update={"hub_revision": commit, "data_files": patterns, "config": None, "split": "train"}
        )

    def _names(self, commit: str) -> list[str]:
        """List the files that are read, by their names in the data set."""
        if self.data_files is None:
            return _hub_datasets.file_names(_hub_datasets.Split(self.name, commit, self.config, self.split))
        patterns = self.data_files
        names = [_literal_name(pattern) for pattern in patterns]
        if all(names):
            return [name for name in names if name]
        listing = looked_up(self.name, commit, locked=None)
        return chosen(
            listing,
            self.name,
            self._is_wanted,
            f"file of a known format that matches {', '.join(patterns)}",
        )

    def _is_wanted(self, name: str) -> bool:
        patterns = self.data_files or ("*",)
        return format_of(name) is not None and any(fnmatchcase(name, pattern) for pattern in patterns)

    def unfound_columns(self) -> Mapping[str, str]:
        """Return the columns that the recipe names and rows lack, as `Files` does; not told of rows that are
        streamed."""
        files = () if self.streaming else self.files()
        found = [self._reader_of_files(file).unfound_columns_of([file]) for file in files[:FILES_LOOKED_AT]]
        lacking = found[0] if found else {}
        left = {ours: theirs for ours, theirs in lacking.items() if all(ours in one for one in found)}
        absent: dict[str, str] | None = None
        for file in files:
            if absent == {}:
                break
            here = self._reader_of_files(file).absent_columns_of([file])
            absent = {ours: theirs for ours, theirs in here.items() if absent is None or ours in absent}
        return left | (absent or {})

    def unused_columns(self) -> Sequence[str]:
        """Return columns that nothing reads; not told of rows that are streamed."""
        found: list[str] = []
        if not self.streaming:
            for file in self.files()[:FILES_LOOKED_AT]:
                found += self._reader_of_files(file).unused_columns_of([file])
        return sorted(set(found))

    def _reader_of_files(self, file: SourceFile) -> Files:
        return Files(
            path=file.path,
            columns=self.columns,
            extra=self.extra,
            task=self.task,
            train_on=self.train_on,
            ignore_keys=self.ignore_keys,
            where=self.where,
            shape=self.shape,
            paths=self.paths,
            roles=self.roles,
            on_bad_row=self.on_bad_row,
        )


def _literal_name(pattern: str) -> str | None:
    """Return the one name that a pattern matches, None where it may match several."""
    # Undoes glob.escape, with which `_at` writes names as patterns.
    name = re.sub(r"\[([*?\[])\]", r"\1", pattern)
    return name if glob.escape(name) == pattern else None
