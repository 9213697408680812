"""Limits of endpoints, measured at the server in simulated time."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest

from orca_plugins.teachers.openai.http import NoReply, Reply
from orca_plugins.teachers.openai.live import Live
from orca_plugins.teachers.openai.rate_limits import Window
from orca_plugins.teachers.openai.token_estimate import InputTokens, size_of
from orca_recipes.contract.answers import Answer, Budget, Collecting, Request
from orca_recipes.errors import TeacherError
from tests.servers.collecting import Seen, requests_of, teacher
from tests.servers.simulated import (
    SimulatedServer,
    completion,
    lognormal,
    most_in_a_minute,
    questions,
    simulate,
    sum_until,
    tokens_of_a_model,
)

FIVE_MINUTES = 300.0


def collect(
    server: SimulatedServer,
    endpoints: list[dict[str, Any]],
    *,
    count: int = 1_000_000,
    seconds: float = FIVE_MINUTES,
    text: Callable[[int], str] = lambda number: f"question {number}",
    **options: Any,
) -> tuple[list[Answer], Seen, BaseException | None]:
    """Collect for so long; what was kept, what the panel saw, and what ended it."""
    named = [{"base_url": f"http://server-{number}/v1", **one} for number, one in enumerate(endpoints)]
    asked = teacher(endpoints=named, timeout_seconds=60, **options)
    kept: list[Answer] = []
    panel = Seen()

    async def keep(answer: Answer) -> None:
        kept.append(answer)

    async def requests() -> AsyncIterator[Request]:
        for number in range(count):
            yield requests_of(asked, [text(number)])[0]

    async def work() -> None:
        collecting = Collecting(requests(), keep, panel, Budget())
        live = Live(asked, asked.endpoints, wire=server, collecting=collecting, timeout_seconds=60)
        async with asyncio.timeout(seconds):
            await live.run()

    try:
        simulate(work())
    except (TeacherError, TimeoutError) as fault:
        return kept, panel, fault
    return kept, panel, None


def counted(server: SimulatedServer) -> tuple[int, float]:
    """The most questions in any minute, and how many a minute over five minutes."""
    used = sum_until(server.arrivals, FIVE_MINUTES, count=True) / 5
    return most_in_a_minute(server.arrivals, count=True), used


@pytest.mark.parametrize("limit", [3, 60, 1000])
@pytest.mark.parametrize("latency", [0.01, 2.0, 9.0])
def test_requests_a_minute_are_used_and_never_exceeded(limit: int, latency: float) -> None:
    draws = random.Random(limit)
    server = SimulatedServer(
        tokens=len, latency=lognormal(draws, latency, 0.5), travel=lambda: draws.uniform(0.01, 0.4)
    )
    collect(server, [{"requests_per_minute": limit, "concurrency": 400}])
    most, used = counted(server)
    assert most <= limit
    assert used >= 0.97 * limit


@pytest.mark.parametrize("latency", [0.2, 2.0, 8.0])
def test_input_tokens_a_minute_are_used_and_never_exceeded(latency: float) -> None:
    draws = random.Random(7)
    server = SimulatedServer(
        tokens=tokens_of_a_model, latency=lognormal(draws, latency, 0.5), travel=lambda: draws.uniform(0.01, 0.3)
    )
    collect(server, [{"input_tokens_per_minute": 100_000, "concurrency": 400}], text=questions(7))
    assert most_in_a_minute(server.arrivals) <= 100_000
    assert sum_until(server.arrivals, FIVE_MINUTES) / 5 >= 97_000


@pytest.mark.parametrize("latency", [0.2, 4.0])
def test_output_tokens_a_minute_are_exceeded_by_less_than_what_is_in_flight(latency: float) -> None:
    draws = random.Random(3)
    server = SimulatedServer(
        tokens=len, written=lambda text: 20 + len(text) * 37 % 200, latency=lognormal(draws, latency, 0.5)
    )
    limit, concurrency, longest = 60_000, 200, 220
    endpoint = {"output_tokens_per_minute": limit, "concurrency": concurrency}
    collect(server, [endpoint], text=questions(3), max_tokens=longest)
    assert most_in_a_minute(server.answers) <= limit + concurrency * longest
    assert most_in_a_minute(server.answers) <= 1.05 * limit
    assert sum_until(server.answers, FIVE_MINUTES) / 5 >= 0.97 * limit * (FIVE_MINUTES - latency) / FIVE_MINUTES


def test_a_question_larger_than_the_limit_goes_alone() -> None:
    server = SimulatedServer(tokens=lambda text: len(text) // 4)
    kept, _, fault = collect(
        server,
        [{"input_tokens_per_minute": 1000}],
        count=3,
        seconds=1000,
        text=lambda number: "x" * 20_000,
    )
    assert fault is None
    assert len(kept) == 3
    times = [seconds for seconds, _ in server.arrivals]
    assert all(later - sooner >= 60 for sooner, later in pairwise(times))


def test_several_endpoints_share_by_weight_and_each_keeps_its_limit() -> None:
    server = SimulatedServer(tokens=len, latency=lambda: 0.5)
    collect(server, [{"weight": 3, "concurrency": 10}, {"weight": 1, "concurrency": 30}], count=2000, seconds=10_000)
    first = sum(1 for _, endpoint in server.by_endpoint if endpoint == 0)
    assert 0.2 < first / 2000 < 0.8
    server = SimulatedServer(tokens=len, latency=lambda: 0.5)
    collect(server, [{"requests_per_minute": 600}, {"requests_per_minute": 60}])
    for number, limit in ((0, 600), (1, 60)):
        mine = [(seconds, 1) for seconds, endpoint in server.by_endpoint if endpoint == number]
        assert most_in_a_minute(mine) <= limit
        assert sum_until(mine, FIVE_MINUTES) / 5 >= 0.97 * limit


def test_where_endpoints_are_idle_the_weights_decide() -> None:
    server = SimulatedServer(tokens=len, latency=lambda: 0.01)
    collect(server, [{"weight": 3, "concurrency": 200}, {"concurrency": 200}], count=200)
    first = sum(1 for _, endpoint in server.by_endpoint if endpoint == 0)
    assert first == 150


def busy_until(free_at: float, *, after: float | None) -> Callable[[int, float, Mapping[str, Any]], Reply | None]:
    def reply(endpoint: int, seconds: float, body: Mapping[str, Any]) -> Reply | None:
        return Reply(429, b"{}", None, after) if seconds < free_at else None

    return reply


def test_retry_after_is_obeyed() -> None:
    server = SimulatedServer(tokens=len, latency=lambda: 0.1, reply=busy_until(20.0, after=20.0))
    kept, panel, fault = collect(server, [{"concurrency": 8}], count=100)
    assert fault is None
    assert len(kept) == 100
    times = sorted(seconds for seconds, _ in server.arrivals)
    assert not [seconds for seconds in times if 0.2 < seconds < 20.0]
    assert panel.failures == {"429": 8}
    assert any(state.startswith("resting 20 s: 429") for _, state in panel.states)


def test_a_429_without_retry_after_backs_off_and_comes_back() -> None:
    server = SimulatedServer(tokens=len, latency=lambda: 0.1, reply=busy_until(30.0, after=None))
    kept, panel, fault = collect(server, [{"concurrency": 64}], count=2000)
    assert fault is None
    assert len(kept) == 2000
    early = [seconds for seconds, _ in server.arrivals if 0.2 < seconds < 30.0]
    assert len(early) < 120
    assert panel.failures["429"] < 200


def test_concurrency_halves_when_a_server_is_busy_and_grows_again_by_one_a_round() -> None:
    flying = 0
    ended = 0.0
    seen: list[int] = []

    class Crowded(SimulatedServer):
        async def chat(self, endpoint: int, body: Mapping[str, Any], token: str = "") -> Reply | NoReply:
            nonlocal flying, ended
            flying += 1
            seen.append(flying)
            crowded = flying > 20
            await asyncio.sleep(1.0)
            flying -= 1
            ended = asyncio.get_running_loop().time()
            return Reply(429, b"{}") if crowded else Reply(200, completion(body, 5, 5))

    server = Crowded(tokens=len)
    kept, panel, fault = collect(server, [{"concurrency": 100}], count=3000, seconds=2000)
    assert fault is None
    assert len(kept) == 3000
    assert max(seen[len(seen) // 2 :]) <= 22
    assert ended < 1.5 * 3000 / 20, "much of what the server can do is not used"
    assert panel.failures["429"] < 400


def test_an_endpoint_that_fails_rests_while_the_others_go_on() -> None:
    def reply(endpoint: int, seconds: float, body: Mapping[str, Any]) -> Reply | None:
        return Reply(503, b"{}") if endpoint == 0 and seconds < 120 else None

    server = SimulatedServer(tokens=len, latency=lambda: 0.1, reply=reply)
    limits = {"concurrency": 8, "requests_per_minute": 600}
    kept, panel, fault = collect(server, [limits, limits], count=4000, seconds=1000)
    assert fault is None
    assert len(kept) == 4000
    failing = [seconds for seconds, endpoint in server.by_endpoint if endpoint == 0 and seconds < 120]
    back = [seconds for seconds, endpoint in server.by_endpoint if endpoint == 0 and seconds >= 120]
    assert len(failing) < 40
    assert len(back) > 300
    assert ("server-0", "open") in panel.states[2:]


def test_a_dead_server_is_given_up_soon_and_one_that_answered_later() -> None:
    def dead(endpoint: int, seconds: float, body: Mapping[str, Any]) -> NoReply | None:
        return NoReply("no connection")

    _, _, fault = collect(SimulatedServer(tokens=len, reply=dead), [{}], count=10, seconds=4000)
    assert isinstance(fault, TeacherError)
    assert "no endpoint has answered for" in str(fault)

    died_at = 100.0

    def dying(endpoint: int, seconds: float, body: Mapping[str, Any]) -> NoReply | None:
        return NoReply("no connection") if seconds > died_at else None

    server = SimulatedServer(tokens=len, reply=dying)
    kept, _, fault = collect(server, [{"requests_per_minute": 60}], seconds=4000)
    assert isinstance(fault, TeacherError)
    assert re.search(r"for 3\d minutes", str(fault))
    assert len(kept) > 95
    assert server.arrivals[-1][0] > died_at + 1700


def test_a_question_that_breaks_the_server_is_rejected_and_the_others_are_not() -> None:
    def reply(endpoint: int, seconds: float, body: Mapping[str, Any]) -> Reply | None:
        return Reply(500, b"{}") if body["messages"][0]["content"] == "question 5" else None

    server = SimulatedServer(tokens=len, reply=reply)
    kept, _, fault = collect(server, [{"requests_per_minute": 600}], count=3000, seconds=2000)
    assert fault is None
    assert [answer.reason for answer in kept if answer.reason] == ["no answer in 8 tries"]
    assert len(kept) == 3000


def test_options_that_every_question_is_refused_for_stop_the_run_and_reject_nothing() -> None:
    server = SimulatedServer(tokens=len, reply=lambda *_: Reply(400, b'{"error": {"message": "no"}}'))
    kept, _, fault = collect(server, [{"concurrency": 4}], seconds=100)
    assert isinstance(fault, TeacherError)
    assert "refuses every question (no)" in str(fault)
    assert kept == []
    assert len(server.arrivals) < 30


def test_a_question_that_is_refused_while_others_are_answered_is_rejected() -> None:
    def reply(endpoint: int, seconds: float, body: Mapping[str, Any]) -> Reply | None:
        return Reply(400, b"{}") if body["messages"][0]["content"].endswith("7") else None

    kept, _, fault = collect(SimulatedServer(tokens=len, reply=reply), [{}], count=100)
    assert fault is None
    assert sum(answer.reason == "refused by the server (400)" for answer in kept) == 10
    assert len(kept) == 100


def test_what_is_in_flight_when_the_run_stops_is_kept() -> None:
    def reply(endpoint: int, seconds: float, body: Mapping[str, Any]) -> Reply | None:
        return Reply(401, b"{}") if body["messages"][0]["content"] == "question 40" else None

    draws = random.Random(1)
    server = SimulatedServer(tokens=len, latency=lambda: draws.uniform(1, 9), reply=reply)
    kept, _, fault = collect(server, [{"concurrency": 30}])
    assert isinstance(fault, TeacherError)
    assert "the key is refused" in str(fault)
    assert len(kept) == len(server.arrivals) - 1


def test_no_more_is_taken_from_the_queue_than_can_be_in_flight() -> None:
    taken = 0

    def text(number: int) -> str:
        nonlocal taken
        taken = number
        return f"question {number}"

    collect(SimulatedServer(tokens=len, latency=lambda: 1e6), [{"concurrency": 16}], text=text, seconds=50)
    assert taken < 40


def test_a_window_never_lets_more_through_whatever_the_amounts() -> None:
    draws = random.Random(5)
    window = Window(1000)
    now, log = 0.0, []
    for _ in range(3000):
        amount = draws.randint(1, 300)
        while (seconds := window.wait(amount, now)) > 0:
            now += seconds
        share = window.take(amount, now)
        log.append((now, amount))
        if draws.random() < 0.5:
            window.settle(share, amount, now + draws.uniform(0, 3))
        now += draws.uniform(0, 2)
    assert most_in_a_minute(log) <= 1000


def test_what_questions_take_is_learnt_from_answers() -> None:
    learnt = InputTokens()
    first = learnt.expected(size_of([("user", "x" * 400)], exact=True))
    for number in range(300):
        size = size_of([("user", "word " * (number % 50 + 1))], exact=True)
        learnt.learn(size, size.pieces * 2)
    size = size_of([("user", "some words more")], exact=True)
    assert first == pytest.approx(208)
    assert learnt.expected(size) == pytest.approx(size.pieces * 2, rel=0.02)
    assert learnt.error()[0] < 0.05
