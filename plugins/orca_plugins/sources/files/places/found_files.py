"""The files that a path names, and their formats by name.

A path is taken literally as far as it exists; the rest is a pattern. So a folder with brackets in its name is still a
folder, and files are named relative to the part before the pattern.
"""

import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from orca_plugins.sources.files.columns import nearest, shown, shown_path
from orca_plugins.sources.files.places.archive_members import members
from orca_plugins.sources.files.places.dataset_folders import NOTES, files_of, split_of_name, splits_of
from orca_plugins.sources.files.places.formats import FORMATS, Format, format_of, is_archive, said_formats
from orca_recipes.contract.kinds import SourceFile
from orca_recipes.errors import SourceError

_MAGIC = re.compile(r"[*?\[]")
_NAMES_SHOWN = 3


def find_files(
    *, path: Path, format: Format | None, config: str | None = None, split: Sequence[str] = ()
) -> list[SourceFile]:
    """List the files that a path names, sorted by name.

    Args:
        path: a file, a folder (its files of a known format), a pattern with *, ?, [...] and **, or an archive, whose
            members a pattern may follow.
        format: the recipe's, where it sets one; then any name will do, except in a folder or a whole archive.
        config, split: what is meant of a folder that says what it holds.
    Raises: SourceError where there is none, or where one is not a file that may be read.
    """
    base, pattern = _literal_part(path)
    if is_archive(base.name) and base.is_file():
        return _members(base, base.name, pattern, format)
    if not pattern and os.path.isdir(base):
        found = files_of(base, config=config, split=split, matching=_matches)
        if found is None and (config is not None or split):
            raise SourceError(f"{shown_path(base)}: this folder tells no splits apart; leave out split")
        if found is None:
            found = [name for name in _entries(base, "*") if _is_of_format(name, format) and name not in NOTES]
        nothing = f"{shown_path(base)}: no file of a known format in this folder ({said_formats()})" + _held(base)
    elif config is not None or split:
        raise SourceError(f"{shown_path(path)}: config and split are of folders that are data sets; leave them out")
    elif not pattern:
        base, found, nothing = base.parent, [base.name], ""
    else:
        found = [name for name in _matches(base, pattern) if not _is_plain_folder(base / name)]
        nothing = f"{shown_path(path)}: no file matches this pattern"
    if not found:
        raise SourceError(nothing)
    files = [file for name in found for file in _files_of_name(base, name, format)]
    return sorted(files, key=lambda file: file.name)


def remarks_on(path: Path, found: Sequence[SourceFile], *, config: str | None, split: Sequence[str]) -> list[str]:
    """Say which splits of a folder are read; or, where nothing tells them apart, that some files are named as sets to
    test with."""
    splits = splits_of(path, config=config, matching=_matches) if path.is_dir() else []
    if splits:
        read = list(split) or [name for name in splits if name == "train" or len(splits) == 1]
        is_part = any(name not in read for name in splits)
        return [f"it has splits {_listed(splits)}; the recipe reads {_listed(read)}"] if is_part else []
    names = [file.name for file in found]
    to_test = [name for name in names if split_of_name(name) in ("validation", "test")]
    if not to_test or len(to_test) == len(names):
        return []
    return [
        f"files named as sets to test with are read, too: {_listed(to_test)}; a pattern in path leaves them out, as "
        "DATA/train* does"
    ]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(map(shown, names[:_NAMES_SHOWN])) + more


def _files_of_name(base: Path, name: str, format: Format | None) -> list[SourceFile]:
    """List the one file of this name, or the members of the archive of this name."""
    if is_archive(name):
        return _members(_checked(base, name, "jsonl").path, name, (), format)
    return [_checked(base, name, format)]


def _members(archive: Path, name: str, pattern: tuple[str, ...], format: Format | None) -> list[SourceFile]:
    """Return members of an archive; where it is named whole or by a pattern, those of a format that is read."""
    is_named = bool(pattern) and not _MAGIC.search(pattern[-1])
    if is_named and format is None and format_of(pattern[-1]) is None:
        raise SourceError(
            f"{shown_path(archive)}: the name of member {shown('/'.join(pattern))} does not say the format; set "
            'format = "jsonl", json, csv, tsv, parquet or arrow'
        )
    takes_all = format is not None and bool(pattern)
    wished = "any" if takes_all else str(format)
    return members(archive, name, pattern, lambda name: takes_all or _is_of_format(name, format), wished=wished)


def _held(folder: Path) -> str:
    """Return the hint how to name archives in a folder, or files in the folders below it; empty where there are
    none."""
    name = next((name for name in _entries(folder, "*") if is_archive(name)), None)
    if name is not None:
        return f"; to read the members of archives, name them: {shown(name)}"
    below = next((name for name in _matches(folder, ("**",)) if format_of(name) is not None), None)
    if below is None:
        return ""
    ending = below.rpartition("/")[2].partition(".")[2]
    return f"; a pattern names those in the folders below it: {shown_path(folder / '**' / f'*.{ending}')}"


def files_below(path: Path) -> list[SourceFile]:
    """List a file, or the files of known formats in a folder and the folders below it, sorted by name.

    Raises: SourceError where there is none, or where one is not a file that may be read.
    """
    if not path.is_dir():
        return find_files(path=path, format=None)
    names = [name for name in _matches(path, ("**",)) if format_of(name) is not None]
    if not names:
        raise SourceError(f"{shown_path(path)}: no file of a known format in this folder, nor in those below it")
    return [_checked(path, name, None) for name in sorted(names)]


def _literal_part(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Split a path into its longest existing part and the pattern after it."""
    if os.path.lexists(path):
        return path, ()  # a look at each part costs more where thousands of files are named
    base = Path(path.anchor)
    parts = path.parts[1:] if path.anchor else path.parts
    for place, part in enumerate(parts):
        if not os.path.lexists(base / part):
            if is_archive(base.name) and base.is_file():
                return base, parts[place:]
            if not any(_MAGIC.search(rest) for rest in parts[place:]):
                raise SourceError(_missing(path, base, part))
            return base, parts[place:]
        base = base / part
    return base, ()


def _missing(path: Path, base: Path, part: str) -> str:
    near = nearest(part, _entries(base, "*")) if base.is_dir() else None
    return f"{shown_path(path)}: no such file or folder" + (f'; did you mean "{shown(near)}"?' if near else "")


def _matches(base: Path, pattern: tuple[str, ...]) -> Iterator[str]:
    """Yield names under base, with forward slashes, that match the pattern part by part."""
    if not base.is_dir():
        return
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        yield from dict.fromkeys(
            f"{folder}{name}" for folder in _folders(base) for name in _matches(base / folder, rest or ("*",))
        )
        return
    for name in _entries(base, head) if _MAGIC.search(head) else [head]:
        if not rest:
            yield from [name] if os.path.lexists(base / name) else []
        else:
            yield from (f"{name}/{inner}" for inner in _matches(base / name, rest))


def _folders(base: Path) -> Iterator[str]:
    """Yield every folder below base with a slash at its end, base itself first, as "".

    Links to folders are not followed: they may be loops.
    """
    yield ""
    for name in _entries(base, "*"):
        if (base / name).is_dir() and not (base / name).is_symlink():
            yield from (f"{name}/{inner}" for inner in _folders(base / name))


def _entries(folder: Path, pattern: str) -> list[str]:
    """Return names in a folder that match, as a shell sees them: a leading dot must be asked for."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise SourceError(f"{shown_path(folder)}: this folder cannot be read ({error.strerror})") from error
    return [n for n in names if fnmatch.fnmatchcase(n, pattern) and (pattern[0] == "." or n[0] != ".")]


def _is_of_format(name: str, format: Format | None) -> bool:
    """Tell whether a name is of a known format, and of the one asked for, if any; json and jsonl count as the same."""
    said = format_of(name)
    json = ("json", "jsonl")
    return said is not None and (format is None or said == format or (said in json and format in json))


def _is_plain_folder(path: Path) -> bool:
    """Tell whether a matched path is a folder to skip; one named like a data file is left to be refused."""
    return path.is_dir() and format_of(path.name) is None


def _checked(base: Path, name: str, format: Format | None) -> SourceFile:
    path = base / name
    if not name.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in name):
        raise SourceError(f"{shown_path(path)}: the file's name is not UTF-8; rename it")
    try:
        kind = _kind_within(base, name, path)
    # A link that leads back to itself is a RuntimeError until Python 3.12, an OSError from 3.13 on.
    except (OSError, RuntimeError) as error:
        raise SourceError(f"{shown_path(path)}: this leads to no file that can be read") from error
    if stat.S_ISDIR(kind):
        raise SourceError(f"{shown_path(path)}: this is a folder, not a file; to read what it holds, add /*")
    if not stat.S_ISREG(kind):
        raise SourceError(f"{shown_path(path)}: this is neither a file nor a folder")
    if format is None and format_of(name) is None:
        raise SourceError(
            f"{shown_path(path)}: the name does not say the format; end it with one of {', '.join(FORMATS)}, or set "
            f'format = "jsonl", json, csv, tsv, parquet or arrow in the recipe'
        )
    return SourceFile(name=name, path=path)


def _kind_within(base: Path, name: str, path: Path) -> int:
    """Return what the system calls a path's kind. Raises: SourceError where links lead out of base; OSError."""
    if "/" not in name:
        kind = os.lstat(path).st_mode
        if not stat.S_ISLNK(kind):
            return kind  # of thousands of files, most are no links
    target = path.resolve(strict=True)
    if not target.is_relative_to(base.resolve()):
        out = f"this is a link out of {shown_path(base)}, to {shown_path(target)}"
        raise SourceError(f"{shown_path(path)}: {out}; name the file that it leads to instead")
    return os.stat(target).st_mode
