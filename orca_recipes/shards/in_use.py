"""A lock on a build's manifest: long readers share it, and a process that replaces the build needs it alone.

The lock is the kernel's and ends with the process that holds it, however that ends; nothing is written into the build.
It is seen by other machines where the file system carries locks (NFS does); where it carries none, a reader goes on
without, from the files that it opened at its start.
"""

import errno
import fcntl
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from orca_recipes.errors import BuildError
from orca_recipes.shards.manifest import NAME, no_build

# Ten seconds, with the pauses, for a build that is being put in its place.
_TRIES = 100
_PAUSE_SECONDS = 0.1
# What file systems without locks answer; a reader goes on without one there.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)


class Reading:
    """A build that is read: it is not replaced until this is closed."""

    def __init__(self, directory: Path, manifest: BinaryIO) -> None:
        self._directory, self._manifest = directory, manifest

    def is_still_there(self) -> bool:
        """Tell whether the directory still holds the build it held when reading began."""
        return _is_named(self._directory / NAME, self._manifest)

    def close(self) -> None:
        self._manifest.close()

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()


def begin_to_read(directory: Path) -> Reading:
    """Keep a build from being replaced; call it before anything of it is read.

    Raises: BuildError where there is no complete build, or it is being replaced for long.
    """
    path = directory / NAME
    for _ in range(_TRIES):
        try:
            manifest = path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            raise no_build(directory) from None
        except OSError as error:
            raise BuildError(
                f"{directory} is not a complete build: {NAME} cannot be read ({error.strerror}); "
                "let it be read, or name another build"
            ) from error
        if _is_locked(manifest, fcntl.LOCK_SH) and _is_named(path, manifest):
            return Reading(directory, manifest)
        manifest.close()
        time.sleep(_PAUSE_SECONDS)
    raise BuildError(f"{directory} is being replaced by a build; wait for it and run the same command again")


def refuse_in_use(directory: Path) -> None:
    """Raises: BuildError where a build is being read, naming by whom."""
    with replacing(directory):
        pass


@contextmanager
def replacing(directory: Path) -> Iterator[None]:
    """Keep everybody from beginning to read a build meanwhile.

    Raises: BuildError where it is being read, naming by whom as far as this machine knows.
    """
    path = directory / NAME
    if not path.is_file():
        yield
        return
    # To write, which nobody does: NFS gives a lock for one alone on no other file.
    with path.open("r+b" if os.access(path, os.W_OK) else "rb") as manifest:
        if not _is_locked(manifest, fcntl.LOCK_EX):
            raise BuildError(
                f"{directory} is being read by {_readers(manifest)}; wait for it or stop it, "
                "or choose another place with --out"
            )
        yield


def _is_locked(manifest: BinaryIO, how: int) -> bool:
    try:
        fcntl.flock(manifest, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is_named(path: Path, manifest: BinaryIO) -> bool:
    """Tell whether a path still leads to an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(manifest.fileno()))
    except OSError:
        return False


def _readers(manifest: BinaryIO) -> str:
    """Return processes of this machine that hold a file, as the kernel lists them: id and command."""
    inode = f":{os.fstat(manifest.fileno()).st_ino}"
    try:
        lines = [line.split() for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines()]
    except OSError:
        lines = []
    # Columns of /proc/locks: number, kind, mode, access, process, device and inode.
    holders = sorted(int(line[4]) for line in lines if line[1] == "FLOCK" and line[5].endswith(inode))
    named = [f"process {pid} ({_command(pid)})" for pid in holders if pid > 0]
    if not named:
        return "a training of another machine or container"
    return named[0] + (f" and {len(named) - 1} more" if len(named) > 1 else "")


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").strip("\0").split("\0")
    except OSError:
        return "ended by now"
    return shlex.join(words[words.index("-m") + 1 :] if "-m" in words else words)
