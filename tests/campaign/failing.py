"""Run `orca-recipe` on a machine that fails: file systems that refuse, stall or lose, clocks that jump.

    python -m tests.campaign.failing SEED WHAT build recipe.toml ...

WHAT is a name of FAULTS. From Python that is done to the functions of `os` that write, and to `open`: a call that is
drawn from the seed meets the fault, and those after it where the fault lasts.
"""

import builtins
import errno
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orca_recipes.cli.main import main

_WRITING = ("write", "fsync", "replace", "rename", "mkdir", "link", "unlink", "truncate", "ftruncate", "open")
_MOST_CALLS = 600


class Failing:
    """Counts calls that write, and lets one of them, or all from it on, meet a fault."""

    def __init__(self, chance: random.Random, *, lasts: bool, fault: Callable[[str], None]) -> None:
        self._left = int(chance.expovariate(4 / _MOST_CALLS))
        self._lasts, self._fault, self._done = lasts, fault, False

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*args: Any, **options: Any) -> Any:
            if self._concerns(name, args):
                self._left -= 1
                if self._left < 0 and (self._lasts or not self._done):
                    self._done = True
                    self._fault(str(args[0]))
            return call(*args, **options)

        return failing

    def _concerns(self, name: str, args: tuple[Any, ...]) -> bool:
        if name == "open":
            flags = args[1] if len(args) > 1 else "r"
            writes = flags & (os.O_WRONLY | os.O_RDWR) if isinstance(flags, int) else set(str(flags)) & set("wax+")
            return bool(writes) and not str(args[0]).startswith(("/dev/", "/proc/"))
        if name in ("write", "fsync", "ftruncate"):
            return _is_regular(args[0])
        return True


def _is_regular(file: Any) -> bool:
    try:
        return os.path.isfile(f"/proc/self/fd/{file}")
    except (OSError, ValueError):
        return False


def _refused(number: int) -> Callable[[str], None]:
    def fault(path: str) -> None:
        name = path if os.sep in path else None
        raise OSError(number, os.strerror(number), name) if name else OSError(number, os.strerror(number))

    return fault


def _disk(number: int, *, lasts: bool) -> Callable[[random.Random], None]:
    def install(chance: random.Random) -> None:
        failing = Failing(chance, lasts=lasts, fault=_refused(number))
        for name in _WRITING:
            setattr(os, name, failing.around(name, getattr(os, name)))
        builtins.open = failing.around("open", builtins.open)

    return install


def _slow(chance: random.Random) -> None:
    failing = Failing(chance, lasts=True, fault=lambda _: time.sleep(0.01))
    for name in ("fsync", "replace", "rename", "mkdir"):
        setattr(os, name, failing.around(name, getattr(os, name)))


def _clock(jump: Callable[[float, int], float]) -> Callable[[random.Random], None]:
    def install(chance: random.Random) -> None:
        true, calls = time.time, [0]

        def now() -> float:
            calls[0] += 1
            return jump(true(), calls[0])

        time.time = now
        time.time_ns = lambda: int(now() * 1e9)

    return install


FAULTS: dict[str, Callable[[random.Random], None]] = {
    "a write error once": _disk(errno.EIO, lasts=False),
    "a disk that fails": _disk(errno.EIO, lasts=True),
    "a disk that is full": _disk(errno.ENOSPC, lasts=True),
    "a quota that is used up": _disk(errno.EDQUOT, lasts=True),
    "a disk that turns read-only": _disk(errno.EROFS, lasts=True),
    "a permission that goes": _disk(errno.EACCES, lasts=True),
    "a stale file handle": _disk(errno.ESTALE, lasts=False),
    "an interrupted call": _disk(errno.EINTR, lasts=False),
    "too many links": _disk(errno.EMLINK, lasts=False),
    "a slow disk": _slow,
    "a clock that goes back": _clock(lambda now, call: now - 100 * call),
    "a clock before 1980": _clock(lambda now, call: 1e8),
    "a clock in 2200": _clock(lambda now, call: 7.26e9 + call),
    "a clock that stands": _clock(lambda now, call: 1.7e9),
}


def _run() -> None:
    seed, what, *arguments = sys.argv[1:]
    Path.cwd()
    FAULTS[what](random.Random(seed))
    main(arguments)


if __name__ == "__main__":
    _run()
