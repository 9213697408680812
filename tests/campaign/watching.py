"""What a process does that no input may bring about, in sentences: an audit hook sees it.

The process that loads strangers' files is another one, started by ours: Python runs `sitecustomize` before all else
there, which sets the same hook; what it sees goes into a file.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[2]
_CHILD = """\
import sys
sys.path.insert(0, {home!r})
from tests.campaign.watching import watch_child
watch_child({root!r})
sys.path.remove({home!r})
"""


@dataclass
class Watched:
    """What was seen; here: by this process. log: by those that it starts."""

    log: Path
    here: list[str] = field(default_factory=list)

    def forget(self) -> None:
        """Begin anew."""
        self.here.clear()
        self.log.write_bytes(b"")

    def told(self) -> list[str]:
        """Each sentence once."""
        there = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return list(dict.fromkeys([*self.here, *(f"in the process that loads: {line}" for line in there)]))


@contextmanager
def watched(root: Path) -> Iterator[Watched]:
    """Watch this process, and those that it starts from now on.

    Args:
        root: where inputs may have files written.
    """
    found, place = Watched(root / "seen"), root / "startup"
    place.mkdir()
    (place / "sitecustomize.py").write_text(_CHILD.format(home=str(HOME), root=str(root)), encoding="utf-8")
    found.forget()
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(place), *([before] if before else [])])
    watching = [True]
    sys.addaudithook(partial(_audit, found.here.append, _allowed(root), watching))
    try:
        yield found
    finally:
        watching.clear()
        os.environ.pop("PYTHONPATH") if before is None else os.environ.__setitem__("PYTHONPATH", before)


def watch_child(root: str) -> None:
    """Set the hook in a process that was started."""
    log = os.open(Path(root) / "seen", os.O_WRONLY | os.O_APPEND)
    sys.addaudithook(partial(_audit, lambda line: os.write(log, f"{line!a}\n".encode()), _allowed(Path(root)), [True]))


def _allowed(root: Path) -> tuple[str, ...]:
    return str(root.resolve()), tempfile.gettempdir(), "/dev/", "/proc/"


def _audit(
    see: Callable[[str], object], allowed: tuple[str, ...], watching: list[bool], event: str, words: tuple[Any, ...]
) -> None:
    if not watching:
        return
    starts = ("os.system", "os.exec", "os.posix_spawn", "os.spawn")
    if event in starts or (event == "subprocess.Popen" and words[0] != sys.executable):
        see(f"it starts {words[0]}")
    elif event == "socket.getaddrinfo":
        see(f"it asks for the host {words[0]}")
    elif event == "socket.connect" and words[0].family != socket.AF_UNIX:
        see(f"it connects to {words[1]}")
    elif event == "open" and isinstance(words[0], str | bytes) and isinstance(words[2], int):
        path = os.path.abspath(os.fsdecode(words[0]))
        if words[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not path.startswith(allowed) and ".pyc" not in path:
            see(f"it writes {path}")
