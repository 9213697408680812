"""Progress of a long build: bars with rates and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import RLock, get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from orca_recipes.shards.show.visible import visible

if TYPE_CHECKING:
    from rich.console import Group
    from rich.progress import Progress as Bars

# Where output is a file every line stays: a build of hours must not fill the log.
_LINE_EVERY_SECONDS = 10.0

Lines = Callable[[], Sequence[str]]


class Progress(AbstractContextManager["Progress"]):
    """Says nothing; the base of those that do. `begin` a stage, `advance` it, `end` it; `say` a sentence."""

    def begin(self, stage: str, *, total: int, unit: str) -> None:
        """Begin a stage; total is in `unit` ("B", "examples", "shards")."""

    def advance(self, amount: int) -> None:
        """Hear that so much of the stage was done."""

    def end(self, summary: str) -> None:
        """End the stage, with a summary."""

    def say(self, sentence: str) -> None:
        """Show a sentence to the user."""

    @property
    def is_live(self) -> bool:
        """Tell whether `board` is seen."""
        return False

    def board(self, lines: Lines | None) -> None:
        """Show lines below the bars, asked for again and again; None: none any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def progress_for(stream: TextIO = sys.stderr) -> Progress:
    """Choose bars where the stream is a terminal, lines elsewhere."""
    return _BarProgress() if stream.isatty() else _LineProgress(stream)


class _LineProgress(Progress):
    """One line when a stage ends, and one now and then while it runs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def begin(self, stage: str, *, total: int, unit: str) -> None:
        self._stage, self._total, self._unit, self._done = stage, total, unit, 0
        self._started = self._said = time.monotonic()

    def advance(self, amount: int) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._said >= _LINE_EVERY_SECONDS and self._done:
            self._said = now
            rate = self._done / (now - self._started)
            left = (self._total - self._done) / rate
            self.say(f"{self._stage}: {self._done:,} of {self._total:,} {self._unit}, {left:.0f} s left")

    def end(self, summary: str) -> None:
        seconds = time.monotonic() - self._started
        self.say(f"{self._stage}: {summary} ({seconds:.1f} s)")

    def say(self, sentence: str) -> None:
        print(visible(sentence, keep="\n"), file=self._stream, flush=True)


class _BarProgress(Progress):
    """A bar for the running stage, finished stages above it."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        self._bars: Bars = Progress(
            # Names of stages may hold brackets, which rich reads as markup.
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._lines: Lines | None = None
        self._live = Live(get_renderable=self._shown, console=self._console, transient=True, refresh_per_second=5)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def begin(self, stage: str, *, total: int, unit: str) -> None:
        self._stage, self._unit, self._started = stage, unit, time.monotonic()
        self._task = self._bars.add_task(stage, total=max(total, 1), rate="")

    def advance(self, amount: int) -> None:
        task = self._bars.tasks[-1]
        # The clock may not have moved since the stage began.
        rate = (task.completed + amount) / max(time.monotonic() - self._started, 1e-6)
        self._bars.update(self._task, advance=amount, rate=f"{_short(rate)} {self._unit}/s")

    def end(self, summary: str) -> None:
        seconds = time.monotonic() - self._started
        self._bars.remove_task(self._task)
        self.say(f"{self._stage}: {summary} ({seconds:.1f} s)")

    @property
    def is_live(self) -> bool:
        return True

    def board(self, lines: Lines | None) -> None:
        self._lines = lines

    def _shown(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        lines = self._lines() if self._lines is not None else ()
        return Group(self._bars, *(Text(visible(line), no_wrap=True, overflow="ellipsis") for line in lines))

    def say(self, sentence: str) -> None:
        self._console.print(visible(sentence, keep="\n"), markup=False, highlight=False, emoji=False, soft_wrap=True)


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{letter}"
    return f"{number:.0f}"


@dataclass
class _Running:
    """A stage under way; shown is what the one progress was told of it."""

    name: str
    total: int
    unit: str
    started: float
    done: int = 0


class SharedProgress(Progress):
    """Shares one progress among threads; the longest running stage is shown."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._running: dict[int, _Running] = {}
        self._lock = RLock()

    def begin(self, stage: str, *, total: int, unit: str) -> None:
        with self._lock:
            self._running[get_ident()] = _Running(stage, total, unit, time.monotonic())
            if len(self._running) == 1:
                self._show_first()

    def advance(self, amount: int) -> None:
        with self._lock:
            self._running[get_ident()].done += amount
            if self._is_shown():
                self._shown.advance(amount)

    def end(self, summary: str) -> None:
        with self._lock:
            was_shown = self._is_shown()
            ended = self._running.pop(get_ident(), None)
            if ended is None:
                self._shown.say(summary)
                return
            if not was_shown:
                self._shown.say(f"{ended.name}: {summary} ({time.monotonic() - ended.started:.1f} s)")
                return
            self._shown.end(summary)
            self._show_first()

    def say(self, sentence: str) -> None:
        with self._lock:
            self._shown.say(sentence)

    def _is_shown(self) -> bool:
        return next(iter(self._running), None) == get_ident()

    def _show_first(self) -> None:
        for stage in self._running.values():
            self._shown.begin(stage.name, total=stage.total, unit=stage.unit)
            self._shown.advance(stage.done)
            return
