"""The C library's heap: kept while a build works, not given back to the system after each array.

glibc maps large arrays one by one and unmaps them when they are freed, so that every batch pays for the same pages
again: a few hundredths of a build's CPU on a quiet machine, and more where pages are dear. Other C libraries are left
alone.
"""

import ctypes
import os

_KEPT = (
    (-4, "MALLOC_MMAP_MAX_", 0),
    (-1, "MALLOC_TRIM_THRESHOLD_", 1 << 30),
    (-2, "MALLOC_TOP_PAD_", 1 << 26),
)
"""Number in malloc.h, variable that processes to come read, value."""


def keep_heap() -> None:
    """Keep what is freed, up to a GiB, in this process and those that it starts; what a user set is left alone."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, variable, value in _KEPT:
        if variable not in os.environ:
            os.environ[variable] = str(value)
            mallopt(parameter, value)
