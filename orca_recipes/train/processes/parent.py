"""Ties processes to their parent, so that they end with it.

A rank without its launcher trains on with nobody to stop it; a writer without its rank waits for ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

# Its number in linux/prctl.h; Python has no name for it.
_PR_SET_PDEATHSIG = 1

Prctl = Callable[[int, int], int]


def loaded_prctl() -> Prctl | None:
    """Load prctl, Linux's call that ties a process to its parent; None on other systems."""
    return ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def end_with(parent: int, prctl: Prctl | None) -> None:
    """Have this process be killed as soon as its parent ends, however that ends; elsewhere than on Linux it is not.

    Args:
        parent: the process that started this one; where it is gone already, this one ends here.
        prctl: `loaded_prctl`, from before a fork, after which nothing should be loaded.
    """
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
