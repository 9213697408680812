"""What a command costs, from its start to its end, with every process that it starts.

CPU seconds are the kernel's account of the process and of all descendants that were waited for, or the sum of what was
seen of each process, where that is more: not every parent waits for its children. Memory is sampled: a page that
several processes share is counted once (PSS), and a file mapped into memory counts as long as it is, though the system
takes its pages back whenever it wants them; what a process cannot do without is told apart.
"""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_SECONDS = 0.1
_AS_INSTALLED = {"PYTHONDONTWRITEBYTECODE": ""}
"""Python keeps bytecode, as an installed package has it: compiling ours anew is a third of a short command."""
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes of one command.

    largest_bytes: the most that a single process held at once. own_bytes: the same without mapped files.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    largest_bytes: int
    own_bytes: int
    output: str


class CommandFailed(Exception):
    """A measured command ended badly; its last words."""


def measure(command: Sequence[str | Path], *, folder: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end.

    Args:
        folder: where it runs. environment: what is set beside the environment that is there.
    Raises: CommandFailed.
    """
    words = [str(word) for word in command]
    log = folder / ".measured.log"
    surroundings = {**os.environ, **_AS_INSTALLED, **(environment or {})}
    with log.open("wb") as out:
        started = time.monotonic()
        process = subprocess.Popen(words, cwd=folder, stdout=out, stderr=subprocess.STDOUT, env=surroundings)
        watch = _Watch(process.pid)
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.stop()
    output = log.read_text(encoding="utf-8", errors="replace")
    if process.returncode:
        raise CommandFailed(f"{' '.join(words)}\nended with {process.returncode}:\n{output[-4000:]}")
    cpu = max(usage.ru_utime + usage.ru_stime, sum(watch.cpu_seconds.values()))
    return Cost(wall, cpu, watch.peak_bytes, watch.largest_bytes, watch.own_bytes, output)


class _Watch(threading.Thread):
    """Samples a process and its descendants until it is stopped."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._ended = threading.Event()
        self.cpu_seconds: dict[int, float] = {}
        self.peak_bytes = self.largest_bytes = self.own_bytes = 0

    def run(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            found = family(self._root)
            self.cpu_seconds |= found
            held = [_held_bytes(process) for process in found]
            self.peak_bytes = max(self.peak_bytes, sum(whole for whole, _ in held))
            self.largest_bytes = max(self.largest_bytes, *(whole for whole, _ in held), 0)
            self.own_bytes = max(self.own_bytes, *(own for _, own in held), 0)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def family(root: int) -> dict[int, float]:
    """A process and its descendants, and the CPU seconds that each has used itself."""
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _fields(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            used[int(entry.name)] = (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
    family = [root]
    for process in family:
        family += children.get(process, [])
    return {process: used[process] for process in family if process in used}


def _fields(process: int) -> list[str]:
    """What the kernel says of a process, from its state on; nothing where it ended meanwhile."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # The name stands in brackets and may hold anything, brackets too.
    return text[text.rindex(")") + 2 :].split()


def _held_bytes(process: int) -> tuple[int, int]:
    """What a process holds, with and without the files that it has mapped."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return 0, 0
    held = {name: int(size.split()[0]) * 1024 for name, _, size in (line.partition(":") for line in lines)}
    return held.get("Pss", 0), held.get("Pss", 0) - held.get("Pss_File", 0)
