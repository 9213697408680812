"""The tasks of Natural Instructions v2, in their original layout.

A question is the task's definition, some of its positive examples, and one instance, in the layout of layout.toml.
All outputs of an instance are its references; which one is trained is drawn later, by the example's id.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.resources import files as package_files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from orca_plugins.sources.files.places import addressed_files
from orca_plugins.sources.niv2.task_file import TaskFile, read_instances, read_task
from orca_recipes.contract.frames import completed, rejected_rows_schema, rows_schema
from orca_recipes.contract.kinds import Place, Reading, Slice, Source, SourceFile
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.counted import counted
from orca_recipes.errors import SourceError

_SUFFIXES = (".json", ".json.gz")
_OF_A_FOLDER = ("train.json", "train.json.gz")
"""Files that a task's own folder holds: then the folder names the task."""
# Each row of a task repeats its definition and examples: counted in rows alone, a batch could be of any size.
_BATCH_BYTES = 16 << 20
_EMPTY_OUTPUT = "output: an empty one beside others"


class Niv2(Source):
    """Natural Instructions v2: one JSON file a task, with its definition, examples and instances.

        [collections.niv2]
        kind = "niv2"
        path = "natural-instructions"
        tasks = ["task1*_country_*", "task837_viquiquad_answer_generation"]
        positive_examples = 2

    The file's name without its ending is the task (of TASK/train.json the folder's), the first of `Categories` the
    category, of `Input_language` the language, of `Reasoning` the tag for the reasoning. An empty output beside others
    is left out and counted. Source: Wang et al. 2022, arXiv:2204.07705, https://github.com/allenai/natural-instructions.
    """

    kind: Literal["niv2"] = "niv2"
    revision: ClassVar[int] = 3
    path: Annotated[
        Place,
        Field(
            description="folder of task files (.json, .json.gz, TASK/train.json), one with them in tasks/, or one file"
        ),
    ]
    tasks: Annotated[
        tuple[str, ...] | None, Field(min_length=1, description="names of the tasks to read, or globs; unset, all")
    ] = None
    tasks_file: Annotated[
        Place | None,
        Field(description="text file that names the tasks to read, one a line, as in splits/default/train_tasks.txt"),
    ] = None
    positive_examples: Annotated[
        int, Field(ge=0, description="positive examples shown before the instance; fewer where the task has fewer")
    ] = 0
    max_instances: Annotated[
        int | None, Field(gt=0, description="read only so many instances of each task, the first ones of its file")
    ] = None

    @model_validator(mode="after")
    def _tasks_are_named_once(self) -> Self:
        if self.tasks is not None and self.tasks_file is not None:
            raise ValueError("tasks and tasks_file both name the tasks to read; give one of them")
        return self

    def settled(self, *, files: Sequence[str], versions: Mapping[str, str], insist: bool) -> Self:
        """Return this source with files of an address copied onto this machine."""
        path = addressed_files.copied(self.path, versions=versions, insist=insist, all_below=True)
        return self if path is self.path else self.model_copy(update={"path": path})

    def away(self, *, versions: Mapping[str, str]) -> str | None:
        return addressed_files.away(self.path, versions=versions)

    def pins(self) -> Mapping[str, str]:
        """Pin the etags of objects; nothing for files of this machine."""
        return addressed_files.etags_of(self.path)

    def kept_columns(self) -> tuple[str, ...]:
        return ()

    def files(self) -> Sequence[SourceFile]:
        """List the chosen task files; `tasks_file` decides which, and its own bytes decide nothing else."""
        found = _task_files(addressed_files.copied(self.path, versions={}, insist=False, all_below=True))
        if self.tasks is not None:
            return _matching(found, self.tasks, self.path)
        if self.tasks_file is not None:
            return _named(found, _lines(self.tasks_file), self.tasks_file, self.path)
        return [found[task] for task in sorted(found, key=lambda task: found[task].name)]

    def slices(self, *, slice_bytes: int) -> Sequence[Slice]:
        """Make one slice of each file: a task file is one JSON object, which cannot be cut."""
        return [Slice(file=file, start=0, stop=file.path.stat().st_size) for file in self.files()]

    def read(self, *, slice: Slice) -> Iterator[Reading]:
        assert slice.file is not None
        try:
            task = read_task(slice.file, examples=self.positive_examples)
        except SourceError as fault:
            if self.on_bad_row != "reject":
                raise
            yield _unread(str(fault))
            return
        head, tail = _around(task)
        instances = task.instances[: self.max_instances]
        # The ends of a batch depend on the task alone; every row of a task carries its definition and examples.
        rows = max(1, _BATCH_BYTES // (len(head) * 4 + 2048))
        for start in range(0, len(instances), rows):
            yield _reading(instances[start : start + rows], start + 1, _task_name(slice.file.path), task, head, tail)


def _unread(reason: str) -> Reading:
    """Turn a file that cannot be read into a Reading of one bad row."""
    import polars as pl

    rejected = pl.DataFrame([(1, reason)], schema=rejected_rows_schema(), orient="row")
    return Reading(rows=pl.DataFrame(schema=rows_schema()), rejected=rejected)


def _task_name(path: Path) -> str:
    if path.name in _OF_A_FOLDER:
        return path.parent.name
    return path.name.removesuffix(".gz").removesuffix(".json")


def _task_files(path: Path) -> Mapping[str, SourceFile]:
    """Map task names to files, named relative to the folder that holds them, however `path` reaches it."""
    if path.is_file():
        if not path.name.endswith(_SUFFIXES):
            raise SourceError(f"{path}: is no task file; give a .json or .json.gz file, or the folder of them")
        name = f"{path.parent.name}/{path.name}" if path.name in _OF_A_FOLDER else path.name
        return {_task_name(path): SourceFile(name, path)}
    folder = path / "tasks" if (path / "tasks").is_dir() else path
    if not folder.is_dir():
        raise SourceError(f"{path}: there is no such folder or file of Natural Instructions tasks")
    found: dict[str, SourceFile] = {}
    for file in _in_order(folder):
        if file.name.endswith(_SUFFIXES) and not file.name.startswith(".") and file.is_file():
            if not file.resolve().is_relative_to(folder.resolve()):
                raise SourceError(f"{file}: this is a link out of {folder}; name the folder that it leads to instead")
            if _task_name(file) in found:
                raise SourceError(
                    f"{folder}: {found[_task_name(file)].name} and {file.name} are the same task; keep one"
                )
            found[_task_name(file)] = SourceFile(file.relative_to(folder).as_posix(), file)
    if not found:
        raise SourceError(f"{folder}: has no task file (.json or .json.gz)")
    return found


def _in_order(folder: Path) -> list[Path]:
    """List the entries of a folder, with any train.json (or train.json.gz) of the folders in it, sorted."""
    of_folders = [file for name in _OF_A_FOLDER for file in folder.glob(f"*/{name}") if file.is_file()]
    return sorted([*folder.iterdir(), *of_folders])


def _matching(found: Mapping[str, SourceFile], globs: Sequence[str], path: Path) -> Sequence[SourceFile]:
    for glob in globs:
        if not any(fnmatchcase(task, glob) for task in found):
            raise SourceError(f"{path}: has no task {quoted(glob)}{hint(glob, found)}")
    return [file for task, file in sorted(found.items()) if any(fnmatchcase(task, glob) for glob in globs)]


def _named(found: Mapping[str, SourceFile], names: Sequence[str], tasks_file: Path, path: Path) -> Sequence[SourceFile]:
    missing = [name for name in names if name not in found]
    if missing:
        first = f"{missing[0]!r}, the first of them," if len(missing) > 1 else repr(missing[0])
        raise SourceError(
            f"{tasks_file}: names {counted(len(missing), 'task')} that {path} does not have ({first} is missing)"
        )
    return [found[name] for name in sorted(set(names))]


def _lines(tasks_file: Path) -> Sequence[str]:
    try:
        lines = tasks_file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise SourceError(f"{tasks_file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{tasks_file}: is not UTF-8 (byte {error.start})") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise SourceError(f"{tasks_file}: names no task")
    return names


def _around(task: TaskFile) -> tuple[str, str]:
    """Return the text before and the text after the instance in every question of a task."""
    layout = tomllib.loads((package_files(__package__) / "layout.toml").read_text(encoding="utf-8"))
    examples = [
        layout["example"].format(number=number, input=shown, output=output)
        for number, (shown, output) in enumerate(task.examples, start=1)
    ]
    definition = layout["definition"].format(definition=task.definition)
    return "".join([definition, *examples, layout["instance_before"]]), layout["instance_after"]


def _reading(instances: Sequence[Any], first_place: int, name: str, task: TaskFile, head: str, tail: str) -> Reading:
    import polars as pl

    rows, rejected, left_out = read_instances(instances, first_place=first_place)
    rows = rows.with_columns(
        task=pl.lit(name),
        category=pl.lit(task.category, dtype=pl.String),
        language=pl.lit(task.language, dtype=pl.String),
        reasoning=pl.lit(task.reasoning, dtype=pl.String),
        question=pl.concat_str(pl.lit(head), "input", pl.lit(tail)),
    )
    passed_over = {_EMPTY_OUTPUT: left_out} if left_out else {}
    return Reading(rows=completed(rows, rows_schema()), rejected=rejected, passed_over=passed_over)
