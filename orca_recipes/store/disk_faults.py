"""Errors of a disk that cannot be written: one sentence with the way on, whatever was being written.

Only refusals are told so, and only those of the place that is written: a source that cannot be read is another fault.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from orca_recipes.errors import Failure, StoreError

KEPT = "what was finished is kept"
"""Of work that is done in steps: the store, the traces or the run hold those that were finished."""

_LET = "let it be written"
_FILE_IN_THE_WAY = ("a part of its path is a file, and no folder", "move that file")
_REFUSALS = {
    errno.ENOSPC: ("no space is left on its disk", "make room"),
    errno.EDQUOT: ("the disk quota is used up", "make room"),
    errno.EFBIG: ("a file would grow past the limit for files", "raise the limit"),
    errno.EROFS: ("its disk is read-only", _LET),
    errno.EACCES: ("permission is denied", _LET),
    errno.EPERM: ("it is not permitted", _LET),
    errno.ENOTDIR: _FILE_IN_THE_WAY,
    errno.EEXIST: _FILE_IN_THE_WAY,
}


@contextmanager
def writing(
    place: Path, what: str, otherwise: str = "", failure: type[Failure] = Failure, kept: str = ""
) -> Iterator[None]:
    """Turn a refusal to write below a place into one sentence.

    Args:
        what: what cannot be written ("the store .orca/store").
        otherwise: what a user can do about it in place of mending the disk.
        kept: what is said of the work before, where some of it stays.
    Raises: failure.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS or not _is_of(place, error):
            raise
        if error.errno == errno.EEXIST and not os.path.isfile(error.filename or ""):
            raise
        why, mend = _REFUSALS[error.errno]
        way_on = f"{mend} and run the same command again" + (f", or {otherwise}" if otherwise else "")
        raise failure(f"{what} cannot be written: {why}; {kept and f'{kept}: '}{way_on}") from error


def writing_store(root: Path) -> AbstractContextManager[None]:
    """Turn a refusal to write in the store at `root` into one sentence. Raises: StoreError."""
    otherwise = "choose another with --store or ORCA_STORE (`orca-recipe clean` may free some room)"
    return writing(root, f"the store {root}", otherwise, StoreError, KEPT)


def _is_of(place: Path, error: OSError) -> bool:
    """Tell whether an error concerns the place or a folder it needs; an error without a file name can only be a write
    that failed for want of room."""
    if not isinstance(error.filename, str):
        return error.errno not in (errno.EACCES, errno.EPERM)
    fault, here = Path(error.filename).absolute(), place.absolute()
    return fault.is_relative_to(here) or here.is_relative_to(fault)
