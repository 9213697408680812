"""Columns that a recipe names and JSON does not have, each line of which may hold other keys.

What first rows lack, later ones may have: of a column that is stored the core can tell, once all are read. A text made
of several hides which of them it was made of, so these are looked for here, in all rows if need be.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from orca_plugins.sources.files.json_rows import jsonl
from orca_plugins.sources.files.manners import Manner
from orca_plugins.sources.files.row_records import has_column
from orca_plugins.sources.files.unused_columns import FILES_LOOKED_AT
from orca_recipes.contract.kinds import SourceFile

_JSON = ("jsonl", "json")


def lacking(files: Sequence[SourceFile], named: Mapping[str, str], manner: Manner) -> dict[str, str]:
    """Return the columns that the first rows of the first files lack.

    Args:
        named: ours to theirs. Of typed files and tables a column that is missing is refused where the file is read.
    """
    rows = _first_rows(files, manner) if named else []
    return _not_in(rows, named) if rows else {}


def absent(files: Sequence[SourceFile], named: Mapping[str, str], manner: Manner) -> dict[str, str]:
    """Return the columns that no row of these files has; nearly all are found in the first rows."""
    left = _not_in(_first_rows(files, manner), named) if named else {}
    for file in files:
        if left and manner.layout(file) in _JSON:
            left = _not_in(_rows_with(file, left.values(), manner), left)
    return left


def _first_rows(files: Sequence[SourceFile], manner: Manner) -> list[dict[str, Any]]:
    of_json = [file for file in files[:FILES_LOOKED_AT] if manner.layout(file) in _JSON]
    return [row for _, found in manner.heads(of_json) for row in found]


def _not_in(rows: Iterable[dict[str, Any]], named: Mapping[str, str]) -> dict[str, str]:
    left = dict(named)
    for row in rows:
        left = {ours: path for ours, path in left.items() if not has_column(row, path)}
        if not left:
            break
    return left


def _rows_with(file: SourceFile, paths: Collection[str], manner: Manner) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file that may have one of some columns."""
    # A line that holds neither a key nor any escape, with which it may be spelt, is not decoded.
    spelt = re.compile(b"|".join([rb"\\u", *(re.escape(_key(path).encode()) for path in paths)]))
    rows = jsonl.raw_rows(file, holding=spelt) if manner.layout(file) == "jsonl" else manner.raw_rows(file)
    return (row for _, row in rows if isinstance(row, dict))


def _key(path: str) -> str:
    """Return the last key of a path that is no index into a list."""
    keys = [key for key in path.split(".") if not key.isdecimal()]
    return keys[-1] if keys else ""
