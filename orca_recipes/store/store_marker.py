"""The marker of a store, so that nobody's files are taken for stages and removed.

A store is made in an empty folder and holds a marker from then on. Stores of versions that wrote none are known by what
they hold, and marked when they are first used.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from orca_recipes.errors import NoStore, StoreError

MARKER = "orca-store.json"

FOLDERS = ("stages", "builds", "locks", "running")

STAGE = re.compile(r".+-[0-9a-f]{20}")
"""The name of a stage's folder: its label and the beginning of its fingerprint."""

_ASIDE = r"\..+\.\d+"
"""What was not written to the end."""
_HELD = {
    "builds": re.compile(rf".+-[0-9a-f]{{16}}\.json|{_ASIDE}"),
    "locks": re.compile(rf"{STAGE.pattern}\.lock|{_ASIDE}"),
    "running": re.compile(rf"[0-9a-f]{{16}}\.(lock|json)|door|{_ASIDE}"),
}
_SYSTEMS = "lost+found"
"""A new disk holds it at its root."""
_NAMED = 3


def open_store(root: Path) -> None:
    """Make a folder a store, where it is empty or not there; where it is one, see that it has its marker.

    Raises: NoStore where it holds something else, naming it; StoreError where it cannot be written.
    """
    if (root / MARKER).is_file():
        _make_folders(root)
        return
    foreign = list(islice(_foreign(root), _NAMED + 1))
    # Another build may have made it a store between the two looks.
    if foreign and not (root / MARKER).is_file():
        told = ", ".join(foreign[:_NAMED]) + (" and more" if len(foreign) > _NAMED else "")
        raise NoStore(
            f"{root} is no store and is not empty: it holds {told}; "
            "choose another folder with --store or ORCA_STORE: one that is empty, or not there yet"
        )
    is_older = (root / FOLDERS[0]).is_dir()
    _make_folders(root)
    try:
        _mark(root)
    except OSError as error:
        # One that may only be read goes on without: nothing can be removed there either.
        if not is_older:
            raise _unwritable(root, error) from error


def marker_text() -> str:
    """Return the text of a store's marker file."""
    told = {"store": "of orca-recipe: finished stages, which `orca-recipe clean` removes", "version": 1}
    return f"{json.dumps(told)}\n"


def _foreign(root: Path) -> Iterator[str]:
    """Yield the paths in a folder without a marker that belong to no store."""
    if not root.is_dir():
        return
    there = [path for path in sorted(root.iterdir()) if path.name != _SYSTEMS]
    known = [path for path in there if path.name in FOLDERS and path.is_dir() and not path.is_symlink()]
    for folder in known:
        yield from (f"{folder.name}/{path.name}" for path in sorted(folder.iterdir()) if not _is_stores(folder, path))
    if len(known) < len(FOLDERS):
        # All four are made at once, so that whoever finds fewer sees a store that is just being made, or none.
        yield from (path.name for path in there if path not in known)


def _is_stores(folder: Path, path: Path) -> bool:
    if folder.name == "stages":
        return bool(STAGE.fullmatch(path.name)) and path.is_dir() and not path.is_symlink()
    return bool(_HELD[folder.name].fullmatch(path.name)) and path.is_file() and not path.is_symlink()


def _make_folders(root: Path) -> None:
    try:
        for name in FOLDERS:
            # Through links, also where what one leads to is still to be made.
            (root.resolve() / name).mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise _unwritable(root, error) from error


def _mark(root: Path) -> None:
    with suppress(FileExistsError):
        # O_EXCL: of two builds that begin a store at once, one writes its marker.
        marker = os.open(root / MARKER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            os.write(marker, marker_text().encode())
        finally:
            os.close(marker)


def _unwritable(root: Path, error: Exception) -> StoreError:
    why = getattr(error, "strerror", None) or error
    return StoreError(f"the store {root} cannot be written ({why}); choose another with --store or ORCA_STORE")
