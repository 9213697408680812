"""A preview of the first rows of files, before anything is built: the layout they look like, and the faults they have.

Nothing here decides what is read. Rows are tried as a build would read them; a layout is suggested where it would read
them better than the recipe does.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from orca_plugins.sources.files.checked_rows import NO_CONTENT, NOT_A_MESSAGE, unknown_role
from orca_plugins.sources.files.columns import (
    Shape,
    Theirs,
    Wanted,
    columns_in_file,
    named,
    shown,
    shown_path,
    wanted_columns,
)
from orca_plugins.sources.files.json_rows.strict_json import BadRow
from orca_plugins.sources.files.places.formats import compression_of, format_of
from orca_plugins.sources.files.row_records import Rows, has_column, look_at_head, names_in
from orca_plugins.sources.files.shapes import equally_fitting, fitting, shape_named
from orca_plugins.sources.files.unused_columns import unused_columns
from orca_recipes.contract.kinds import SourceFile
from orca_recipes.contract.source import Look
from orca_recipes.errors import SourceError
from orca_recipes.shards.layout import ROLES

# Users name files wrongly: the first bytes tell what a file is whose name says something else.
_MAGIC = {
    b"\x1f\x8b": ".gz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"\xfd7zX": ".xz",
    b"BZh": ".bz2",
    b"PK\x03\x04": ".zip",
    b"PAR1": ".parquet",
    b"ARRO": ".arrow",
}
_COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".xz": "xz", ".bz2": "bzip2"}

Heads = Sequence[tuple[SourceFile, list[dict[str, Any]]]]


def looked_at(heads: Heads, wanted: Wanted | None, *, named: str | None, chosen_by_hand: bool) -> Look:
    """Guess the layout of some files from their first rows, and find the faults that a build would report.

    Args:
        wanted: what the recipe reads; None where no shape can be told. named: the shape that the recipe
            names.
        chosen_by_hand: whether the recipe names columns.
    """
    rows = [row for _, found in heads for row in found]
    candidates = fitting(rows)
    best = equally_fitting(rows)
    shape = best[0] if len(best) == 1 else None
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    is_tree = named is not None and bool(shape_named(named).tree)
    faults = [*_misnamed(heads)]
    if wanted is not None:
        faults += _unreadable(heads, wanted, is_tree=is_tree)
    if named is None and wanted is not None:
        faults += _better(rows, wanted, best, has_faults=bool(faults), chosen_by_hand=chosen_by_hand)
    told = shape_named(shape) if shape is not None else None
    return Look(
        shape=shape,
        candidates=tuple(candidates),
        columns=said_columns(told, columns) if told is not None else {},
        is_plain=told is None or (told.is_plain and told.history not in columns),
        about=told.about if told is not None else "",
        found=columns,
        rows=len(rows),
        answered=len(rows) if is_tree or wanted is None else sum(_is_answered(row, wanted) for row in rows),
        beside=() if is_tree or wanted is None else _beside(rows, wanted),
        unused=() if wanted is None else _unused(rows, wanted, named),
        faults=tuple(faults),
    )


def _unused(rows: Sequence[Mapping[str, Any]], wanted: Wanted, named: str | None) -> tuple[str, ...]:
    keys = shape_named(named).tree.values() if named is not None else ()
    return tuple(unused_columns([names_in(dict(row)) for row in rows], wanted, keys))


def said_columns(shape: Shape, found: Sequence[str]) -> dict[str, Any]:
    """Map our columns to theirs as a recipe would write them in place of a shape; optional ones only where rows have
    them."""
    there = {ours: theirs for ours, theirs in shape.may_be.items() if all(name in found for name in named(theirs))}
    both: dict[str, Theirs] = {**shape.columns, **there}
    return {ours: theirs if isinstance(theirs, str) else list(theirs) for ours, theirs in both.items()}


def _misnamed(heads: Heads) -> Iterator[str]:
    """Yield a fault for each file with first bytes of another compression or format than its name's."""
    for file, _ in heads:
        with file.path.open("rb") as stream:
            start = stream.read(4)
        suffix = next((suffix for magic, suffix in _MAGIC.items() if start.startswith(magic)), None)
        if suffix in _COMPRESSED and compression_of(file.path.name) is None:
            yield f"{shown_path(file.path)}: is {_COMPRESSED[suffix]}: name it {shown(file.path.name)}{suffix}"
        elif suffix in (".zip", ".parquet", ".arrow") and format_of(file.path.name) != suffix.removeprefix("."):
            yield f"{shown_path(file.path)}: is {suffix.removeprefix('.')}, which its name does not say; rename it"


def _unreadable(heads: Heads, wanted: Wanted, *, is_tree: bool) -> Iterator[str]:
    """Yield the faults of the first rows, tried as a build would read them."""
    for file, rows in heads:
        where = shown_path(file.path)
        names = list(dict.fromkeys(name for row in rows for name in names_in(row)))
        if not rows or is_tree:
            continue
        try:
            look_at_head(where, rows, wanted)
            if format_of(file.path.name) in ("csv", "tsv", "parquet", "arrow"):
                indexed = [path for path in wanted.paths.values() if any(has_column(row, path) for row in rows)]
                columns_in_file(file=where, wanted=wanted, names=[*dict.fromkeys([*names, *indexed])])
        except SourceError as fault:
            yield str(fault)
            continue
        reasons = [(number, why) for number, row in enumerate(rows, 1) if (why := _tried(row, wanted)) is not None]
        if reasons:
            number, why = reasons[0]
            told = f"{len(reasons)} of the first {len(rows)} rows cannot be read, row {number}"
            yield f"{where}: {told if len(rows) > 1 else 'its only row cannot be read'}: {why}"


def _is_answered(row: Mapping[str, Any], wanted: Wanted) -> bool:
    """Tell whether a row brings an answer, in a column or as its last message; true for a row that cannot be read."""
    rows = Rows(wanted)
    try:
        rows.add(1, row)
    except BadRow:
        return True
    values = {ours: found[0] for ours, found in rows.columns.items()}
    last = (values.get("messages") or [None])[-1]
    told = values.get("answer") or values.get("reference")
    return bool(told) or (last is not None and last["role"] != "user")


def _beside(rows: Sequence[Mapping[str, Any]], wanted: Wanted) -> tuple[str, ...]:
    """List what the readable rows hold beside texts: calls, tools, thoughts."""
    found = Rows(wanted)
    for row in rows:
        with suppress(BadRow):
            found.add(1, row)
    turns = [turn for talk in found.columns.get("messages", ()) for turn in talk or () if turn is not None]
    held = {
        "calls": any(turn["tool_calls"] for turn in turns),
        "tools": any(found.columns.get("tools", ())),
        "thoughts": any(turn["reasoning"] for turn in turns),
    }
    return tuple(what for what, is_held in held.items() if is_held)


def _tried(row: Mapping[str, Any], wanted: Wanted) -> str | None:
    """Return the reason why a row cannot be read, None where it can."""
    rows = Rows(wanted)
    try:
        rows.add(1, row)
    except BadRow as reason:
        return str(reason)
    turns = rows.columns.get("messages", [None])[0] or ()
    return rows.faults.get(0) or next((why for turn in turns if (why := _fault_of_turn(turn)) is not None), None)


def _fault_of_turn(turn: Mapping[str, Any] | None) -> str | None:
    """Return the fault of a message, None if it is sound; the same checks as `checked_rows` makes on whole columns."""
    if turn is None:
        return NOT_A_MESSAGE
    if turn["fault"] is not None:
        return str(turn["fault"])
    if turn["role"] not in ROLES[1:]:
        return unknown_role(turn["role"])
    return NO_CONTENT if turn["content"] is None else None


def _better(
    rows: Sequence[Mapping[str, Any]], wanted: Wanted, best: Sequence[str], *, has_faults: bool, chosen_by_hand: bool
) -> Iterator[str]:
    """Suggest layouts for rows that the recipe cannot read, or does not read whole."""
    for name in best:
        shape = shape_named(name)
        left = [theirs for theirs in _read_by(shape) if theirs not in wanted.paths.values() and _filled(rows, theirs)]
        if has_faults and ((shape.is_plain and not left) or not _reads(shape, rows)):
            continue
        if has_faults or (left and chosen_by_hand and _is_of_question(shape, wanted)):
            beside = f", and the recipe does not read {', '.join(map(shown, left))}" if left and not has_faults else ""
            told = json.dumps(name)
            columns = ", ".join(f"{ours} = {json.dumps(theirs)}" for ours, theirs in said_columns(shape, ()).items())
            alike = "" if not shape.is_plain else f", or columns = {{ {columns} }}"
            yield f"the rows look like {name} ({shape.about}){beside}: shape = {told} reads them{alike}"


def _reads(shape: Shape, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a shape reads most of some rows; of trees no row tells."""
    wanted = wanted_columns(columns=None, task=None, shape=shape)
    return bool(shape.tree) or 2 * sum(_tried(row, wanted) is not None for row in rows) < len(rows)


def _read_by(shape: Shape) -> list[str]:
    return [name for theirs in shape.columns.values() for name in named(theirs)]


def _is_of_question(shape: Shape, wanted: Wanted) -> bool:
    """Tell whether the recipe's question is one of the columns that a shape joins into its question."""
    theirs = shape.columns.get("question", ())
    return not isinstance(theirs, str) and bool(theirs) and wanted.paths.get("question") in theirs


def _filled(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(row.get(name) not in (None, "") for row in rows)
