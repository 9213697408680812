"""Collecting answers: how fast, how much memory, and whether limits hold.

Speed is a ratio in one run: a bare loop of the same openai client, reading raw responses with as many questions in
flight, against the teacher that keeps limits, budget, retries and answers. The server answers at once from another
process, on the same machine. CPU seconds are those of the collecting process, so that they tell on a busy machine too.
"""

import asyncio
import random
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from orca_plugins.teachers.openai.http import client_of
from orca_plugins.teachers.openai.kind import OpenAI
from orca_plugins.teachers.openai.live import Live
from orca_recipes.contract.answers import Answer, Budget, Collecting, Request, request_key
from tests.bench.machine import load, machine
from tests.bench.table import table
from tests.servers.collecting import Seen, requests_of, stream, teacher
from tests.servers.running import running_apart
from tests.servers.simulated import (
    SimulatedServer,
    lognormal,
    most_in_a_minute,
    questions,
    simulate,
    sum_until,
    tokens_of_a_model,
)

CONCURRENCY = 32
PRICES = {"input": 1.0, "output": 2.0}
_RAW: Any = {"headers": {"X-Stainless-Raw-Response": "true"}}


@click.command()
@click.option("--questions", "count", default=2000, help="questions of each run of the speed table")
@click.option("--runs", default=3, help="runs of each way, in turns; the best counts")
@click.option("--queued", default=1_000_000, help="questions of the memory run; 0 for none")
def collect(count: int, runs: int, queued: int) -> None:
    """Requests a second against a bare loop, memory of a long queue, limits in simulated time."""
    click.echo(f"{machine()}\n")
    speed(count, runs)
    limits()
    if queued:
        memory(queued)


# --- speed -----------------------------------------------------------------------------------------------------------


def speed(count: int, runs: int) -> None:
    """Requests a second, wall clock and CPU, of each way in turns."""
    with tempfile.TemporaryDirectory() as folder, running_apart(Path(folder)) as url:
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "bare loop, with_raw_response": lambda: bare(plain(url), count, typed=True),
            "bare loop, client.post": lambda: bare(plain(url), count, typed=False),
            "teacher": lambda: ours(plain(url), count),
            "teacher, limits and prices": lambda: ours(limited(url), count),
            "teacher, 2 processes": lambda: ours(plain(url, processes=2), count),
        }
        best = dict.fromkeys(ways, (0.0, 0.0))
        for _ in range(runs):
            for name, way in ways.items():
                wall, cpu = timed(way)
                best[name] = (max(best[name][0], count / wall), max(best[name][1], count / cpu))
    raw, fastest = (best[name] for name in list(ways)[:2])
    rows = [
        [name, f"{wall:.0f}", f"{cpu:.0f}", f"{cpu / raw[1]:.2f}", f"{cpu / fastest[1]:.2f}"]
        for name, (wall, cpu) in best.items()
    ]
    heads = ["way", "requests/s", "requests/CPU s", "to raw loop", "to post loop"]
    click.echo(table(f"{count} questions, {CONCURRENCY} in flight, best of {runs}; load {load()}", heads, rows))


def plain(url: str, **options: Any) -> OpenAI:
    return teacher(url, temperature=0.5, max_tokens=500, concurrency=CONCURRENCY, **options)


def limited(url: str) -> OpenAI:
    many = {"requests_per_minute": 10**7, "input_tokens_per_minute": 10**9, "output_tokens_per_minute": 10**9}
    return plain(url, prices=PRICES, budget_usd=10**6, **many)


async def bare(asked: OpenAI, count: int, *, typed: bool) -> None:
    """The loop that anybody would write first; client.post skips what the typed method adds."""
    client = client_of(asked.endpoints[0], 60)
    bodies: Iterator[Any] = iter([asked.as_sent(request=request) for request in requests_of(asked, texts(count))])

    async def worker() -> None:
        for body in bodies:
            if typed:
                raw = await client.chat.completions.with_raw_response.create(**body)
                assert raw.content
            else:
                sent: Any = await client.post("/chat/completions", cast_to=object, body=body, options=_RAW)
                assert sent.http_response.content

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    await client.close()


async def ours(asked: OpenAI, count: int) -> None:
    kept = 0

    async def keep(answer: Answer) -> None:
        nonlocal kept
        kept += answer.text is not None

    requests = stream(requests_of(asked, texts(count)))
    await asked.collect(Collecting(requests, keep, Seen(), Budget()))
    assert kept == count


def texts(count: int) -> list[str]:
    return [f"question {number}: what follows from what was said so far?" for number in range(count)]


def timed(way: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Wall and CPU seconds, of this process alone."""

    async def work() -> None:
        await way()

    wall, cpu = time.monotonic(), time.process_time()
    asyncio.run(work())
    return time.monotonic() - wall, time.process_time() - cpu


# --- limits ----------------------------------------------------------------------------------------------------------

LIMIT = {"requests_per_minute": 600, "input_tokens_per_minute": 100_000, "output_tokens_per_minute": 60_000}


def limits() -> None:
    """What a simulated server saw in five minutes: the most in any sliding minute, and the share that was used."""
    rows = []
    for name, limit in LIMIT.items():
        for latency in (0.2, 2.0, 8.0):
            most, used = simulated(name, limit, latency)
            rows.append([name, f"{latency:g}", f"{limit:,}", f"{most:,}", f"{100 * used / limit:.1f}"])
    heads = ["limit", "latency s", "a minute", "most in a minute", "used %"]
    click.echo(table("limits at the server, five simulated minutes from the first question on", heads, rows))


def simulated(name: str, limit: int, latency: float) -> tuple[int, float]:
    draws = random.Random(3)
    server = SimulatedServer(
        tokens=tokens_of_a_model,
        written=lambda text: 20 + len(text) * 37 % 200,
        latency=lognormal(draws, latency, 0.5),
        travel=lambda: draws.uniform(0.01, 0.3),
    )
    asked = teacher("http://server/v1", max_tokens=220, concurrency=400)
    endpoints = [asked.endpoints[0].model_copy(update={name: limit})]
    text = questions(3)

    async def requests() -> AsyncIterator[Request]:
        for number in range(1_000_000):
            yield requests_of(asked, [text(number)])[0]

    async def keep(_: Answer) -> None: ...

    async def work() -> None:
        collecting = Collecting(requests(), keep, Seen(), Budget())
        live = Live(asked, endpoints, wire=server, collecting=collecting, timeout_seconds=60)
        async with asyncio.timeout(300):
            await live.run()

    with expiring():
        simulate(work())
    log = server.answers if name.startswith("output") else server.arrivals
    count = name.startswith("requests")
    return most_in_a_minute(log, count=count), sum_until(log, 300, count=count) / 5


@contextmanager
def expiring() -> Iterator[None]:
    """The end of the five minutes is no fault."""
    try:
        yield
    except TimeoutError:
        return


# --- memory ----------------------------------------------------------------------------------------------------------


def memory(queued: int) -> None:
    """Peak memory while so many questions stream through a server that answers in no time."""
    asked = teacher("http://server/v1", temperature=0.5, concurrency=256)
    server = SimulatedServer(tokens=len, latency=lambda: 0.01)
    server.arrivals = server.answers = server.by_endpoint = _Forgetting()
    sampling = asked.sampling()
    kept = 0

    async def requests() -> AsyncIterator[Request]:
        for number in range(queued):
            messages = (("user", f"question {number}: {'what follows? ' * 60}"),)
            yield Request(request_key(messages=messages, sampling=sampling), messages)

    async def keep(_: Answer) -> None:
        nonlocal kept
        kept += 1

    async def work() -> None:
        panel = Seen()
        panel.kept = _Forgetting()
        collecting = Collecting(requests(), keep, panel, Budget())
        live = Live(asked, asked.endpoints, wire=server, collecting=collecting, timeout_seconds=60)
        await live.run()

    started, cpu = time.monotonic(), time.process_time()
    simulate(work())
    wall, cpu = time.monotonic() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    click.echo(
        f"{kept:,} questions queued and answered: peak {peak:.0f} MiB, {wall:.0f} s, {1e6 * cpu / kept:.0f} us CPU each"
    )


class _Forgetting(list[Any]):
    """A log that nobody reads."""

    def append(self, _: Any) -> None: ...
