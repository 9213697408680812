"""How the cost of a cold build grows along each axis, everything else held still.

A slope is the least-squares line through the CPU seconds of a few sizes; beside it stands the cost at each of them, so
that a curve that is no line can be seen. One worker builds, so that no part of the cost hides on another core.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tests.bench.corpus import Corpus, Library
from tests.bench.measure import Cost, measure
from tests.bench.recipes import Build, Student
from tests.bench.table import table
from tests.bench.trials import COMMAND


@dataclass(frozen=True)
class Axis:
    """What grows: its sizes, and the build at each; a slope is told for `each` of it."""

    name: str
    each: int
    sizes: Sequence[int]
    build: Callable[[int], Build]


def slopes(folder: Path, student: Student, library: Library, examples: int) -> str:
    """A table of slopes.

    Args:
        folder: an empty one, for corpora and builds.
        examples: how many every build holds, where they are not what grows.
    """
    rows = [_row(axis, folder) for axis in _axes(folder, student, library, examples)]
    heads = ("axis", "sizes", "CPU s", "CPU ms for", "slope", "peak MiB")
    return table(f"How a cold build of {examples:,} examples grows, one worker", heads, rows)


def _axes(folder: Path, student: Student, library: Library, examples: int) -> Iterator[Axis]:
    corpus = library.of_rows(examples)
    whole = Build(student, (corpus,))
    tokens = corpus.text_bytes // 3
    yield Axis(
        "examples",
        1000,
        [examples, 2 * examples, 4 * examples],
        lambda size: whole.with_changes(corpora=(library.of_rows(size),)),
    )
    yield Axis(
        "tasks",
        100,
        [1, 100, 10_000],
        lambda size: whole.with_changes(corpora=(_with_tasks(corpus, folder, size),), tasks_in_rows=True),
    )
    yield Axis(
        "collections", 1, [1, 8, 32], lambda size: whole.with_changes(corpora=tuple(_divided(corpus, folder, size)))
    )
    yield Axis("shards", 1, [1, 16, 64], lambda size: whole.with_changes(shard_tokens=max(1, tokens // size)))
    yield Axis("row tokens", 1024, [1024, 4096, 16_384], lambda size: whole.with_changes(row_tokens=size))


def _row(axis: Axis, folder: Path) -> tuple[str, ...]:
    costs = [_cost(axis.build(size), folder / "build") for size in axis.sizes]
    seconds = [cost.cpu_seconds for cost in costs]
    slope = np.polyfit(axis.sizes, seconds, 1)[0] * axis.each * 1e3
    return (
        axis.name,
        " / ".join(f"{size:,}" for size in axis.sizes),
        " / ".join(f"{spent:.1f}" for spent in seconds),
        f"{axis.each:,} {axis.name}",
        f"{slope:.2f}",
        " / ".join(str(cost.peak_bytes >> 20) for cost in costs),
    )


def _cost(build: Build, folder: Path) -> Cost:
    shutil.rmtree(folder, ignore_errors=True)
    recipe = build.write(folder / "recipe.toml")
    return measure([COMMAND, "build", recipe, "--store", "store", "--out", "out", "--workers", "1"], folder=folder)


def _with_tasks(corpus: Corpus, folder: Path, tasks: int) -> Corpus:
    """The same conversations, each of one of so many tasks in turn."""
    path = folder / f"tasks-{tasks}.jsonl"
    with corpus.path.open(encoding="utf-8") as lines, path.open("w", encoding="utf-8") as file:
        for number, line in enumerate(lines):
            file.write(f'{{"task": "task-{number % tasks}", {line[1:]}')
    return replace(corpus, path=path, file_bytes=path.stat().st_size)


def _divided(corpus: Corpus, folder: Path, parts: int) -> Iterator[Corpus]:
    """The same conversations, dealt out to files of about equal size."""
    paths = [folder / f"part-{part}-of-{parts}.jsonl" for part in range(parts)]
    files = [path.open("wb") for path in paths]
    with corpus.path.open("rb") as lines:
        for number, line in enumerate(lines):
            files[number % parts].write(line)
    for path, file in zip(paths, files, strict=True):
        file.close()
        yield replace(corpus, path=path, file_bytes=path.stat().st_size)
