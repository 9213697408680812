"""Columns of files that nothing reads, so that a build can name them."""

from collections.abc import Iterable, Sequence

from orca_plugins.sources.files.columns import Wanted
from orca_plugins.sources.files.turns.message_keys import carried_of, holders

FILES_LOOKED_AT = 20
"""Of many files the first ones tell it: files of one collection have the same columns nearly always."""


def unused_columns(names: Iterable[Sequence[str]], wanted: Wanted, beside: Iterable[str] = ()) -> list[str]:
    """List the columns of files that nothing is read from, sorted; fields of objects have dotted names.

    Args:
        names: the columns of each file; fields of objects have dotted names. wanted: what is read, or ignored by name.
        beside: columns by which rows are put together (keys of trees).
    """
    carried = [name for names in carried_of(wanted).values() for name in names]
    held = {".".join([*holder, name]) for holder in holders(wanted) for name in carried}
    read = {*wanted.paths.values(), *wanted.ignored, *beside, *held}
    found = {name for of_file in names for name in of_file}
    left = {name for name in found if not any(_is_part(name, path) or _is_part(path, name) for path in read)}
    return sorted(name for name in left if not any(_is_part(name, other) for other in left if other != name))


def _is_part(name: str, whole: str) -> bool:
    """Tell whether a name is a column or lies inside of it."""
    return name == whole or name.startswith(f"{whole}.")
