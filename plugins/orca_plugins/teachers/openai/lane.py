"""The load that one endpoint can take just now.

Three things hold a question back: the endpoint's limits a minute; its concurrency, which a 429 halves and each round of
answers raises by one; and rest, after it asked for a pause or failed several times in a row. A round counts once: of
sixty questions in flight that all get a 429, only the first halves anything.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from orca_plugins.teachers.openai.endpoint import Endpoint
from orca_plugins.teachers.openai.rate_limits import Share, Window
from orca_plugins.teachers.openai.replies import Again, Usage
from orca_plugins.teachers.openai.token_estimate import InputTokens, OutputTokens, Size

# One failure is a question's bad luck; some in a row are the endpoint's, and it is not asked for a while.
_FAILURES_BEFORE_REST = 3
_FIRST_REST_SECONDS = 2.0
# An endpoint that comes back is found within five minutes, and asking a dead one costs the others little.
_LONGEST_REST_SECONDS = 300.0
# Of endpoints that say "too many" and not for how long.
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass
class Ticket:
    """One try in flight, with its shares of the limits."""

    started: float
    size: Size
    request: Share | None = None
    read: Share | None = None
    written: Share | None = None


class Lane:
    """One endpoint, as the collection sees it."""

    def __init__(self, number: int, endpoint: Endpoint, *, reads: InputTokens, writes: OutputTokens) -> None:
        self.number = number
        self.endpoint = endpoint
        self.name = endpoint.title()
        self.in_flight = 0
        self.turn = 0.0
        self.allowed = float(endpoint.concurrency)
        self.rests_until = float("-inf")
        self._requests = _window(endpoint.requests_per_minute)
        self._reads = _window(endpoint.input_tokens_per_minute)
        self._writes = _window(endpoint.output_tokens_per_minute)
        self._learnt_reads, self._learnt_writes = reads, writes
        self._slowed_at = self._rested_at = float("-inf")
        self._failures = 0
        self._rests = self._pauses = 0
        self._probing = False

    def wait(self, size: Size, max_tokens: int | None, now: float) -> float | None:
        """Return the seconds until a question may go; None where it must wait for one in flight, however long that
        takes."""
        # After a rest one question tries: all at once would overrun an endpoint that is just coming back.
        if self.in_flight >= (1 if self._probing else int(self.allowed)):
            return None
        seconds = max(self.rests_until - now, 0.0)
        if self._requests is not None:
            seconds = max(seconds, self._requests.wait(1, now))
        if self._reads is not None:
            self._reads.error = self._learnt_reads.error()
            seconds = max(seconds, self._reads.wait(self._learnt_reads.expected(size), now))
        if self._writes is not None:
            seconds = max(seconds, self._writes.wait(self._learnt_writes.expected(max_tokens), now))
        return seconds

    def start(self, size: Size, max_tokens: int | None, now: float) -> Ticket:
        """Count a question that goes out now."""
        self.in_flight += 1
        ticket = Ticket(now, size)
        if self._requests is not None:
            ticket.request = self._requests.take(1, now)
        if self._reads is not None:
            ticket.read = self._reads.take(self._learnt_reads.expected(size), now)
        if self._writes is not None:
            ticket.written = self._writes.take(self._learnt_writes.expected(max_tokens), now)
        return ticket

    def answered(self, ticket: Ticket, usage: Usage, now: float) -> bool:
        """Count a reply that is not a failure; says whether the endpoint's state changed."""
        self._settle(ticket, usage, now)
        changed = self._probing or self._failures > 0
        self._failures = self._rests = self._pauses = 0
        self._probing = False
        # Grows by one a round of answers.
        self.allowed = min(self.allowed + 1 / self.allowed, float(self.endpoint.concurrency))
        return changed

    def failed(self, ticket: Ticket, fault: Again, now: float) -> bool:
        """Count a failure; return whether the endpoint's state changed."""
        # A failure may have been counted by the server: its question keeps its share of the limits.
        self._settle(ticket, Usage(output_tokens=0), now)
        if fault.after is not None:
            self.rests_until = max(self.rests_until, now + fault.after)
        if fault.busy:
            return self._slow_down(ticket, fault, now)
        self._failures += 1
        if self._failures < max(_FAILURES_BEFORE_REST, int(self.allowed) // 4) or ticket.started < self._rested_at:
            return False
        self._rested_at = now
        self._rests += 1
        rest = min(_FIRST_REST_SECONDS * 2 ** (self._rests - 1), _LONGEST_REST_SECONDS)
        # Random, so that several runs do not come back together.
        self.rests_until = max(self.rests_until, now + rest * random.uniform(0.75, 1.25))
        self._probing = True
        return True

    def state(self, now: float, why: str = "") -> str:
        """Describe the endpoint's state in a few words, for the panel."""
        rest = self.rests_until - now
        if rest > 0:
            return f"resting {rest:.0f} s: {why}" if why else f"resting {rest:.0f} s"
        return "open" if self.allowed >= self.endpoint.concurrency else f"open, {int(self.allowed)} at a time"

    def _slow_down(self, ticket: Ticket, fault: Again, now: float) -> bool:
        # It was sent before the last slowing: its 429 is of the same crowd, and would halve again what was halved.
        if ticket.started < self._slowed_at:
            return False
        self._slowed_at = now
        self.allowed = max(self.allowed / 2, 1.0)
        self._pauses += 1
        if fault.after is None:
            pause = min(_FIRST_PAUSE_SECONDS * 2 ** (self._pauses - 1), _LONGEST_PAUSE_SECONDS)
            self.rests_until = max(self.rests_until, now + pause * random.uniform(0.5, 1.0))
        return True

    def _settle(self, ticket: Ticket, usage: Usage, now: float) -> None:
        self.in_flight -= 1
        if ticket.request is not None and self._requests is not None:
            self._requests.settle(ticket.request, 1, now)
        if ticket.read is not None and self._reads is not None:
            amount = ticket.read.amount if usage.input_tokens is None else usage.input_tokens
            self._reads.settle(ticket.read, amount, now)
        if ticket.written is not None and self._writes is not None:
            amount = ticket.written.amount if usage.output_tokens is None else usage.output_tokens
            self._writes.settle(ticket.written, amount, now)


def _window(limit: int | None) -> Window | None:
    return None if limit is None else Window(limit)
