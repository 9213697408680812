"""Execution of an order in a worker process, however it got there: a pickled function and its task."""

from __future__ import annotations

import os
import pickle
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, Generic

from orca_recipes.contract.kinds import Result, Task
from orca_recipes.errors import Failure

_THREAD_LIMITS = ("POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_FOLDERS = 16
"""Folders of a task that are named where a node does not see them."""


def carried_out(order: bytes, where: str) -> bytes:
    """Call the function of an order; give whether it finished, with its result or its exception, pickled.

    Args:
        where: what an exception's traceback is introduced with.
    """
    try:
        function, task = pickle.loads(order)
        return pickle.dumps((True, function(task)))
    except BaseException as error:  # Rust's panics are no Exception, and the parent must hear of them too
        return pickle.dumps((False, _portable(error, where)))


def limit_threads(threads: int) -> None:
    """Share the cores among the workers; libraries read these when a task first imports them. A limit that the user
    set is left alone."""
    for name in _THREAD_LIMITS:
        os.environ.setdefault(name, str(threads))
    os.environ.setdefault("ARROW_IO_THREADS", str(max(2, threads)))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false" if threads == 1 else "true")


@dataclass(frozen=True)
class Elsewhere(Generic[Task, Result]):
    """A function for another machine, which sees the same files: relative paths mean there what they mean here.

    Attributes:
        folder: the current one here, where the task has relative paths.
        seen: folders of the task that are here.
    """

    function: Callable[[Task], Result]
    folder: str | None
    seen: tuple[str, ...]

    def __call__(self, task: Task) -> Result:
        """Call the function. Raises: Failure where this machine lacks what it needs; whatever the function raises."""
        if self.folder is not None:
            self._go_there(self.folder)
        try:
            return self.function(task)
        except Exception:
            unseen = [folder for folder in self.seen if not os.path.isdir(folder)]
            if unseen:
                raise Failure(_blind(unseen[0])) from None
            raise

    def _go_there(self, folder: str) -> None:
        try:
            os.chdir(folder)
        except OSError:
            raise Failure(_blind(folder)) from None


def order_for_elsewhere(function: Callable[[Task], Result], task: Task) -> bytes:
    """Pickle a function and its task for a machine that sees the same files."""
    noticing = _Noticing()
    noticing.dump(task)
    folder = os.getcwd() if noticing.is_relative else None
    seen = tuple(sorted(folder for folder in noticing.folders if os.path.isdir(folder))[:_FOLDERS])
    return pickle.dumps((Elsewhere(function, folder, seen), task))


class _Noticing(pickle.Pickler):
    """Pickles to see which files a task speaks of."""

    def __init__(self) -> None:
        super().__init__(BytesIO())
        self.folders: set[str] = set()
        self.is_relative = False

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, PurePath):
            self.is_relative = self.is_relative or not value.is_absolute()
            self.folders.add(str(Path(os.path.abspath(value)).parent))
        return NotImplemented


def _blind(folder: str) -> str:
    return (
        f"the node {socket.gethostname()} does not see {folder}, which is here: sources, store and build must lie "
        "where all nodes see them, under the same path"
    )


def _portable(error: BaseException, where: str) -> BaseException:
    """Return an exception that survives pickling, with the worker's traceback as a note."""
    trace = f"{where}:\n" + "".join(traceback.format_exception(error))
    carried = error if _survives(error) else RuntimeError(f"{type(error).__name__}: {error}")
    carried.add_note(trace)
    return carried


def _survives(error: BaseException) -> bool:
    """Tell whether an exception survives pickling; one with a local class or more constructor arguments does not."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False
