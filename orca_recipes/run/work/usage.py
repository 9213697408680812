"""CPU time and peak memory of a command's process."""

from __future__ import annotations

import re
import resource
import sys
import time
from pathlib import Path

_STATUS = Path("/proc/self/status")


def main_process() -> dict[str, float | int]:
    """Measure the CPU seconds of this process without its children, and the most memory that it held at once, in
    bytes."""
    return {"cpu_seconds": round(time.process_time(), 3), "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    """Return the peak memory of this process in bytes.

    getrusage tells the peak of whoever started this process as well, where that was larger; Linux's own table does not.
    """
    if _STATUS.is_file() and (found := re.search(r"^VmHWM:\s*(\d+) kB", _STATUS.read_text(), flags=re.MULTILINE)):
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # ru_maxrss is in bytes on macOS and in KiB on Linux.
    return peak if sys.platform == "darwin" else peak * 1024
