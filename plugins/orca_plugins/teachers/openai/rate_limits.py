"""Limits a minute that are kept at the server, not at the sender.

What is sent now arrives a little later, so two questions that left more than a minute apart can arrive in one. Each
therefore counts from its sending until a minute after it must have arrived: after the reply, or after three quarters of
a second, what comes first. So a limit holds in every sliding minute as long as no question travels that much longer
than another, and at least 60/60.75 of it can be used.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import sqrt

MINUTE = 60.0
# The server counts a request when it comes, later than it was sent: a window of our minute alone would end too early.
TRAVEL_SECONDS = 0.75
# How far sending may be ahead of the even pace.
_BURST_SECONDS = 2.0
# Estimates are wrong to both sides: this much room and a limit is hardly ever overstepped, which the server answers
# with 429.
_DEVIATIONS = 4.0
# Less than this over a limit is the rounding of sums of floats.
_NOTHING = 1e-9
# A wait of 0 would say that the question may go.
_SHORTEST_SECONDS = 1e-3


@dataclass
class Share:
    """Record what one request takes of a limit: an estimate, replaced by the true amount after its answer."""

    amount: float
    ends: float
    gone: bool = False


class Window:
    """At most `limit` in any minute, sent at an even pace: servers watch shorter spans than they say.

    Amounts in flight are expectations. Room is kept for four standard deviations of their sum, by `error`: of one
    amount, and of all of them together, both relative.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.taken = 0.0
        self.error = (0.0, 0.0)
        self._shares: deque[Share] = deque()
        self._flying = self._squares = 0.0
        self._seconds_each = MINUTE / limit
        self._free_at = float("-inf")

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until so much may be taken; 0 where it may now.

        What is more than a whole limit goes alone: it never fits otherwise.
        """
        self._forget(now)
        paced = max(self._free_at - _BURST_SECONDS - now, 0.0)
        over = self.taken + self._doubt(amount) + amount - self.limit
        if over <= _NOTHING or not self._shares:
            return paced
        for share in self._shares:
            over -= share.amount
            if over <= _NOTHING:
                return max(paced, share.ends - now, _SHORTEST_SECONDS)
        return max(paced, self._shares[-1].ends - now, _SHORTEST_SECONDS)

    def take(self, amount: float, now: float) -> Share:
        """Count an amount from now on."""
        share = Share(amount, now + MINUTE + TRAVEL_SECONDS)
        self._shares.append(share)
        self.taken += amount
        self._flying += amount
        self._squares += amount * amount
        self._free_at = max(self._free_at, now) + amount * self._seconds_each
        return share

    def settle(self, share: Share, amount: float, now: float) -> None:
        """Replace a share's estimate by the true amount after its reply; where its minute is over, count only the
        excess, from now."""
        self._flying -= share.amount
        self._squares -= share.amount * share.amount
        share.ends = min(share.ends, now + MINUTE)
        more = amount - share.amount
        if not share.gone:
            share.amount = amount
        elif more > 0:
            self._shares.append(Share(more, now + MINUTE))
        if not share.gone or more > 0:
            self.taken += more
            self._free_at += more * self._seconds_each

    def _doubt(self, amount: float) -> float:
        """Return the room for what the amounts in flight may be wrong by."""
        each, all_ = self.error
        return _DEVIATIONS * (each * sqrt(max(self._squares, 0.0) + amount * amount) + all_ * (self._flying + amount))

    def _forget(self, now: float) -> None:
        while self._shares and self._shares[0].ends <= now:
            share = self._shares.popleft()
            share.gone = True
            self.taken -= share.amount
        # Drops the rounding errors that such sums gather.
        if not self._shares:
            self.taken = 0.0
