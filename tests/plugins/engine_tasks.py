"""Tasks for tests of engines: importable, as workers need them."""

import atexit
import os
import signal
import time
from pathlib import Path

from orca_recipes.errors import Fault, RecipeError, SourceError
from tests.patience import awaited


class OddError(Exception):
    """Cannot be made again from its message."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


def squared(number: int) -> int:
    return number * number


def process_id(task: tuple[Path, int]) -> int:
    """Tell the process, once `count` of them have been given a task."""
    folder, count = task
    (folder / f"{os.getpid()}.begun").touch()
    awaited(lambda: len(list(folder.glob("*.begun"))) >= count)
    return os.getpid()


def environment(name: str) -> str | None:
    return os.environ.get(name)


def polars_threads(_: int) -> int:
    import polars as pl

    return pl.thread_pool_size()


def fail_on_three(number: int) -> int:
    if number == 3:
        raise SourceError("data.jsonl: cannot be read")
    return number


def record_then_fail_on_zero(task: tuple[int, Path]) -> int:
    number, folder = task
    if number == 0:
        raise SourceError("no")
    awaited((folder / "heard").exists)
    (folder / f"{number}.done").touch()
    return number


def fail_with_faults(_: int) -> None:
    raise RecipeError([Fault("a.toml", 3, "x.y", "wrong"), Fault("a.toml", 4, "z", "wrong too")])


def fail_oddly(_: int) -> None:
    raise OddError(code=7)


def unpicklable(_: int) -> object:
    return lambda: None


def die(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), 9)
    return number


def leave(_: int) -> None:
    os._exit(3)


def touch_at_the_end(path: Path) -> None:
    atexit.register(path.touch)


def report_and_sleep(task: tuple[Path, float]) -> None:
    folder, seconds = task
    (folder / f"{os.getpid()}.begun").touch()
    time.sleep(seconds)


def waited(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def waited_for(path: Path | None) -> None:
    """Wait for a file, where one is named."""
    if path is not None:
        awaited(path.exists)


def doubled(content: bytes) -> bytes:
    return content * 2


def wait_or_die(task: tuple[int, Path]) -> None:
    """Task 0 waits until task 1 has begun and for ever; task 1 is killed once task 0 runs."""
    number, folder = task
    (folder / f"begun-{number}").touch()
    awaited((folder / f"begun-{1 - number}").exists)
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def die_the_first_time(marker: Path) -> None:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def report_and_wait(task: tuple[Path, int]) -> int:
    folder, number = task
    (folder / f"{os.getpid()}.begun").touch()
    awaited((folder / "go").exists)
    return number
