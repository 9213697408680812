"""What machine a figure was taken on, and how busy it was."""

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

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


def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
