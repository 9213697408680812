"""Worker processes that answer one task at a time over a pipe each.

One pipe a worker is what makes every ending clear: a worker whose pipe ends was killed, and it is known over which
task; a parent whose pipe ends is gone, and the worker goes too.
"""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.resource_tracker import ensure_running
from typing import Any

from orca_plugins.engines._orders import carried_out, limit_threads
from orca_recipes.contract.kinds import Result, Task
from orca_recipes.errors import Failure

# An idle worker ends at once when its pipe closes; one that does not is killed.
_PATIENCE_SECONDS = 5.0
_SAFE_PATH = "PYTHONSAFEPATH"
_STARTING = threading.Lock()
"""Held while the environment is that of a process which is started: it belongs to all threads."""


class Pool:
    """Up to `size` workers, started when there are tasks for them.

    Maps of several threads share them: a worker that one map has no more tasks for goes to the next.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._warming: dict[Connection, int] = {}
        self._mapping: set[int] = set()
        self._changed = threading.Condition()
        self._stops = 0
        self._cause: Failure | None = None

    def warm(self, function: Callable[[Task], object], task: Task) -> None:
        """Have idle workers call a function, whose outcome nobody hears of, before their next task; returns at once."""
        with self._changed:
            while len(self._workers) < self.size:
                self._idle.append(self._started())
            for worker in self._idle:
                with suppress(Failure):  # a worker that is gone already is missed by the map that needs it
                    worker.send(function, task)
                    self._warming[worker.pipe] = self._warming.get(worker.pipe, 0) + 1

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Position and result of each task, as they finish; no more tasks are in flight than there are workers.

        Raises: what a task raised, once those that had begun have ended; Failure where a worker was killed.
        """
        thread = threading.get_ident()
        if thread in self._mapping:
            raise RuntimeError("this pool is still busy with another map; finish or close that one first")
        self._mapping.add(thread)
        running: dict[Connection, tuple[_Worker, int]] = {}
        stops = self._stops
        try:
            error = yield from self._results(function, tasks, running)
        except BaseException as fault:
            if stops != self._stops and isinstance(fault, Failure):
                raise self._cause or fault from None  # another map stopped the workers: what it met is what to tell
            # An interrupt, a killed worker, or a caller that wants no more: nobody waits for what is running.
            self._cause = fault if isinstance(fault, Failure) else None
            self._stop([worker for worker, _ in running.values()], at_once=True)
            raise
        finally:
            self._mapping.discard(thread)
        if error is not None:
            raise error

    def close(self) -> None:
        """End the workers; where no map is under way they are idle, so a closed pipe is enough."""
        self._stop([], at_once=bool(self._mapping))

    def _results(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], running: dict[Connection, tuple[_Worker, int]]
    ) -> Generator[tuple[int, Result], None, BaseException | None]:
        """Yield results; return the exception of a task. What is in flight is in `running`."""
        stops, begun = self._stops, 0
        error: BaseException | None = None
        found: list[tuple[int, Any]] = []
        while True:
            while error is None and begun < len(tasks):
                worker = self._borrowed(stops, waits=not running)
                if worker is None:
                    break
                running[worker.pipe] = worker, begun
                worker.send(function, tasks[begun])
                begun += 1
            # Given out once all free workers have their next task: who takes a result may be slow.
            yield from found
            if not running:
                return error
            found = []
            for worker, position in self._ended(running):
                finished, outcome = worker.receive(f"part {position + 1} of {len(tasks)}")
                del running[worker.pipe]
                self._give_back(worker)
                if not finished:
                    # The first fault is the one to tell: those behind it often follow from it.
                    error = error or outcome
                elif error is None:
                    found.append((position, outcome))

    def _ended(self, running: dict[Connection, tuple[_Worker, int]]) -> list[tuple[_Worker, int]]:
        """Wait for the workers that have something to say of their tasks, and return them."""
        ready = wait(list(running))
        return [
            (worker, position)
            for pipe, (worker, position) in running.items()
            if pipe in ready and not self._was_warming(worker)
        ]

    def _was_warming(self, worker: _Worker) -> bool:
        """Tell whether a worker's next answer belongs to warming and not to a task, and if so take it from the pipe."""
        left = self._warming.pop(worker.pipe, 0)
        if not left:
            return False
        worker.receive("getting ready")
        if left > 1:
            self._warming[worker.pipe] = left - 1
        return True

    def _borrowed(self, stops: int, *, waits: bool) -> _Worker | None:
        """Take an idle worker, else start one if the pool has room, else wait for one from another map, or return None.

        Raises: Failure where the pool was stopped meanwhile.
        """
        with self._changed:
            while True:
                if stops != self._stops:
                    raise Failure(
                        "the worker processes were stopped; the finished parts are kept: "
                        "run the same command again to go on"
                    )
                # A worker may be killed while nobody uses it (the system is out of memory): it is replaced.
                self._workers = [worker for worker in self._workers if worker.process.is_alive()]
                self._idle = [worker for worker in self._idle if worker in self._workers]
                if self._idle:
                    return self._idle.pop(0)
                if len(self._workers) < self.size:
                    return self._started()
                if not waits:
                    return None
                self._changed.wait()

    def _started(self) -> _Worker:
        with _safe_path(), _interrupts_held_back():
            # Libraries start a thread a core: without a share, sixteen workers would run two hundred and fifty-six.
            self._workers.append(_start(threads=max(1, _cores() // self.size)))
        return self._workers[-1]

    def _give_back(self, worker: _Worker) -> None:
        with self._changed:
            if worker in self._workers:
                self._idle.append(worker)
            self._changed.notify()

    def _stop(self, ours: Sequence[_Worker], *, at_once: bool) -> None:
        """End all workers. Those that another thread's map waits for are only told to go: it sees them go."""
        with self._changed:
            workers, self._workers = self._workers, []
            mine = [worker for worker in workers if worker in ours or worker in self._idle]
            # A worker that gets ready loads libraries for seconds, and nobody waits for that any more.
            at_once = at_once or bool(self._warming)
            self._idle = []
            self._warming.clear()
            self._stops += 1
            self._changed.notify_all()
        for worker in mine:
            worker.pipe.close()
        for worker in workers if at_once else []:
            worker.process.terminate()
        for worker in mine:
            worker.process.join(_PATIENCE_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()


@dataclass(frozen=True, eq=False)
class _Worker:
    process: SpawnProcess
    pipe: Connection

    def send(self, function: Callable[[Task], Result], task: Task) -> None:
        # Outside of the try: what cannot be pickled is the caller's fault, and no worker died of it.
        order = pickle.dumps((function, task))
        try:
            self.pipe.send_bytes(order)
        except OSError as error:
            raise Failure(self._obituary("before it could begin")) from error

    def receive(self, part: str) -> tuple[bool, Any]:
        """Receive (finished, result or exception) of a task. Raises: Failure where the worker was killed."""
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
    # polars hangs after a fork, and a forkserver imports the caller's main module.
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_serve, args=(theirs, threads, gc.get_threshold()), name="orca-worker", daemon=True
    )
    process.start()
    # With both ends open here, the end of a worker would never close the pipe.
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _safe_path() -> Iterator[None]:
    """Start processes that look for no module in the current folder; what the user put into PYTHONPATH they find.

    They begin with `python -c`, which would import a socket.py that lies there before it is told where to look.
    """
    with _STARTING:
        before = os.environ.get(_SAFE_PATH)
        os.environ[_SAFE_PATH] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_SAFE_PATH]
            else:
                os.environ[_SAFE_PATH] = before


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


def _serve(pipe: Connection, threads: int, collections: tuple[int, int, int]) -> None:
    """Serve tasks in a worker process; the parent decides when it ends, and how often it collects garbage."""
    # Ctrl-C reaches all processes of a terminal; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.set_threshold(*collections)
    limit_threads(threads)
    served: list[bool] = []
    # The first to be registered is the last to be called. Then only Python's own end is left, which takes a library
    # apart object by object: a tenth of a second that the parent would wait for.
    atexit.register(lambda: os._exit(0) if served else None)
    with suppress(EOFError, OSError):
        while True:
            pipe.send_bytes(carried_out(pipe.recv_bytes(), "in a worker process"))
    served.append(True)
