"""A stranger's file is first loaded in a process of its own, with limits of memory and time.

Libraries beneath take what a file asks for: all memory, no end, or the process with them. So whatever a file makes them
do while it is pinned is done where that ends in one sentence; a file that was seen to load is loaded again by others.
The process is a fork, which costs milliseconds, where this one has no threads yet and has loaded no library that has;
else it is started anew, and kept for what comes next.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NoReturn

from orca_recipes.contract.kinds import Result, Task
from orca_recipes.errors import OrcaError, UserError

_THREADED = frozenset(
    {"obstore", "polars", "pyarrow", "tokenizers", "gigatoken", "torch", "tensorflow", "jax", "numba"}
)
"""Libraries that start threads when they are imported or first used: a fork has none of them, and waits for ever."""

PR_SET_PDEATHSIG = 1
"""Of prctl: the signal that a process is sent when the one that started it ends."""
# A pipe keeps no bounds of messages, so each one follows its length.
_LENGTH = struct.Struct("<Q")
# Keeps an error to one readable sentence, however much a library prints.
_WORDS_SHOWN = 160
# A stranger's file can make a library print without end; no more than this is read.
_MOST_SAID = 1 << 20
_NO_MEMORY = ("memory allocation of", "bad_alloc", "annot allocate memory", "failed to map segment", "MemoryError")
"""What libraries and the loader of programs say where there is no memory."""


def machine_bytes() -> int:
    """Return three quarters of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4


def _memory_bytes() -> int:
    """Return three quarters of the machine's memory, at most 8 GiB."""
    return min(8 << 30, machine_bytes())


@contextmanager
def within_memory(memory_bytes: int) -> Iterator[None]:
    """Hold this process to so much memory on top of what it holds: beyond that, libraries get none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = _data_bytes() + memory_bytes
    bounds = [bound for bound in (most, soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@dataclass(frozen=True)
class Limits:
    """Limits of memory and time for loading and trying a file, on top of what the process already holds."""

    memory_bytes: int = field(default_factory=_memory_bytes)
    seconds: float = 300.0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold this process to the limits: without memory libraries fail, and beyond the time it is ended."""
        with within_memory(self.memory_bytes):
            signal.setitimer(signal.ITIMER_REAL, self.seconds)
            try:
                yield
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

    def exceeded(self, what: str, cause: str) -> str:
        """Return the error message for a file that exceeded the limits.

        Args:
            cause: "memory", the name of the signal that ended the process, or how else it ended.
        """
        if cause == "memory" and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
            return f"{what}: this process may not take the memory that loading it needs; raise `ulimit -v`"
        if cause == "memory":
            return f"{what}: to load it takes more than {self.memory_bytes / (1 << 30):.3g} GiB of memory; use another"
        if cause == signal.SIGALRM.name:
            return f"{what}: to load it takes more than {self.seconds:g} seconds; use another"
        return f"{what}: it ended the process that loaded it ({cause}); use another"


@dataclass(frozen=True)
class Bounded:
    """A function that any process can call, held to limits."""

    function: Callable[[Any], Any]
    limits: Limits

    def __call__(self, task: Any) -> Any:
        with self.limits.hold():
            return self.function(task)


@dataclass(frozen=True)
class Limited:
    """Does a piece of work in a process with limits."""

    limits: Limits = field(default_factory=Limits)

    def do(self, function: Callable[[Task], Result], task: Task, *, what: str, failure: type[UserError]) -> Result:
        """Run a function on a task in the limited process; both are pickled, so the function must be in a module.

        Args:
            what: whose fault it is where the process fails.
        Raises: what the function raises that has a sentence for users; failure for all else.
        """
        bounded = Bounded(function, self.limits)
        try:
            told = _asked(bounded, task)
        except _Ended as end:
            raise failure(self.limits.exceeded(what, end.cause)) from None
        if told is None:
            return function(task)
        done, outcome = told
        if done:
            found: Result = outcome
            return found
        return raise_told(outcome, what, failure, self.limits)

    def begin(self) -> None:
        """Have the process ready, at a moment at which it can be a fork."""
        if may_fork():
            _server()

    def rest(self) -> None:
        """End the process if it is a fork, to free its memory."""
        if _server.cache_info().currsize and (server := _server()).is_fork:
            _server.cache_clear()
            server.end()

    def expect(self, tokenizer: object, folder: object) -> None:
        """Hear that parts are coming; who makes them loads what it needs."""


LIMITED = Limited()


class _Ended(Exception):
    """The process ended in the middle. cause: how."""

    def __init__(self, cause: str) -> None:
        self.cause = cause


def raise_told(error: BaseException, what: str, failure: type[UserError], limits: Limits) -> NoReturn:
    """Raise what work raised: as it is where it has a sentence for users, else in words about the file."""
    if isinstance(error, OrcaError):
        raise error
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        raise failure(limits.exceeded(what, "memory")) from error
    lines = str(error).strip().splitlines() or [type(error).__name__]
    raise failure(f"{what}: it cannot be loaded: {lines[0][:_WORDS_SHOWN]}") from error


def may_fork() -> bool:
    """Tell whether a fork of this process would lack nothing."""
    return threading.active_count() == 1 and not _THREADED & sys.modules.keys()


class _Served:
    """A process that runs orders until it ends or this one does."""

    def __init__(self, *, is_fork: bool) -> None:
        """is_fork: of this process; else one that is started anew, and knows nothing of it but where modules lie."""
        self.is_fork = is_fork
        self._orders, self._told = os.pipe(), os.pipe()
        self._said, self._heard = tempfile.TemporaryFile("a+b"), 0  # noqa: SIM115  as long as the process
        self.lock = threading.Lock()
        self._process = self._forked() if is_fork else self._started()
        os.close(self._orders[0])
        os.close(self._told[1])
        self._asking, self._answers = os.fdopen(self._orders[1], "wb"), os.fdopen(self._told[0], "rb")

    def _forked(self) -> int:
        parent = os.getpid()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: numpy's threads, which survive a fork
            child = os.fork()
        if child:
            return child
        try:
            faulthandler.disable()
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            # The timer of Limits.hold has to end this process, whatever handler it inherited.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            os.close(self._orders[1])
            os.close(self._told[0])
            os.dup2(self._said.fileno(), 1)
            os.dup2(self._said.fileno(), 2)
            # A parent that ended before prctl took effect sends no signal any more.
            if os.getppid() == parent:
                serve(self._orders[0], self._told[1])
        finally:
            os._exit(0)

    def _started(self) -> subprocess.Popen[bytes]:
        ends = self._orders[0], self._told[1]
        serving = f"from orca_recipes.run.work.limited import serve; serve({ends[0]}, {ends[1]})"
        return subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {serving}"],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            pass_fds=ends,
            # It begins with `python -c`, which would import a socket.py of the current folder.
            env={**os.environ, "PYTHONSAFEPATH": "1"},
            # Ctrl-C of the terminal must not break its start, before `serve` ignores it.
            start_new_session=True,
        )

    def ask(self, order: bytes) -> tuple[bool, Any] | None:
        """Send an order and return (finished, outcome); None where the process cannot unpickle it. Raises: _Ended."""
        with suppress(BrokenPipeError):
            self._asking.write(_LENGTH.pack(len(order)) + order)
            self._asking.flush()
        head = self._answers.read(_LENGTH.size)
        data = self._answers.read(*_LENGTH.unpack(head)) if len(head) == _LENGTH.size else b""
        said = os.pread(self._said.fileno(), _MOST_SAID, self._heard).decode("utf-8", "replace")
        self._heard = os.fstat(self._said.fileno()).st_size
        if not data:
            raise _Ended(ended_by(self._status(), said))
        sys.stderr.write(said)  # a library's warnings are for the user
        outcome: tuple[bool, Any] | None = pickle.loads(data)
        return outcome

    def end(self) -> None:
        """End the process, wherever it is."""
        for file in (self._asking, self._answers, self._said):
            with suppress(OSError):
                file.close()
        with suppress(ProcessLookupError, ChildProcessError):
            if isinstance(self._process, int):
                os.kill(self._process, signal.SIGKILL)
                os.waitpid(self._process, 0)
            else:
                self._process.kill()
                self._process.wait()

    def _status(self) -> int:
        if isinstance(self._process, int):
            return os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        return self._process.wait()


@lru_cache(maxsize=1)
def _server() -> _Served:
    return _Served(is_fork=may_fork())


def _asked(bounded: Bounded, task: Any) -> tuple[bool, Any] | None:
    """Run work in the other process and return (finished, result or exception); None where this process alone knows the
    function or task. Raises: _Ended."""
    try:
        # Pickled twice: folder and environment are set before modules of the task are imported.
        order = pickle.dumps((os.getcwd(), dict(os.environ), pickle.dumps((bounded, task))))
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    server = _server()
    try:
        with server.lock:
            return server.ask(order)
    except BaseException:
        _server.cache_clear()
        server.end()
        raise


def serve(orders: int, told: int) -> None:
    """Do what a pipe asks for, order by order, until it ends."""
    # A fork shares the terminal's Ctrl-C; its parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A file may crash this process, and its core dump would only fill the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(orders, "rb") as asked, os.fdopen(told, "wb") as out:
        while len(head := asked.read(_LENGTH.size)) == _LENGTH.size:
            folder, environment, order = pickle.loads(asked.read(*_LENGTH.unpack(head)))
            os.chdir(folder)
            if environment != dict(os.environ):
                os.environ.clear()
                os.environ.update(environment)
            try:
                bounded, task = pickle.loads(order)
            except (ImportError, AttributeError):
                data = pickle.dumps(None)
            else:
                data = _carried_out(bounded, task)
            out.write(_LENGTH.pack(len(data)) + data)
            out.flush()


def _carried_out(bounded: Bounded, task: Any) -> bytes:
    try:
        return pickle.dumps((True, bounded(task)))
    except BaseException as error:  # Rust's panics are no Exception, and the other process must hear of them too
        return pickle.dumps((False, _portable(error)))


def _portable(error: BaseException) -> BaseException:
    """Return an exception that survives pickling, with the traceback as a note."""
    try:
        survives = type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        survives = False
    carried = error if survives else RuntimeError(f"{type(error).__name__}: {error}")
    carried.add_note("in a process with limits:\n" + "".join(traceback.format_exception(error)))
    return carried


def ended_by(status: int, said: str) -> str:
    """Describe how a process ended, with the last line it printed."""
    if status == -signal.SIGALRM:
        return signal.SIGALRM.name
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    if any(words in said for words in _NO_MEMORY):
        return "memory"
    lines = said.strip().splitlines()
    return f"{how}: {lines[-1][:_WORDS_SHOWN]}" if lines else how


def _data_bytes() -> int:
    """Return this process's VmData in bytes, which RLIMIT_DATA limits; 0 where it cannot be read."""
    with suppress(OSError, ValueError), open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmData:"):
                return int(line.split()[1]) << 10
    return 0
