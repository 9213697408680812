"""The heaps of the C library and of Arrow: kept while a build works, not given back to the system after each array.

glibc maps large arrays one by one and unmaps them when they are freed, so that every batch pays for the same pages
again: a few hundredths of a build's CPU on a quiet machine, and more where pages are dear. Other C libraries are left
alone. mimalloc, which Arrow takes memory from, gives freed pages back after 10 ms.
"""

import ctypes
import os

_KEPT = (
    # No array gets a mapping of its own, which would be unmapped when it is freed.
    (-4, "MALLOC_MMAP_MAX_", 0),
    (-1, "MALLOC_TRIM_THRESHOLD_", 1 << 30),
    (-2, "MALLOC_TOP_PAD_", 1 << 26),
)
"""Number in malloc.h, variable that processes to come read, value."""


_ARROW_KEEPS = ("MIMALLOC_PURGE_DELAY", "1000")
"""Milliseconds for which Arrow's mimalloc keeps pages that were freed; read when pyarrow is loaded."""


def keep_heap() -> None:
    """Keep up to a GiB of freed memory in this process and its children, and Arrow's for a second; settings made by the
    user are left alone."""
    os.environ.setdefault(*_ARROW_KEEPS)
    # musl and macOS have none.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, variable, value in _KEPT:
        if variable not in os.environ:
            # Workers are new processes, which take these at their start.
            os.environ[variable] = str(value)
            mallopt(parameter, value)
