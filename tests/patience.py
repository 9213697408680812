"""How long a test waits for what must happen: reaching it means a hang, however slow or busy the machine."""

import time
from collections.abc import Callable
from typing import TypeVar

SECONDS = 300

Found = TypeVar("Found")


def awaited(found: Callable[[], Found]) -> Found:
    """Ask again until the answer counts as true, and return it; after SECONDS return the last one."""
    ends = time.monotonic() + SECONDS
    while not (answer := found()) and time.monotonic() < ends:
        time.sleep(0.02)
    return answer
