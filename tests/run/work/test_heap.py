"""Memory that was freed is kept, unless a user wants something else of the C library."""

import ctypes
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no such switches")

PROGRAM = """
import os
from orca_recipes.run.work.heap import keep_heap
keep_heap()
print(*map(os.environ.get, ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MIMALLOC_PURGE_DELAY")))
"""
REUSED = """
import resource
from orca_recipes.run.work.heap import keep_heap
keep_heap()
import numpy as np
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(3 << 17)
before = faults()
for _ in range(20):
    np.ones(3 << 17)
print(faults() - before)
"""


def said(program: str, **surroundings: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "MIMALLOC_"))}
    environment = {**clean, **surroundings}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def test_processes_to_come_keep_it_too_and_a_users_choice_is_left_alone() -> None:
    assert said(PROGRAM) == "0 1073741824 1000"
    assert said(PROGRAM, MALLOC_MMAP_MAX_="7", MIMALLOC_PURGE_DELAY="20") == "7 1073741824 20"


def test_arrays_of_megabytes_are_made_in_memory_that_was_there() -> None:
    assert int(said(REUSED)) < 768, "twenty arrays of 768 pages each took as many pages as one"
