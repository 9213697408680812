"""What machine a figure was taken on, and how busy it was."""

import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

_LOOP = """
import hashlib, time
block, start = bytes(1 << 16), time.perf_counter()
for _ in range(10_000):
    hashlib.blake2b(block)
print(time.perf_counter() - start)
"""
"""Work for one core that needs no memory, no disk and nothing of another process."""

_TOLD = ("orca-recipes", "gigatoken", "numpy", "polars", "pyarrow", "tokenizers")


def machine() -> str:
    """One line: cores, memory, versions, load and time."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _TOLD)
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {cores} cores ({_model()}), {memory:.0f} GiB, "
        f"Python {platform.python_version()}, {versions}; load {load()} before the first run"
    )


def load() -> str:
    """Processes that wanted a core in the last minute, on average; 0 on a quiet machine."""
    return f"{os.getloadavg()[0]:.1f}"


def two_at_once() -> str:
    """How many times as fast as one two processes are that share nothing: what workers can gain here at most."""
    alone, both = (min(_seconds(processes) for _ in range(3)) for processes in (1, 2))
    return f"two processes that share nothing do {2 * alone / both:.2f} times the work of one"


def cores_to_be_had() -> float:
    """Cores that processes of ours get at the moment, of all that there are: others may want them, too."""
    cores = len(os.sched_getaffinity(0))
    before, began = os.times(), time.monotonic()
    _seconds(cores)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return used / (time.monotonic() - began)


def _seconds(processes: int) -> float:
    """Of the slowest of some processes that run the loop at the same time."""
    started = [
        subprocess.Popen([sys.executable, "-c", _LOOP], stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    return max(float(process.communicate()[0]) for process in started)


def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
