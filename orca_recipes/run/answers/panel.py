"""Progress of collecting: a few live lines on a terminal, one line now and then elsewhere.

Rates are those of the last minute. Names of endpoints and kinds of errors come from servers in the end: they are shown
as text, never as markup.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from orca_recipes.contract.answers import Answer, Money
from orca_recipes.counted import counted
from orca_recipes.progress import Progress

# Where output is a file every line stays: days of collecting must not fill the log.
_LINE_EVERY_SECONDS = 10.0
# Providers count limits by the minute: what is shown must be held against the same span.
_WINDOW_SECONDS = 60

Clock = Callable[[], float]


class Rate:
    """Amounts of the last minute, kept second by second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock()
        self._seconds: deque[list[float]] = deque()

    def add(self, amount: float) -> None:
        second = int(self._clock())
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0.0])
        self._seconds[-1][1] += amount

    def per_minute(self) -> float:
        """Return the amount of the last minute; extrapolate if less than a minute has passed."""
        now = self._clock()
        while self._seconds and self._seconds[0][0] <= now - _WINDOW_SECONDS:
            self._seconds.popleft()
        passed = min(max(now - self._began, 1.0), _WINDOW_SECONDS)
        return sum(amount for _, amount in self._seconds) * 60 / passed


@dataclass
class Endpoint:
    """One endpoint as it fares; limits are by what they limit."""

    requests: Rate
    input_tokens: Rate
    output_tokens: Rate
    state: str = "open"
    limits: dict[str, float] = field(default_factory=dict)

    def line(self, name: str) -> str:
        shown = [
            f"{rate.per_minute():,.0f}" + (f" of {self.limits[what]:,.0f}" if what in self.limits else "") + f" {what}"
            for what, rate in (
                ("requests", self.requests),
                ("tokens in", self.input_tokens),
                ("tokens out", self.output_tokens),
            )
        ]
        state = "" if self.state == "open" else f" ({self.state})"
        return f"  {name}{state}: {', '.join(shown)} a minute"


class Panel:
    """Counts what a session does (`CollectPanel`), and shows it through a build's progress."""

    def __init__(
        self, progress: Progress, teacher: str, total: int, *, money: Money, spent_usd: float, clock: Clock
    ) -> None:
        """total: answers that are wanted. spent_usd: what those that are stored cost."""
        self._progress, self._teacher, self._total, self._money = progress, teacher, total, money
        self._clock, self._began, self._said = clock, clock(), clock()
        self._endpoints: dict[str, Endpoint] = {}
        self._failures: Counter[str] = Counter()
        self._before = spent_usd
        self._done = self._rejected = self._unpriced = 0
        self._usd = 0.0

    def endpoint_limits(
        self,
        endpoint: str,
        *,
        requests_per_minute: float | None,
        input_tokens_per_minute: float | None,
        output_tokens_per_minute: float | None,
    ) -> None:
        limits = {
            "requests": requests_per_minute,
            "tokens in": input_tokens_per_minute,
            "tokens out": output_tokens_per_minute,
        }
        self._endpoint(endpoint).limits = {what: limit for what, limit in limits.items() if limit is not None}

    def endpoint_state(self, endpoint: str, state: str) -> None:
        self._endpoint(endpoint).state = state

    def asked(self, endpoint: str) -> None:
        self._endpoint(endpoint).requests.add(1)

    def answered(self, answer: Answer) -> None:
        endpoint = self._endpoint(answer.endpoint)
        endpoint.input_tokens.add(answer.input_tokens or 0)
        endpoint.output_tokens.add(answer.output_tokens or 0)

    def failed(self, endpoint: str, kind: str) -> None:
        self._failures[kind] += 1

    def kept(self, answer: Answer, usd: float | None, *, is_last: bool) -> None:
        """Count an answer stored on the disk. is_last: nothing more is asked for its request. usd: None if unknown."""
        self._usd += usd or 0.0
        self._unpriced += usd is None
        if is_last:
            self._done += 1
            self._rejected += answer.reason is not None

    def tick(self) -> None:
        """Say a line of progress every 10 seconds, unless the progress is live on a terminal."""
        if not self._progress.is_live and self._clock() - self._said >= _LINE_EVERY_SECONDS:
            self._said = self._clock()
            self._progress.say("; ".join(line.strip() for line in self.lines()))

    def lines(self) -> list[str]:
        """Return the lines for the terminal."""
        head = f"teacher {self._teacher}: {self._done:,} of {counted(self._total, 'answer')}"
        if self._rejected:
            head += f", {self._rejected:,} rejected by the server"
        found = [head + self._time_left()]
        found += [endpoint.line(name) for name, endpoint in sorted(self._endpoints.items())]
        if self._money.prices is not None:
            found.append(f"  {self._cost()}")
        if self._failures:
            told = ", ".join(f"{number:,} x {kind}" for kind, number in self._failures.most_common(6))
            found.append(f"  tried again: {told}")
        return found

    def __enter__(self) -> Panel:
        self._progress.say(f"teacher {self._teacher}: {counted(self._total, 'answer')} not stored yet, asked for now")
        self._progress.board(self.lines)
        return self

    def __exit__(self, *fault: object) -> None:
        self._progress.board(None)
        seconds = self._clock() - self._began
        self._progress.say(f"{self.lines()[0].partition(';')[0]} kept ({seconds:.1f} s); {self._cost(ended=True)}")

    def _endpoint(self, name: str) -> Endpoint:
        if name not in self._endpoints:
            self._endpoints[name] = Endpoint(Rate(self._clock), Rate(self._clock), Rate(self._clock))
        return self._endpoints[name]

    def _time_left(self) -> str:
        if not self._done:
            return ""
        seconds = (self._total - self._done) * (self._clock() - self._began) / self._done
        return f"; {_duration(seconds)} left"

    def _cost(self, *, ended: bool = False) -> str:
        if self._money.prices is None:
            return "cost unknown: the recipe states no prices"
        told = f"{self._usd:.2f} USD spent"
        if self._done and not ended:
            told += f", {self._usd * self._total / self._done:.2f} at the end"
        if self._money.budget_usd is not None:
            told += f" (budget {self._money.budget_usd:,.2f}, {self._before:.2f} spent before)"
        if self._unpriced:
            told += f"; {counted(self._unpriced, 'answer')} came without usage, at an unknown cost"
        return told


def panel_for(progress: Progress, teacher: str, total: int, *, money: Money, spent_usd: float) -> Panel:
    """Make the panel of a session, shown through a build's progress."""
    return Panel(progress, teacher, total, money=money, spent_usd=spent_usd, clock=time.monotonic)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
