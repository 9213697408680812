"""Where a process spends its time, by looking at its main thread some hundred times a second.

Time in a library counts for the line of ours that called it: that is the line that one can change. What is counted is
the thread's own CPU time, so that a busy machine changes nothing, and the rest, which it waited, apart.
"""

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

_LOOK_SECONDS = 0.002
_OURS = ("orca_recipes.", "orca_plugins.")


class Line(NamedTuple):
    """A line of ours, by module and function, and what it had called, "" where it ran itself."""

    module: str
    function: str
    line: int
    called: str


class Sampler(threading.Thread):
    """Looks at the thread that made it; cpu and waited are seconds by stage and line."""

    def __init__(self, stage: Callable[[], str]) -> None:
        super().__init__(daemon=True)
        self._watched = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._watched)
        self._stage = stage
        self._ended = threading.Event()
        self.cpu: defaultdict[tuple[str, Line], float] = defaultdict(float)
        self.waited: defaultdict[tuple[str, Line], float] = defaultdict(float)

    def run(self) -> None:
        before = self._clocks()
        while not self._ended.wait(_LOOK_SECONDS):
            frame = sys._current_frames().get(self._watched)
            now = self._clocks()
            if frame is not None:
                # A call that keeps Python's lock delays the look at it: so a look weighs all the time since the last.
                key = self._stage(), _line_of(frame)
                self.cpu[key] += now[1] - before[1]
                self.waited[key] += max(0.0, now[0] - before[0] - (now[1] - before[1]))
            before = now

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _clocks(self) -> tuple[float, float]:
        return time.perf_counter(), time.clock_gettime(self._clock)


def _line_of(frame: FrameType) -> Line:
    """The innermost frame of ours, and the frame that it called."""
    called = ""
    at: FrameType | None = frame
    while at is not None:
        module = at.f_globals.get("__name__", "")
        if module.startswith(_OURS):
            return Line(module, at.f_code.co_qualname, at.f_lineno, called)
        called = f"{module}.{at.f_code.co_qualname}"
        at = at.f_back
    return Line("", "", 0, called)
