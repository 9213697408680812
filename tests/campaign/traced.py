"""Run `orca-recipe` in a process that can be stopped at any rename and any flush, before or after it happens.

    python -m tests.campaign.traced LOG STOP build recipe.toml ...

LOG gets one line a rename or flush: its number, what it is, its path. STOP is "-", or a number and what happens there:
"17:before:SIGKILL", "17:after:SIGINT". Only this process is traced, so builds to be stopped have one worker.
"""

import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from orca_recipes.cli.main import main

_RANDOM = re.compile(r"(?<=\.)[0-9a-f]{12}(?=\.)|(?<=running/)\.?[0-9a-f]{16}|(?<=\.)\d+$")
"""Names that differ from run to run: of writers, claims and processes."""


@dataclass
class Tracer:
    """Counts renames and flushes, and sends this process a signal at one of them."""

    log: TextIO
    stop: str
    count: int = 0
    process: int = field(default_factory=os.getpid)

    def around(self, kind: str, call: Callable[..., Any], path_of: Callable[..., str]) -> Callable[..., Any]:
        def traced(*args: Any, **options: Any) -> Any:
            if os.getpid() != self.process:  # a fork that loads a stranger's files
                return call(*args, **options)
            self.count += 1
            number = self.count
            print(number, kind, path_of(*args), file=self.log, flush=True)
            self._meet(number, "before")
            result = call(*args, **options)
            self._meet(number, "after")
            return result

        return traced

    def _meet(self, number: int, when: str) -> None:
        if self.stop.startswith(f"{number}:{when}:"):
            os.kill(os.getpid(), signal.Signals[self.stop.rpartition(":")[2]])


@dataclass(frozen=True)
class Event:
    """One rename or flush of a build; path without what is random in it."""

    number: int
    kind: str
    path: str


def events(log: Path, root: Path) -> list[Event]:
    """What a log tells, with paths relative to a folder."""
    found = []
    for line in log.read_text(encoding="utf-8").splitlines():
        number, kind, path = line.split(" ", 2)
        below = os.path.relpath(path, root)
        found.append(Event(int(number), kind, _RANDOM.sub("*", below)))
    return found


def _run() -> None:
    log, stop, *arguments = sys.argv[1:]
    with Path(log).open("w", encoding="utf-8") as lines:
        tracer = Tracer(lines, stop)
        os.replace = tracer.around("rename", os.replace, lambda source, target: os.fspath(target))
        os.rename = tracer.around("rename", os.rename, lambda source, target: os.fspath(target))
        os.fsync = tracer.around("fsync", os.fsync, lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
        main(arguments)


if __name__ == "__main__":
    _run()
