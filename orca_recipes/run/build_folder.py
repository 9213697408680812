"""The folder of a build: made aside, synced to the disk, and put in place.

Every build is made under a name of its own, because a worker can outlive a build that was killed and must not write
into the files of the one that runs next. What an older build leaves is removed by the names that its manifest lists, so
that a file of a user's is never lost with it; a build is not even begun where one would be in the way.
"""

import json
import re
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from filelock import FileLock, Timeout

from orca_recipes.errors import BuildError
from orca_recipes.run.work.student import TOKENIZER_FILES
from orca_recipes.shards import curriculum, manifest, publishing, records
from orca_recipes.shards.files import sync_folder
from orca_recipes.shards.in_use import replacing
from orca_recipes.store.disk_faults import KEPT, writing
from orca_recipes.store.sealed import flush

_NAMED = 3
# Where a manifest is damaged, files of other names are taken for a user's.
_USUAL = re.compile(
    rf"{re.escape(manifest.NAME)}|{re.escape(curriculum.NAME)}"
    rf"|tokenizer/({'|'.join(map(re.escape, (*TOKENIZER_FILES, 'chat_template.jinja', 'generation_config.json')))})"
    rf"|[^/]+/(\d{{5}}\.(bin|idx|records\.parquet)|{re.escape(records.REJECTED_NAME)})"
)


def refuse_foreign(directory: Path) -> None:
    """Refuse a directory that holds something else than a build, or something beside one.

    Raises: BuildError, naming it.
    """
    if directory.exists() and not directory.is_dir():
        raise BuildError(f"{directory} is a file; choose another place with --out")
    if not directory.is_dir() or publishing.has_been_left_half_filled(directory, last=manifest.NAME):
        return
    own = own_files(directory)
    foreign = list(islice(publishing.foreign_files(directory, own), _NAMED + 1))
    if foreign and not own:
        raise BuildError(
            f"{directory} holds other files and no build ({_told(foreign)}); "
            "choose another place with --out, or empty it"
        )
    if foreign:
        raise BuildError(
            f"{directory} holds what no build wrote: {_told(foreign)}; a new build would take its place: "
            "move it elsewhere, or choose another place with --out"
        )


def own_files(directory: Path) -> Set[str]:
    """List the files of a build: the manifest and those it lists; if it is unreadable, files with the usual names of
    builds; none if there is no manifest."""
    path = directory / manifest.NAME
    if not path.is_file():
        return frozenset()
    try:
        found = json.loads(path.read_bytes())
        return {manifest.NAME} | {str(file["path"]) for file in (*found["files"], *found["tables"])}
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        files = (file for file in directory.rglob("*") if not file.is_dir())
        names = (file.relative_to(directory).as_posix() for file in files)
        return {name for name in names if _USUAL.fullmatch(name)}


def make_aside(directory: Path) -> Path:
    """Make a new folder on the same disk as a build's place."""
    return publishing.make_aside(publishing.followed(directory))


def settle(aside: Path) -> None:
    """Bring every file and every name to the disk, before the manifest says that they are there.

    What a worker left half-written that was taken for dead is removed.
    """
    for path in aside.rglob(".*"):
        path.unlink(missing_ok=True)
    for path in sorted(aside.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            flush(path)
    sync_folder(aside)


def put_in_place(aside: Path, directory: Path) -> None:
    """Move a finished build into place, over an older one if there is one.

    Raises: BuildError where something that no build wrote came there meanwhile, or somebody began to read it.
    """
    place = publishing.followed(directory)
    refuse_foreign(place)
    with replacing(place):
        publishing.put_in_place(aside, place, last=manifest.NAME, own=own_files)


def put_back(directory: Path) -> None:
    """Tidy up after a build that was killed: an older build that it had moved aside is put back, and its own half-made
    one is removed."""
    publishing.put_back(publishing.followed(directory), last=manifest.NAME, own=own_files)


def give_up(aside: Path, directory: Path) -> None:
    """Remove a build that was made aside and is not in its place."""
    publishing.give_up(aside, publishing.followed(directory), last=manifest.NAME)


def lock_file(directory: Path) -> Path:
    """Return the path of the lock file that a build holds while it writes a directory."""
    place = publishing.followed(directory)
    if publishing.is_filled_from_inside(place):
        return place / publishing.INSIDE_LOCK
    return place.with_name(f".{place.name}.lock")


def _told(names: Iterable[str]) -> str:
    named = list(names)
    return ", ".join(named[:_NAMED]) + (" and more" if len(named) > _NAMED else "")


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Hold a directory, which one build at a time writes.

    Raises: BuildError where another build holds it.
    """
    lock = FileLock(lock_file(directory))
    held = Path(lock.lock_file)
    with writing(held.parent, f"the build {directory}", "choose another place with --out", kept=KEPT):
        held.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise BuildError(
                f"{directory}: another build is writing it; wait for it, or choose another with --out"
            ) from None
        try:
            yield
        finally:
            # Before it is released: a build that waited for this file would hold a lock that has no name.
            held.unlink(missing_ok=True)
            lock.release()
