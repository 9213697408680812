"""What several stages that run at once say: one is shown as it goes, and each tells when it ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import RLock, get_ident

from orca_recipes.progress import Progress


@dataclass
class _Running:
    """A stage under way; shown is what the one progress was told of it."""

    name: str
    total: int
    unit: str
    started: float
    done: int = 0


class SharedProgress(Progress):
    """Hands what threads say to one progress, which shows the stage that has run longest."""

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
