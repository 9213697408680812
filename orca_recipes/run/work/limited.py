"""A stranger's file is first loaded in a process of its own, with limits of memory and time.

Libraries beneath take what a file asks for: all memory, no end, or the process with them. So whatever a file makes them
do while it is pinned is done where that ends in one sentence; a file that was seen to load is loaded again by others.
The process is a fork where this one has loaded no library with threads of its own, which costs milliseconds, else one
that is started anew, and kept for what comes next.
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
from typing import IO, Any, NoReturn

from orca_recipes.contract.kinds import Result, Task
from orca_recipes.errors import OrcaError, UserError

_THREADED = frozenset({"polars", "pyarrow", "tokenizers", "gigatoken", "torch", "tensorflow", "jax", "numba"})
"""Libraries that start threads when they are imported or first used: a fork has none of them, and waits for ever."""

_SERVING = "from orca_recipes.run.work.limited import serve; serve()"
_PR_SET_PDEATHSIG = 1
_LENGTH = struct.Struct("<Q")
_WORDS_SHOWN = 160
_NO_MEMORY = ("memory allocation of", "bad_alloc", "annot allocate memory", "failed to map segment", "MemoryError")
"""What libraries and the loader of programs say where there is no memory."""


def _memory_bytes() -> int:
    """Three quarters of the machine's memory, at most 8 GiB."""
    return min(8 << 30, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4)


@dataclass(frozen=True)
class Limits:
    """What loading and trying a file may take beyond what the process held before."""

    memory_bytes: int = field(default_factory=_memory_bytes)
    seconds: float = 300.0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold this process to the limits: without memory libraries fail, and beyond the time it is ended."""
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = _data_bytes() + self.memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))

    def exceeded(self, what: str, cause: str) -> str:
        """The sentence for a file that did not keep to them.

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
        """What a function makes of a task; both are handed over, so the function stands in a module.

        Args:
            what: whose fault it is where the process fails.
        Raises: what the function raises that has a sentence for users; failure for all else.
        """
        bounded = Bounded(function, self.limits)
        try:
            told = _forked(bounded, task) if _may_fork() else _spawned(bounded, task)
        except _Ended as end:
            raise failure(self.limits.exceeded(what, end.cause)) from None
        if told is None:
            return function(task)
        done, outcome = told
        if done:
            found: Result = outcome
            return found
        return raise_told(outcome, what, failure, self.limits)

    def expect(self, tokenizer: object, folder: object) -> None:
        """Parts are coming; who makes them loads what it needs."""


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


def _may_fork() -> bool:
    return threading.active_count() == 1 and not _THREADED & sys.modules.keys()


def _forked(bounded: Bounded, task: Any) -> tuple[bool, Any]:
    """Whether a fork of this process finished the work, and its result or what it raised. Raises: _Ended."""
    ours, theirs = os.pipe()
    parent = os.getpid()
    with tempfile.TemporaryFile() as said, os.fdopen(ours, "rb") as told:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: numpy's threads, which survive a fork
            child = os.fork()
        if not child:
            _be_child(bounded, task, said, theirs, parent)
        os.close(theirs)
        ended: int | None = None
        try:
            data = told.read()
            _, ended = os.waitpid(child, 0)
        finally:
            if ended is None:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        if not data:
            raise _Ended(_cause(os.waitstatus_to_exitcode(ended), said))
        _repeat(said)
    outcome: tuple[bool, Any] = pickle.loads(data)
    return outcome


def _be_child(bounded: Bounded, task: Any, said: IO[bytes], theirs: int, parent: int) -> NoReturn:
    """The life of a fork, which never returns."""
    try:
        faulthandler.disable()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        if os.getppid() == parent:
            with os.fdopen(theirs, "wb") as pipe:
                pipe.write(_carried_out(bounded, task))
    finally:
        os._exit(0)


class _Served:
    """A process that was started anew, and serves until it ends or this one does."""

    def __init__(self) -> None:
        ours, theirs = os.pipe()
        self.said = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
        self.lock = threading.Lock()
        environment = {**os.environ, "PYTHONSAFEPATH": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {_SERVING}", str(theirs)],
            stdin=subprocess.PIPE,
            stdout=self.said,
            stderr=self.said,
            pass_fds=(theirs,),
            env=environment,
            start_new_session=True,
        )
        os.close(theirs)
        self.told = os.fdopen(ours, "rb")

    def ask(self, order: bytes) -> tuple[bool, Any] | None:
        """What became of an order; None where the process cannot read it. Raises: _Ended."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(_LENGTH.pack(len(order)) + order)
            self.process.stdin.flush()
        head = self.told.read(_LENGTH.size)
        data = self.told.read(*_LENGTH.unpack(head)) if len(head) == _LENGTH.size else b""
        if not data:
            raise _Ended(_cause(self.process.wait(), self.said))
        outcome: tuple[bool, Any] | None = pickle.loads(data)
        return outcome

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.told, self.said):
            if file is not None:
                with suppress(OSError):
                    file.close()


@lru_cache(maxsize=1)
def _server() -> _Served:
    return _Served()


def _spawned(bounded: Bounded, task: Any) -> tuple[bool, Any] | None:
    """As `_forked`, by a process that was started anew; None where what is handed over is known to this one alone."""
    try:
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


def serve() -> None:
    """Do what standard input asks for, order by order, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.fdopen(int(sys.argv[1]), "wb")
    while len(head := sys.stdin.buffer.read(_LENGTH.size)) == _LENGTH.size:
        folder, environment, order = pickle.loads(sys.stdin.buffer.read(*_LENGTH.unpack(head)))
        os.chdir(folder)
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
    """The exception as it survives the pipe, with the traceback as a note."""
    try:
        survives = type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        survives = False
    carried = error if survives else RuntimeError(f"{type(error).__name__}: {error}")
    carried.add_note("in a process with limits:\n" + "".join(traceback.format_exception(error)))
    return carried


def _cause(status: int, said: IO[bytes]) -> str:
    """How a process ended, with the last line that it said."""
    if status == -signal.SIGALRM:
        return signal.SIGALRM.name
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    said.seek(0)
    lines = said.read().decode("utf-8", "replace").strip().splitlines()
    if any(words in line for line in lines for words in _NO_MEMORY):
        return "memory"
    return f"{how}: {lines[-1][:_WORDS_SHOWN]}" if lines else how


def _repeat(said: IO[bytes]) -> None:
    """Say what the process said, where the work went well: a library's warnings are for the user."""
    said.seek(0)
    sys.stderr.write(said.read().decode("utf-8", "replace"))


def _data_bytes() -> int:
    """What counts towards RLIMIT_DATA by now."""
    with suppress(OSError, ValueError), open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmData:"):
                return int(line.split()[1]) << 10
    return 0
