"""Choosing stored answers that are to count for nothing any more.

Conditions are joined by "and". A request whose answer was dropped is asked again by the next build that needs it.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orca_recipes.contract.answers import EMPTY, Answer
from orca_recipes.counted import counted
from orca_recipes.traces.drops import Place
from orca_recipes.traces.trace_store import TraceStore

_ANSWERED = "answered"


@dataclass(frozen=True)
class Choice:
    """A selection of answers; null or empty conditions select nothing.

    model, reason, finish, endpoint: patterns with *, ? and [...]. reason "empty" also means empty replies that older
    stores call otherwise. since, before: seconds since 1970. keys: beginnings of keys in hexadecimal digits; requests:
    whole keys.
    """

    model: str | None = None
    reason: str | None = None
    finish: str | None = None
    endpoint: str | None = None
    since: float | None = None
    before: float | None = None
    keys: tuple[str, ...] = ()
    requests: frozenset[bytes] | None = None

    def holds(self, answer: Answer) -> bool:
        """Tell whether an answer is chosen."""
        patterns = (
            (self.model, answer.model_asked),
            (self.finish, answer.finish_reason),
            (self.endpoint, answer.endpoint),
        )
        return (
            all(pattern is None or fnmatch.fnmatchcase(text, pattern) for pattern, text in patterns)
            and (self.reason is None or _has_reason(answer, self.reason))
            and (self.since is None or answer.time >= self.since)
            and (self.before is None or answer.time < self.before)
            and (not self.keys or answer.key.hex().startswith(self.keys))
            and (self.requests is None or answer.key in self.requests)
        )


@dataclass(frozen=True)
class Chosen:
    """The answers that a choice means: where they stand, and how many there are by model and reason."""

    places: tuple[Place, ...]
    counts: tuple[tuple[str, str, int], ...]

    def as_json(self) -> dict[str, Any]:
        counts = [{"model": model, "reason": reason, "traces": number} for model, reason, number in self.counts]
        return {"traces": len(self.places), "requests": self.requests, "counts": counts}

    @property
    def requests(self) -> int:
        """Count the requests of the chosen answers."""
        return len({place.key for place in self.places})

    def lines(self) -> Iterator[str]:
        """Yield the summary shown before the answers are dropped."""
        yield f"{counted(len(self.places), 'trace')} of {counted(self.requests, 'request')}"
        for model, reason, number in self.counts:
            yield f"  {model}: {number:,} {reason}"


def chosen(traces: TraceStore, choice: Choice) -> Chosen:
    """Find the stored answers of a choice. Reads every byte."""
    places, counts = [], Counter[tuple[str, str]]()
    for place, trace in traces.placed():
        if choice.holds(trace.answer):
            places.append(place)
            counts[trace.answer.model_asked, _reason(trace.answer) or _ANSWERED] += 1
    return Chosen(tuple(places), tuple((*names, number) for names, number in sorted(counts.items())))


def _reason(answer: Answer) -> str | None:
    return EMPTY if answer.is_empty else answer.reason


def _has_reason(answer: Answer, pattern: str) -> bool:
    return any(
        reason is not None and fnmatch.fnmatchcase(reason, pattern) for reason in (_reason(answer), answer.reason)
    )
