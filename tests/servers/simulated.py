"""A server and its network in simulated time: minutes pass in a second, and the clock is the event loop's.

Whatever sleeps or times out under `simulate` advances the clock to the next thing that is due. Limits are measured
where they hold: at the server, when a question arrives and when its answer is made.
"""

import asyncio
import json
import random
import selectors
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orca_plugins.teachers.openai.http import NoReply, Reply


class _Clock(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Never waits: when nothing is ready, the time of the next timer has come."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits for something that will never come"
            self.now += max(timeout, 0.0)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def simulate(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end in simulated time."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


@dataclass
class SimulatedServer:
    """Answers after a while, and logs when what arrived and what was made.

    Attributes:
        latency: seconds from arrival to answer. travel: seconds to the server. tokens: of a question's text.
        written: tokens of an answer to it. reply: what to answer instead, by (endpoint, seconds, body).
    """

    tokens: Callable[[str], int]
    written: Callable[[str], int] = lambda text: 100
    latency: Callable[[], float] = lambda: 1.0
    travel: Callable[[], float] = lambda: 0.0
    reply: Callable[[int, float, Mapping[str, Any]], Reply | NoReply | None] = lambda endpoint, seconds, body: None
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    answers: list[tuple[float, int]] = field(default_factory=list)
    by_endpoint: list[tuple[float, int]] = field(default_factory=list)

    async def chat(self, endpoint: int, body: Mapping[str, Any], token: str = "") -> Reply | NoReply:
        loop = asyncio.get_running_loop()
        text = body["messages"][0]["content"]
        await asyncio.sleep(self.travel())
        self.arrivals.append((loop.time(), self.tokens(text)))
        self.by_endpoint.append((loop.time(), endpoint))
        other = self.reply(endpoint, loop.time(), body)
        await asyncio.sleep(self.latency())
        if other is not None:
            return other
        self.answers.append((loop.time(), self.written(text)))
        return Reply(200, completion(body, self.tokens(text), self.written(text)), "req")


def completion(body: Mapping[str, Any], tokens: int, written: int) -> bytes:
    """A good reply's bytes."""
    message = {"role": "assistant", "content": "word " * 5}
    usage = {"prompt_tokens": tokens, "completion_tokens": written}
    choices = [{"message": message, "finish_reason": "stop"}]
    return json.dumps({"model": body["model"], "choices": choices, "usage": usage}).encode()


def most_in_a_minute(log: Iterable[tuple[float, int]], *, count: bool = False) -> int:
    """The largest sum (or count) in any sliding minute."""
    events = sorted(log)
    most = total = first = 0
    for seconds, amount in events:
        total += 1 if count else amount
        while events[first][0] <= seconds - 60.0:
            total -= 1 if count else events[first][1]
            first += 1
        most = max(most, total)
    return most


def sum_until(log: Iterable[tuple[float, int]], seconds: float, *, count: bool = False) -> int:
    return sum((1 if count else amount) for when, amount in log if when < seconds)


def lognormal(random_: random.Random, mean: float, spread: float) -> Callable[[], float]:
    """Latencies as servers have them: most near the mean, a few far above."""
    return lambda: random_.lognormvariate(0, spread) * mean


def questions(seed: int) -> Callable[[int], str]:
    """Questions of many lengths: words, numbers, and now and then a script without spaces."""
    draws = random.Random(seed)
    words = [f"word{number}"[: draws.randint(2, 8)] * draws.randint(1, 2) for number in range(500)]

    def text(number: int) -> str:
        count = int(draws.lognormvariate(4.5, 0.8)) + 3
        kind = draws.random()
        if kind < 0.1:
            return f"{number} " + "".join(draws.choice("的是不了在人有我他这") for _ in range(count))
        if kind < 0.2:
            return f"{number} " + " ".join(str(draws.randint(0, 99_999)) for _ in range(count))
        return f"{number} " + " ".join(draws.choice(words) for _ in range(count))

    return text


def tokens_of_a_model(text: str) -> int:
    """Tokens about as a byte-level vocabulary cuts words, numbers and other scripts."""
    tokens = 8
    for word in text.split():
        if word.isdigit():
            tokens += (len(word) + 2) // 3
        else:
            tokens += 1 + len(word) // 6 if word.isascii() else len(word)
    return tokens
