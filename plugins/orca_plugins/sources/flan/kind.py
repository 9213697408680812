"""The FLAN-v2 collection, as it was exported: one submix of it is one collection of a recipe.

Rows are read as the source `files` reads them; what is FLAN's own is which rows belong to a submix and a template type,
the options that stand in a question, and the published sizes, with which a mixture is planned before a row is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from orca_plugins.sources.files.columns import shown_path
from orca_plugins.sources.files.kind import Files
from orca_plugins.sources.files.places.formats import format_of
from orca_plugins.sources.files.places.found_files import files_below
from orca_plugins.sources.files.places.hub_sets import HubName, Revision, away, chosen, fetched, is_commit, looked_up
from orca_plugins.sources.flan.hub_layout import (
    WITHOUT_OPTIONS,
    Submix,
    columns_of,
    layout,
    plain_template,
    said_by_name,
    task_table,
    what_it_has,
)
from orca_plugins.sources.flan.submix_rows import rows_of_submix
from orca_recipes.contract.kinds import Place, Reading, Slice, Source, SourceFile
from orca_recipes.errors import SourceError

_FORMATS = ("jsonl", "json", "parquet")
_TEMPLATES = ("zsopt", "zsnoopt", "fsopt", "fsnoopt")


class Flan(Source):
    """Read one submix of FLAN-v2 from an export: a folder, or a data set of the hub (JSON lines or Parquet).

        [collections.t0]
        kind = "flan"
        submix = "t0"
        templates = ["zs_opt", "zs_noopt"]
        path = "flan"

    Fields: inputs, targets, task_source, task_name, template_type, or the older names that begin with "_". A folder may
    hold other submixes and templates too: what files' names and rows say of them decides. Source: Longpre et al. 2023,
    arXiv:2301.13688, https://github.com/google-research/FLAN (flan/v2).
    """

    kind: Literal["flan"] = "flan"
    revision: ClassVar[int] = 3
    submix: Annotated[Submix, Field(description="which part of FLAN-v2 this collection is")]
    path: Annotated[
        Place | None, Field(description="a folder of an export, searched with the folders below it, or one file")
    ] = None
    hub: Annotated[HubName | None, Field(description='a data set of the hub, "organisation/name"')] = None
    hub_revision: Annotated[Revision, Field(description="branch, tag or commit; the lock keeps the commit")] = "main"
    templates: Annotated[
        tuple[str, ...] | None,
        Field(min_length=1, description='template types, or "zs" and "fs": all that begin so; unset: all'),
    ] = None
    whole: Annotated[
        bool, Field(description="the export is whole, so that published sizes hold until its rows were read")
    ] = True

    @field_validator("templates")
    @classmethod
    def _are_templates(cls, templates: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for template in templates or ():
            if plain_template(template) not in (*_TEMPLATES, "zs", "fs"):
                raise ValueError(f'"{template}" is no template type: zs_opt, zs_noopt, fs_opt, fs_noopt, or zs, fs')
        return templates

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give either `path` or `hub`")
        return self

    def kept_columns(self) -> tuple[str, ...]:
        return ()

    def files(self) -> Sequence[SourceFile]:
        """List the files that can hold rows of the submix and the templates, sorted by name."""
        if self.path is not None:
            files = [file for file in files_below(self.path) if self._may_hold(file.name)]
            if not files:
                raise SourceError(f"{shown_path(self.path)}: no file here is of {self._told()}")
            return files
        name = str(self.hub)
        listing = looked_up(name, self.hub_revision, locked=None)
        return fetched(name, listing.commit, chosen(listing, name, self._may_hold, self._told()))

    def away(self, *, versions: Mapping[str, str]) -> str | None:
        if self.hub is None:
            return None
        return away(self.hub, self.hub_revision, locked=versions.get("revision"), wanted=self._may_hold)

    def settled(self, *, files: Sequence[str], versions: Mapping[str, str], insist: bool) -> Self:
        """Return this source with a hub branch replaced by its commit: the locked one, or its present one."""
        if self.hub is None or is_commit(self.hub_revision):
            return self
        locked = versions.get("revision")
        if insist and locked:
            return self.model_copy(update={"hub_revision": locked})
        return self.model_copy(update={"hub_revision": looked_up(self.hub, self.hub_revision, locked=locked).commit})

    def pins(self) -> Mapping[str, str]:
        return {} if self.hub is None else {"revision": self.hub_revision}

    def slices(self, *, slice_bytes: int) -> Sequence[Slice]:
        """Cut each file as its format is cut."""
        return [
            piece for file in self.files() for piece in Files(path=file.path).slices_of(file, slice_bytes=slice_bytes)
        ]

    def read(self, *, slice: Slice) -> Iterator[Reading]:
        """Read one slice; rows of other submixes and template types are passed over."""
        assert slice.file is not None, "a slice of an export has a file"
        columns = self._columns(slice.file)
        marks: dict[str, str] = {mark: columns.pop(mark) for mark in ("source", "template") if mark in columns}
        reader = Files(
            path=slice.file.path, columns={**columns}, extra=tuple(marks.values()), on_bad_row=self.on_bad_row
        )
        for reading in reader.read(slice=slice):
            yield rows_of_submix(reading, marks=marks, submix=self.submix, wants=self._wants)

    def declared_tasks(self) -> Mapping[str, int] | None:
        """Return the published rows of each task; None unless only zero-shot templates are wanted, since others have no
        published sizes."""
        settings = self._settings()
        if settings is None or not self.whole:
            return None
        tasks = task_table(self.submix)["tasks"]
        return {task: told["rows"] * settings for task, told in tasks.items()} if tasks else None

    def declared_rows(self) -> int | None:
        """Return the published rows in all; None as in `declared_tasks`."""
        settings = self._settings()
        return None if settings is None or not self.whole else int(task_table(self.submix)["rows"]) * settings

    def _settings(self) -> int | None:
        """Count the zero-shot settings that each row occurs in; None where there may be few-shot ones too."""
        wanted = [template for template in _TEMPLATES if self._wants(template)]
        if any(template.startswith("fs") for template in wanted):
            return None
        return len([template for template in wanted if template == "zsopt" or self.submix in WITHOUT_OPTIONS])

    def _wants(self, template: str) -> bool:
        plain = plain_template(template)
        return self.templates is None or any(plain.startswith(plain_template(one)) for one in self.templates)

    def _may_hold(self, name: str) -> bool:
        said = said_by_name(name)
        return format_of(name) in _FORMATS and (
            said.submix in (None, self.submix) and (said.template is None or self._wants(said.template))
        )

    def _told(self) -> str:
        templates = f" with templates {', '.join(self.templates)}" if self.templates else ""
        return f"submix {self.submix}{templates} (JSON lines or Parquet)"

    def _columns(self, file: SourceFile) -> dict[str, str]:
        """Map ours to the file's, with what marks submix and template, as far as they are needed.

        Raises: SourceError where a column that is needed is missing.
        """
        names = Files(path=file.path).column_names(file)
        columns, said = columns_of(names), said_by_name(file.name)
        needed = ["question", "reference"]
        if self.templates is not None and said.template is None:
            needed.append("template")
        else:
            columns.pop("template", None)
        if said.submix is not None:
            columns.pop("source", None)
        for ours in needed:
            if names and ours not in columns:
                raise SourceError(f"{shown_path(file.path)}: {_missing(ours)}; {what_it_has(names)}")
        return columns


def _missing(ours: str) -> str:
    theirs = " or ".join(f'"{name}"' for name in reversed(layout()["columns"][ours]))
    why = ", which `templates` needs" if ours == "template" else ""
    return f"no column {theirs}{why}"
