"""Publishing of folders: made aside, then put in place whole, wherever the place is and whatever lies there.

Usually it is made beside its place and renamed over it. A place that cannot be renamed (a mount point, or a folder
whose parent may not be written) is filled from inside: then the file that says that all is there, named `last`, is
taken away first and put back last, so that half of an older folder and half of a newer one are never taken for a whole.
A place that is a link is where the link leads. Nothing is removed but what its owner lists as its own.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Set
from pathlib import Path

from orca_recipes.errors import BuildError
from orca_recipes.shards.files import sync_folder

_SYSTEMS = "lost+found"
"""A new disk holds it at its root."""

INSIDE_LOCK = ".orca-recipe.lock"
"""Held by who fills a place from inside, in whose parent nothing may be written."""

_MAKING = "building"
_OLDER = "replaced"
_INSIDE = re.compile(rf"\.[0-9a-f]{{12}}\.({_MAKING}|{_OLDER})")

Own = Callable[[Path], Set[str]]
"""Gives the files of a folder that may be removed, as paths relative to it with forward slashes."""


def followed(directory: Path) -> Path:
    """Resolve a folder's path through links; the folder need not exist.

    Raises: BuildError where its links lead in a circle.
    """
    try:
        return directory.resolve()
    except (OSError, RuntimeError) as error:
        raise BuildError(f"{directory} is a link that leads nowhere; choose another place") from error


def file_above(place: Path) -> Path | None:
    """Find the file that stands where a folder above a place should be; None where there is none."""
    first = next(above for above in followed(place).parents if above.exists())
    return None if first.is_dir() else first


def is_filled_from_inside(directory: Path) -> bool:
    """Tell whether a folder, named without links, exists and cannot be renamed."""
    if not directory.is_dir():
        return False
    return _is_mounted(directory) or not os.access(directory.parent, os.W_OK | os.X_OK)


def make_aside(directory: Path, name: str | None = None) -> Path:
    """Create a folder on the same disk for the contents of a place, or reopen one that `put_back` spared, by its name.

    name: 12 hexadecimal digits.
    """
    aside = _named(directory, _MAKING, name)
    aside.mkdir(parents=True, exist_ok=name is not None)
    return aside


def foreign_files(directory: Path, own: Set[str]) -> Iterator[str]:
    """Yield files, links and folders that are not a folder's own, as relative paths in their order.

    A link is never its owner's, whatever its name is: only real files are written.
    """
    folders = {path.as_posix() for name in own for path in Path(name).parents}

    def beside(folder: Path) -> Iterator[str]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = Path(entry.path)
            name = path.relative_to(directory).as_posix()
            if path.parent == directory and (_INSIDE.fullmatch(entry.name) or entry.name in (INSIDE_LOCK, _SYSTEMS)):
                continue
            if entry.is_dir(follow_symlinks=False):
                if name in folders:
                    yield from beside(path)
                else:
                    yield f"{name}/"
            elif name not in own or not entry.is_file(follow_symlinks=False):
                yield name

    return beside(directory)


def put_in_place(aside: Path, directory: Path, *, last: str, own: Own) -> None:
    """Put a finished folder in its place; an older one may lie there, whose own files are removed.

    Args:
        aside: of `make_aside`. directory: without links. last: the file whose presence means completeness.
        own: asked of the older folder; what it does not list stays, aside.
    """
    older = _named(directory, _OLDER)
    if aside.parent == directory:
        older.mkdir()
        _fill(aside, directory, older, last=last, own=own)
    else:
        if directory.exists():
            os.replace(directory, older)
        os.replace(aside, directory)
        sync_folder(directory.parent)
    _remove_own(older, own, last=last)


def give_up(aside: Path, directory: Path, *, last: str) -> None:
    """Remove what was made aside and will not be put in its place; what is half in place stays for `put_back`."""
    if not has_been_left_half_filled(directory, last=last):
        shutil.rmtree(aside, ignore_errors=True)


def put_back(directory: Path, *, last: str, own: Own, spared: str | None = None) -> None:
    """Tidy up after a process that was killed.

    An older folder that it had moved away is put back, and its own half-made one is removed; one that it was filling
    from inside is filled to the end.

    directory: without links. spared: the name of a half-made one that is not removed, for `make_aside`.
    """
    asides, olders = _left(directory, _MAKING), _left(directory, _OLDER)
    for older in olders:
        if older.parent == directory and (older / last).exists() and not (directory / last).exists():
            for aside in asides:
                if aside.parent == directory and (aside / last).exists():
                    _fill(aside, directory, older, last=last, own=own)
        elif older.parent != directory and (older / last).exists() and not directory.exists():
            os.replace(older, directory)
    kept = None if spared is None else _named(directory, _MAKING, spared)
    for aside in asides:
        if aside != kept:
            shutil.rmtree(aside, ignore_errors=True)
    if not has_been_left_half_filled(directory, last=last):
        for older in olders:
            _remove_own(older, own, last=last)


def has_been_left_half_filled(directory: Path, *, last: str) -> bool:
    """Tell whether a process was killed while it filled a folder from inside; `put_back` mends that."""
    inside = (older for older in _left(directory, _OLDER) if older.parent == directory)
    return not (directory / last).exists() and any((older / last).exists() for older in inside)


def _fill(aside: Path, directory: Path, older: Path, *, last: str, own: Own) -> None:
    """Move a folder's old contents out and the new ones in; after a kill at any point, the same call goes on."""
    if (directory / last).exists():
        os.replace(directory / last, older / last)
        sync_folder(directory)
    was, now = ({Path(name).parts[0] for name in own(folder)} - {last} for folder in (older, aside))
    coming = sorted(path.name for path in aside.iterdir() if path.name != last)
    # Where a name still has to come, what bears it here is older; where it came already, it is not.
    for name in sorted({*coming, *(was - now)}):
        if (directory / name).exists():
            os.replace(directory / name, older / name)
    for name in coming:
        os.replace(aside / name, directory / name)
    sync_folder(directory)
    os.replace(aside / last, directory / last)
    sync_folder(directory)
    aside.rmdir()


def _remove_own(folder: Path, own: Own, *, last: str) -> None:
    """Remove a folder's own files, and the folders that are empty then; whatever else came into it stays."""
    if not folder.is_dir():
        return
    # The file that tells which are its own goes last: whoever is killed before goes on with the rest.
    names = sorted(own(folder), key=lambda name: (name == last, name))
    for name in names:
        if not (folder / name).is_symlink():
            (folder / name).unlink(missing_ok=True)
    folders = {folder / parent for name in names for parent in Path(name).parents}
    for emptied in sorted({*folders, folder}, key=lambda path: len(path.parts), reverse=True):
        try:
            emptied.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST):
                raise


def _named(directory: Path, what: str, name: str | None = None) -> Path:
    name = f"{name or secrets.token_hex(6)}.{what}"
    if is_filled_from_inside(directory):
        return directory / f".{name}"
    return directory.with_name(f".{directory.name}.{name}")


def _left(directory: Path, what: str) -> list[Path]:
    """Find folders of one kind left behind by processes that ended, inside a place and beside it."""
    inside = re.compile(rf"\.[0-9a-f]{{12}}\.{what}")
    # Without twelve digits: as older versions named it.
    beside = re.compile(rf"\.{re.escape(directory.name)}\.([0-9a-f]{{12}}\.)?{what}")
    found = [path for path in _entries(directory) if inside.fullmatch(path.name)]
    found += [path for path in _entries(directory.parent) if beside.fullmatch(path.name)]
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK) else []


def _is_mounted(directory: Path) -> bool:
    """Tell whether a folder is a mount point; `ismount` misses a folder bound on its own disk."""
    if os.path.ismount(directory):
        return True
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    return any(_unescaped(line.split(" ")[4]) == str(directory) for line in lines)


def _unescaped(name: str) -> str:
    """Decode a path from the kernel's mount list, which writes blanks, tabs, newlines and backslashes in octal."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), name)
