"""A command goes on in a fork, and the process that was started only watches how it ends.

What a stranger's file makes a library do ends then in one sentence, as in `limited`, and what was loaded stays where it
is needed: a tokenizer is loaded once, in the process that tokenizes.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import resource
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO, Any

from orca_recipes.contract.kinds import Result, Task
from orca_recipes.errors import OutOfMemory, UserError
from orca_recipes.run.work.limited import LIMITED, PR_SET_PDEATHSIG, Bounded, Limits, ended_by, may_fork, raise_told
from orca_recipes.run.work.workers import Work

_PASSED_ON = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
_ONE_INTERRUPT_SECONDS = 1.0
"""Interrupts that come together are one: a group's reaches the fork, and the process that passes its own on."""
_HEARING_SECONDS = 0.3
"""How long a fork has to hear an interrupt of its group, before it is passed the one of the process that watches."""
_TIME = struct.Struct("d")
_CURSOR_SHOWN = b"\x1b[?25h"
# What libraries print is passed on or quoted in an error; a library in a loop must not fill memory.
_MOST_SAID = 1 << 20


def watched(limits: Limits | None = None) -> Work:
    """Go on in a fork; who does a command's work there. Where no fork is possible, work goes to another process.

    Raises: in the process that was started, the sentence for what ended the fork while it loaded a file.
    """
    if sys.platform != "linux" or not may_fork():
        LIMITED.begin()
        return LIMITED
    sys.stdout.flush()
    sys.stderr.flush()
    # Both last as long as the processes.
    work = Watched(limits or Limits(), tempfile.TemporaryFile(), tempfile.TemporaryFile("a+b"))  # noqa: SIM115
    interrupt = _Interrupt()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON | {signal.SIGCHLD})
    started = os.getpid()
    fork = os.fork()
    if fork:
        status = _status_of(fork, interrupt)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        work.tell_end(status)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != started:
        os._exit(1)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    signal.pthread_sigmask(signal.SIG_SETMASK, held)
    return work


class Watched:
    """Does work in this process, which may end meanwhile.

    notes: what is being loaded, for the process that watches. said: what libraries print meanwhile.
    """

    def __init__(self, limits: Limits, notes: IO[bytes], said: IO[bytes]) -> None:
        self._limits = limits
        self._notes = notes
        self._said = said

    def do(self, function: Callable[[Task], Result], task: Task, *, what: str, failure: type[UserError]) -> Result:
        """Run a function on a task within limits of memory and time."""
        with self._noted(what, failure), self._heard():
            try:
                found: Result = Bounded(function, self._limits)(task)
                return found
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # Rust's panics are no Exception
                raise_told(error, what, failure, self._limits)

    def rest(self) -> None:
        """Do nothing: no process is held that could be let go of."""

    def expect(self, tokenizer: object, folder: object) -> None:
        """Hear that parts are coming, whose tokenizer this process loads."""

    def tell_end(self, status: int) -> None:
        """End this process as the fork ended.

        Raises: the failure of what the fork was loading, where that ended it; OutOfMemory where a library ended it for
            want of memory, and `ulimit -v` leaves it little.
        """
        self._notes.seek(0)
        if note := self._notes.read():
            what, failure = pickle.loads(note)
            said = os.pread(self._said.fileno(), _MOST_SAID, 0).decode("utf-8", "replace")
            if sys.stderr.isatty():
                os.write(2, _CURSOR_SHOWN)
            raise failure(self._limits.exceeded(what, ended_by(status, said)))
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if status in (-signal.SIGABRT, -signal.SIGSEGV) and limit != resource.RLIM_INFINITY:
            raise OutOfMemory(
                f"{signal.Signals(-status).name} ended this command, which may map {limit / 1e9:.3g} GB of memory "
                "(`ulimit -v`); what was finished is kept: raise the limit and run the same command again"
            )
        if status < 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with suppress(OSError, ValueError):
                signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        os._exit(status if status >= 0 else 128 - status)

    @contextmanager
    def _noted(self, what: str, failure: type[UserError]) -> Iterator[None]:
        """Tell the watching process what is about to be loaded."""
        os.pwrite(self._notes.fileno(), pickle.dumps((what, failure)), 0)
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
            os.ftruncate(self._notes.fileno(), 0)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Keep what libraries print, for the user's stderr; Python's own stderr goes on as it is."""
        stdout, stderr = sys.stdout, sys.stderr
        stdout.flush()
        stderr.flush()
        kept = os.dup(1), os.dup(2)
        for number in (1, 2):
            os.dup2(self._said.fileno(), number)
        try:
            with open(kept[1], "w", closefd=False, buffering=1, encoding="utf-8", errors="backslashreplace") as shown:
                sys.stderr = shown
                yield
        finally:
            stdout.flush()
            stderr.flush()
            sys.stderr = stderr
            for number, before in enumerate(kept, start=1):
                os.dup2(before, number)
                os.close(before)
            said = os.pread(self._said.fileno(), _MOST_SAID, 0)
            os.ftruncate(self._said.fileno(), 0)
            os.write(2, said)  # a library's warnings are for the user


class _Interrupt:
    """Interrupts a process, once for interrupts that come together; its forks and the first one share when that was."""

    def __init__(self) -> None:
        self._heard = mmap.mmap(-1, _TIME.size)

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        if not self.was_heard:
            _TIME.pack_into(self._heard, 0, time.monotonic())
            signal.default_int_handler(number, frame)

    @property
    def was_heard(self) -> bool:
        """Tell whether an interrupt was heard just now."""
        (heard,) = _TIME.unpack_from(self._heard)
        return bool(heard) and time.monotonic() - heard < _ONE_INTERRUPT_SECONDS

    def is_heard(self) -> bool:
        """Tell whether an interrupt is heard now or soon."""
        ends = time.monotonic() + _HEARING_SECONDS
        while not self.was_heard and time.monotonic() < ends:
            time.sleep(0.01)
        return self.was_heard


def _status_of(fork: int, interrupt: _Interrupt) -> int:
    """Wait for the end of a fork; signals that were sent to this process alone are passed on."""
    while True:
        found = signal.sigwaitinfo(_PASSED_ON | {signal.SIGCHLD})
        if found.si_signo != signal.SIGCHLD:
            # One of the kernel, as Ctrl-C, goes to the whole group; one of a process may.
            if found.si_code <= 0 and not (found.si_signo == signal.SIGINT and interrupt.is_heard()):
                os.kill(fork, found.si_signo)
        elif (ended := os.waitpid(fork, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(ended[1])
