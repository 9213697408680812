"""Explain a row's place: from an example or a token back to its source, or from a source's place forward.

Everything is read from the build directory. What a build does not keep (the rank in a draw, the rows that a draw left
out, categories) comes from the store while that still holds the stages the build was made of; else the answer says so.
What a teacher was asked comes from the traces (this user's, where none are named).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from orca_recipes.errors import UserError
from orca_recipes.explain.build_tables import Kept, Lost, begins, stands_at
from orca_recipes.explain.fates import AskedRow, BuildStories
from orca_recipes.explain.story_page import Explanation
from orca_recipes.shards.show.visible import visible

_LONGEST_NUMBER = 18
"""Digits that a place, an int64, can have."""


def explain_example(directory: Path, wanted: str, *, store: Path, traces: Path | None = None) -> Explanation:
    """Trace the example whose id is, or begins with, `wanted`: its source, and its fate in each dataset.

    Raises: BuildError; UserError where there is no such example, or more than one; DamagedShard.
    """
    build = BuildStories.open(directory, store, traces)
    prefix = wanted.lower()
    kept, lost = build.tables.find(begins(prefix))
    mentions: list[Kept | Lost] = [*kept, *lost]
    found = {(mention.record["collection"], mention.record["id"]) for mention in mentions}
    for collection in () if found else build.collections():
        rows = build.memory.rows_beginning(collection, prefix)
        if len(rows) == 1:  # what was made of it may stand under other ids
            told = _rows_at(build, f"{collection}/{rows[0].file}" if rows[0].file else collection, rows[0].place)
            return Explanation(tuple(build.story(row) for row in told))
        found |= {(collection, row.id) for row in rows}
    if not found:
        raise UserError(f"{directory} knows no example {visible(wanted)}{_ignorance(build)}")
    if len(found) > 1:
        raise UserError(f"more than one example of {directory} has an id that begins with {prefix}; give more of it")
    collection, example = found.pop()
    return Explanation((build.story(AskedRow(collection, example, kept, lost)),))


def explain_token(directory: Path, row: int, at: int, *, store: Path, traces: Path | None = None) -> Explanation:
    """Describe the token at place `at` of a row of the build, and why its example is there; both counted from 0.

    Raises: as `explain_example`; UserError where there is no such row or no token at the place.
    """
    build = BuildStories.open(directory, store, traces)
    kept, token = build.tables.at(row, at)
    story = build.story(AskedRow(kept.record["collection"], kept.record["id"], [kept], []))
    fates = [replace(fate, token=token) for fate in story.fates if fate.dataset == kept.shard.dataset]
    return Explanation((replace(story, fates=tuple(fates)),))


def explain_place(directory: Path, source: str, *, store: Path, traces: Path | None = None) -> Explanation:
    """Trace the row at FILE:LINE, COLLECTION/FILE:LINE or COLLECTION:ITEM to its fate in each dataset.

    Raises: as `explain_example`; UserError where the build knows no such file, or no row at that place of it.
    """
    build = BuildStories.open(directory, store, traces)
    file, colon, line = source.rpartition(":")
    if not (colon and file and line.isascii() and line.isdigit() and len(line) <= _LONGEST_NUMBER):
        raise UserError(f"--source {visible(source)}: it wants FILE:LINE, where LINE counts from 1")
    rows = _rows_at(build, file, int(line))
    if not rows:
        raise UserError(f"--source {visible(source)}: {_no_row(build, file, int(line))}")
    return Explanation(tuple(build.story(row) for row in rows))


def _rows_at(build: BuildStories, file: str, place: int) -> list[AskedRow]:
    """Find the rows at a place of every file that a user's text may mean."""
    meanings = list(_meanings(build, file))
    kept, lost = build.tables.find(stands_at([name for _, name in meanings], place))
    found = [row for meaning in meanings for row in _rows_of(build, meaning, place, kept, lost)]
    if found:
        return found
    known = _known_files(build)
    return [
        AskedRow(collection, None, file=name, place=place, exists=False)
        for collection, name in meanings
        if not build.is_all_known(collection) and _is_known((collection, name), known)
    ]


def _rows_of(
    build: BuildStories, meaning: tuple[str, str | None], place: int, kept: Sequence[Kept], lost: Sequence[Lost]
) -> list[AskedRow]:
    """Find the rows at a place of one file of one collection."""
    kept = [each for each in kept if (each.record["collection"], each.record["file"]) == meaning]
    lost = [each for each in lost if (each.record["collection"], each.record["file"]) == meaning]
    stored = {row.id if row.has_id else None: row for row in build.memory.rows_at(*meaning, place)}
    standing = {(each.record["id"], each.shard.dataset) for each in kept}
    standing |= {(each.record["id"], each.dataset) for each in lost}
    made = {example for example, _ in standing}
    # A row that was expanded stands in the build as what was made of it, and no longer under its own id.
    examples = made | (stored.keys() if made <= stored.keys() else set())
    only = next(iter(stored.values())) if len(stored) == 1 else None
    return [
        AskedRow(
            collection=meaning[0],
            example=example,
            kept=[each for each in kept if each.record["id"] == example],
            lost=[each for each in lost if each.record["id"] == example],
            stored=stored.get(example, only),
            elsewhere=frozenset(dataset for other, dataset in standing if other != example),
        )
        for example in sorted(examples, key=lambda example: example or "")
    ]


def _meanings(build: BuildStories, file: str) -> Iterator[tuple[str, str | None]]:
    """Yield each (collection, file) that a text may mean: a file, "collection/file", or a generated collection."""
    # A file's own name may begin with a collection's: all meanings are looked for, and rows decide.
    for collection in build.collections():
        yield collection, file
        if file == collection:
            yield collection, None
        if file.startswith(f"{collection}/"):
            yield collection, file.removeprefix(f"{collection}/")


def _known_files(build: BuildStories) -> set[tuple[str, str]]:
    held = {(collection, file) for collection in build.collections() for file in build.memory.files(collection)}
    return build.tables.files() | held


def _is_known(meaning: tuple[str, str | None], known: set[tuple[str, str]]) -> bool:
    """Tell whether a collection is known to read a file, or to be generated, because none of its rows has a file."""
    collection, name = meaning
    return meaning in known if name is not None else all(collection != other for other, _ in known)


def _no_row(build: BuildStories, file: str, line: int) -> str:
    """Word why nothing is found at a place, as the end of a sentence."""
    known = _known_files(build)
    meant = sorted({meaning[0] for meaning in _meanings(build, file) if _is_known(meaning, known)})
    if meant:
        before = build.tables.last_before([name for _, name in _meanings(build, file)], line)
        # A quoted text of a table may hold ends of lines; its row is known by the line that it begins on.
        is_table = {".csv", ".tsv"} & {*Path(file).suffixes}
        hint = f"; the row before it begins on line {before}, which may be the one" if is_table and before else ""
        return f"collection {' and '.join(meant)} has no row there{hint}"
    names = sorted({name for pair in known for name in (pair[1], "/".join(pair))})
    # An absolute path, or the end of one, is what people copy from a shell; `show` prints the name below the source.
    near = [name for name in names if file.endswith(f"/{name}") or f"/{file}/" in f"/{name}/"]
    near = near or get_close_matches(file, names, n=1)
    hint = f"; did you mean {visible(near[0])}?" if near else ""
    return f"no row of {build.tables.directory} is known to come from there{hint}{_ignorance(build)}"


def _ignorance(build: BuildStories) -> str:
    """Word the limits of knowledge without the store, as the end of a sentence; "" where there are none."""
    told = "; ".join(build.memory.absence(name) for name in build.collections() if not build.is_all_known(name))
    return f" (what draws left out is unknown: {told})" if told else ""
