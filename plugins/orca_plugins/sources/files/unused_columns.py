"""Which columns of files nothing reads, so that a build can say what it left aside."""

from collections.abc import Iterable, Sequence

from orca_plugins.sources.files.columns import Wanted
from orca_plugins.sources.files.turns.message_keys import carried_of, holders

FILES_LOOKED_AT = 20
"""Of many files the first ones tell it: files of one collection have the same columns nearly always."""


def unused_columns(names: Iterable[Sequence[str]], wanted: Wanted, beside: Iterable[str] = ()) -> list[str]:
    """The columns that files have and no column of ours is read from, sorted; inside of objects with dotted names.

    Args:
        names: of each file, those inside of objects with dotted names. wanted: what is read, or left out by name.
        beside: columns that rows are put together by.
    """
    carried = [name for names in carried_of(wanted).values() for name in names]
    held = {".".join([*holder, name]) for holder in holders(wanted) for name in carried}
    read = {*wanted.paths.values(), *wanted.ignored, *beside, *held}
    found = {name for of_file in names for name in of_file}
    left = {name for name in found if not any(_is_part(name, path) or _is_part(path, name) for path in read)}
    return sorted(name for name in left if not any(_is_part(name, other) for other in left if other != name))


def _is_part(name: str, whole: str) -> bool:
    """Whether a name is a column or lies inside of it."""
    return name == whole or name.startswith(f"{whole}.")
