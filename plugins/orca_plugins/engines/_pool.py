"""Worker processes that answer one task at a time over a pipe each.

One pipe a worker is what makes every ending clear: a worker whose pipe ends was killed, and it is known over which
task; a parent whose pipe ends is gone, and the worker goes too.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.resource_tracker import ensure_running
from typing import Any

from orca_recipes.contract.kinds import Result, Task
from orca_recipes.errors import Failure

_PATIENCE_SECONDS = 5.0
_THREAD_LIMITS = ("POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Pool:
    """Up to `size` workers, started when there are tasks for them; one map at a time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._workers: list[_Worker] = []
        self._busy = False

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Position and result of each task, as they finish; no more tasks are in flight than there are workers.

        Raises: what a task raised, once those that had begun have ended; Failure where a worker was killed.
        """
        if self._busy:
            raise RuntimeError("this pool is still busy with another map; finish or close that one first")
        self._busy = True
        try:
            error = yield from self._results(function, tasks)
        except BaseException:
            # An interrupt, a killed worker, or a caller that wants no more: nobody waits for what is running.
            self._stop(at_once=True)
            raise
        finally:
            self._busy = False
        if error is not None:
            raise error

    def close(self) -> None:
        """End the workers; they are idle, so a closed pipe is enough."""
        self._stop(at_once=self._busy)

    def _results(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Generator[tuple[int, Result], None, BaseException | None]:
        """Yields results; returns the exception of a task."""
        waiting = iter(range(len(tasks)))
        running: dict[Connection, tuple[_Worker, int]] = {}
        error: BaseException | None = None

        def feed(worker: _Worker) -> None:
            position = next(waiting, None)
            if position is not None:
                worker.send(function, tasks[position])
                running[worker.pipe] = worker, position

        for worker in self._started(len(tasks)):
            feed(worker)
        while running:
            ready = wait(list(running))
            for pipe in [pipe for pipe in running if pipe in ready]:
                worker, position = running.pop(pipe)
                finished, outcome = worker.receive(f"part {position + 1} of {len(tasks)}")
                if not finished:
                    error = error or outcome
                if error is None:
                    feed(worker)
                    yield position, outcome
        return error

    def _started(self, tasks: int) -> Sequence[_Worker]:
        self._workers = [worker for worker in self._workers if worker.process.is_alive()]
        while len(self._workers) < min(self.size, tasks):
            with _interrupts_held_back():
                self._workers.append(_start(threads=max(1, _cores() // self.size)))
        return self._workers[:tasks]

    def _stop(self, *, at_once: bool) -> None:
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.pipe.close()
            if at_once:
                worker.process.terminate()
        for worker in workers:
            worker.process.join(_PATIENCE_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()


@dataclass(frozen=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection

    def send(self, function: Callable[[Task], Result], task: Task) -> None:
        order = pickle.dumps((function, task))
        try:
            self.pipe.send_bytes(order)
        except OSError as error:
            raise Failure(self._obituary("before it could begin")) from error

    def receive(self, part: str) -> tuple[bool, Any]:
        """Whether the task finished, and its result or exception. Raises: Failure where the worker was killed."""
        try:
            finished, outcome = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError) as error:
            raise Failure(self._obituary(f"while it worked on {part}")) from error
        return finished, outcome

    def _obituary(self, when: str) -> str:
        self.process.join(_PATIENCE_SECONDS)
        code = self.process.exitcode or 0
        cause = f"ended with exit status {code}"
        if code < 0:
            name = signal.Signals(-code).name
            cause = "was killed (out of memory?)" if name == "SIGKILL" else f"was killed ({name})"
        return f"a worker process {cause} {when}; the finished parts are kept: run the same command again"


def _start(*, threads: int) -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, threads), name="orca-worker", daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let a worker start whole: Ctrl-C reaches all processes of a terminal, and half a start prints tracebacks.

    The worker inherits the mask, so that no interrupt ever meets it. The mask alone does not spare the parent: another
    thread of it may take the signal, and Python then raises in the main one. What came is raised once all is done.
    """
    ensure_running()  # multiprocessing's own helper process: starting it later would lift the mask
    came: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if is_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve(pipe: Connection, threads: int) -> None:
    """The life of a worker: its parent decides when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_threads(threads)
    while True:
        try:
            order = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        try:
            pipe.send_bytes(_carried_out(order))
        except OSError:
            return


def _limit_threads(threads: int) -> None:
    """Share the cores among the workers; libraries read these when a task first imports them. A limit that the user
    set is left alone."""
    for name in _THREAD_LIMITS:
        os.environ.setdefault(name, str(threads))
    os.environ.setdefault("ARROW_IO_THREADS", str(max(2, threads)))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false" if threads == 1 else "true")


def _carried_out(order: bytes) -> bytes:
    try:
        function, task = pickle.loads(order)
        return pickle.dumps((True, function(task)))
    except BaseException as error:  # Rust's panics are no Exception, and the parent must hear of them too
        return pickle.dumps((False, _portable(error)))


def _portable(error: BaseException) -> BaseException:
    """The exception as it survives the pipe, with the worker's traceback as a note."""
    trace = "in a worker process:\n" + "".join(traceback.format_exception(error))
    carried = error if _survives(error) else RuntimeError(f"{type(error).__name__}: {error}")
    carried.add_note(trace)
    return carried


def _survives(error: BaseException) -> bool:
    """Whether it comes out of the pipe as it went in: not if its class is local or its constructor wants more."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False
