"""Where a build lies: made aside, brought to the disk, and put in place by rename.

Every build is made under a name of its own, because a worker can outlive a build that was killed and must not write
into the files of the one that runs next.
"""

import os
import re
import secrets
import shutil
from pathlib import Path

from orca_recipes.errors import BuildError
from orca_recipes.run.sealed import flush
from orca_recipes.shards import manifest
from orca_recipes.shards.files import sync_folder


def refuse_foreign(directory: Path) -> None:
    """Refuse a directory that holds something else than a build.

    Raises: BuildError.
    """
    if directory.is_dir() and any(directory.iterdir()) and not (directory / manifest.NAME).is_file():
        raise BuildError(f"{directory} holds other files and no build; choose another place with --out, or empty it")
    if directory.exists() and not directory.is_dir():
        raise BuildError(f"{directory} is a file; choose another place with --out")


def make_aside(directory: Path) -> Path:
    """A new folder beside a build's place, on the same disk."""
    aside = directory.with_name(f".{directory.name}.{secrets.token_hex(6)}.building")
    aside.mkdir(parents=True)
    return aside


def settle(aside: Path) -> None:
    """Bring every file and every name to the disk, before the manifest says that they are there."""
    for path in sorted(aside.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            flush(path)
    sync_folder(aside)


def put_in_place(aside: Path, directory: Path) -> None:
    """Put a finished build where an older one may lie."""
    old = _older(directory)
    if directory.exists():
        os.replace(directory, old)
    os.replace(aside, directory)
    sync_folder(directory.parent)
    shutil.rmtree(old, ignore_errors=True)


def put_back(directory: Path) -> None:
    """Tidy up after a build that was killed: an older build that it had moved aside is put back, and its own half-made
    one is removed."""
    old = _older(directory)
    if old.exists() and not directory.exists():
        os.replace(old, directory)
    shutil.rmtree(old, ignore_errors=True)
    unfinished = re.compile(rf"\.{re.escape(directory.name)}\.[0-9a-f]{{12}}\.building")
    for path in directory.parent.iterdir():
        if unfinished.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _older(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.replaced")
