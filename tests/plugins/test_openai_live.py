"""Teacher openai against a server that goes wrong, over real connections."""

import asyncio
import json
import os
import signal
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from orca_plugins.teachers.openai import http
from orca_plugins.teachers.openai.endpoint import Endpoint
from orca_plugins.teachers.openai.http_processes import ProcessWire
from orca_plugins.teachers.openai.kind import OpenAI
from orca_recipes.contract.answers import Budget, Request
from orca_recipes.contract.checks.promises import check_kind
from orca_recipes.errors import BudgetSpent, Failure, TeacherError
from tests.servers.collecting import collected, requests_of, teacher
from tests.servers.faults import HUGE_BYTES, Faults
from tests.servers.running import running
from tests.servers.stub import Stub, answer_to, key_of

PASSING = (
    "429",
    "429_after",
    "408",
    "409",
    "500",
    "503",
    "503_after",
    "error_in_200",
    "not_json",
    "truncated",
    "empty_choices",
    "cut",
    "cut_at_once",
)


def texts(count: int) -> list[str]:
    return [f"question {number}" for number in range(count)]


def expected(asked: OpenAI, requests: list[Request]) -> dict[bytes, str]:
    return {request.key: answer_to(key_of(asked.as_sent(request=request))) for request in requests}


def test_every_question_gets_its_own_answer() -> None:
    stub = Stub()
    with running(stub) as url:
        asked = teacher(url, temperature=0.7, seed=5)
        requests = requests_of(asked, texts(200))
        began = time.time()
        found = collected(asked, requests)
    assert found.fault is None
    assert {answer.key: answer.text for answer in found.answers} == expected(asked, requests)
    assert stub.asked.total() == 200
    one = found.answers[0]
    assert (one.model_asked, one.model_reported, one.finish_reason) == ("m", "m", "stop")
    assert one.endpoint == url.removeprefix("http://").removesuffix("/v1")
    assert one.input_tokens
    assert one.output_tokens
    assert one.request_id
    assert began <= one.time <= time.time()


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_costs_no_answer(fault: str) -> None:
    stub = Stub(faults=Faults({fault: 0.2}, most=1))
    with running(stub) as url:
        asked = teacher(url, concurrency=8)
        requests = requests_of(asked, texts(30))
        found = collected(asked, requests)
    assert found.fault is None
    assert {answer.key: answer.text for answer in found.answers} == expected(asked, requests)
    assert found.panel.failures.total() > 0
    assert max(stub.answered.values()) == 1
    assert max(stub.asked.values()) == 2


def test_a_socket_that_hangs_is_left_and_the_question_asked_again() -> None:
    stub = Stub(faults=Faults({"hang": 0.2}, most=1))
    with running(stub) as url:
        asked = teacher(url, timeout_seconds=0.5)
        requests = requests_of(asked, texts(20))
        found = collected(asked, requests)
    assert found.fault is None
    assert len(found.last) == 20
    assert found.panel.failures["timeout"] > 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("content_filter", "content filter"),
        ("policy", "content filter"),
        ("context", "context too long"),
        ("refusal", "refused by policy"),
        ("empty_content", "empty"),
        ("null_content", "empty"),
    ],
)
def test_what_is_refused_is_rejected_with_a_reason_and_asked_once(fault: str, reason: str) -> None:
    stub = Stub(faults=Faults({fault: 0.4}))
    with running(stub) as url:
        asked = teacher(url)
        found = collected(asked, requests_of(asked, texts(30)))
    assert found.fault is None
    assert {answer.reason for answer in found.answers} == {None, reason}
    assert all((answer.text is None) == (answer.reason is not None) for answer in found.answers)
    assert max(stub.asked.values()) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("quota", "the account has no credit left"),
        ("unknown_model", "the model is not known"),
        ("bad_option", "refuses temperature"),
    ],
)
def test_what_makes_asking_useless_stops_with_one_sentence_and_loses_nothing(fault: str, words: str) -> None:
    stub = Stub(faults=Faults({fault: 0.05}, most=99), delay_seconds=0.02)
    with running(stub) as url:
        asked = teacher(url, concurrency=4)
        found = collected(asked, requests_of(asked, texts(400)))
    assert isinstance(found.fault, TeacherError)
    assert words in str(found.fault)
    assert "\n" not in str(found.fault)
    assert len(found.answers) == stub.answered.total()
    assert stub.asked.total() < 400


def test_a_key_that_expires_stops_the_run_and_keeps_what_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "sk-planted-key-0123456789")
    stub = Stub(key="sk-planted-key-0123456789", expires_after=20)
    with running(stub) as url:
        asked = teacher(url, key_env="PLANTED", concurrency=4)
        found = collected(asked, requests_of(asked, texts(100)))
    assert isinstance(found.fault, TeacherError)
    assert "the key is refused" in str(found.fault)
    assert str(found.fault).endswith("put a valid key into environment variable PLANTED")
    assert len(found.answers) == stub.answered.total() >= 20


def test_a_key_that_is_not_there_is_missed_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABSENT", raising=False)
    found = collected(teacher("http://127.0.0.1:9/v1", key_env="ABSENT"), [])
    assert isinstance(found.fault, TeacherError)
    assert "environment variable ABSENT is not set" in str(found.fault)


def test_ten_megabytes_of_answer_are_taken_and_their_usage_is_not_believed() -> None:
    stub = Stub(faults=Faults({"huge": 1.0}))
    with running(stub) as url:
        found = collected(asked := teacher(url), requests_of(asked, texts(2)))
    assert found.fault is None
    assert [len(answer.text or "") for answer in found.answers] == [HUGE_BYTES] * 2
    assert [answer.output_tokens for answer in found.answers] == [None] * 2


@pytest.mark.parametrize("packed", [False, True])
def test_a_reply_that_does_not_end_is_read_to_a_bound_and_no_further(
    packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    async def endless(self: Stub, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Encoding": "gzip"} if packed else {})
        await response.prepare(request)
        block, pack = b" " * 65536, zlib.compressobj(wbits=31)
        with suppress(ConnectionError):
            for _ in range(4000):
                await response.write(pack.compress(block) if packed else block)
                sent[-1] += len(block)
        return response

    async def once(self: Stub, request: web.Request) -> web.StreamResponse:
        if len(sent) == 2:
            return await answer(self, request)
        sent.append(0)
        return await endless(self, request)

    answer = Stub._answer
    monkeypatch.setattr(http, "MOST_REPLY_BYTES", 1_000_000)
    monkeypatch.setattr(Stub, "_answer", once)
    with running(Stub()) as url:
        found = collected(asked := teacher(url), requests_of(asked, texts(2)))
    assert found.fault is None
    assert found.panel.failures == {"reply too large": 2}
    assert len(found.answers) == 2
    assert packed or max(sent) < 4000 * 65536


@pytest.mark.parametrize("fault", ["wrong_usage", "no_usage"])
def test_usage_that_cannot_be_leaves_the_answer_and_no_count(fault: str) -> None:
    stub = Stub(faults=Faults({fault: 1.0}))
    with running(stub) as url:
        found = collected(asked := teacher(url), requests_of(asked, texts(5)))
    assert found.fault is None
    assert {(answer.input_tokens, answer.output_tokens) for answer in found.answers} == {(None, None)}
    assert all(answer.text for answer in found.answers)


def test_another_models_name_is_reported_beside_the_one_that_was_asked() -> None:
    stub = Stub(faults=Faults({"other_model": 1.0}))
    with running(stub) as url:
        found = collected(asked := teacher(url), requests_of(asked, texts(3)))
    assert {(answer.model_asked, answer.model_reported) for answer in found.answers} == {("m", "another-model")}


@pytest.mark.parametrize("on_length", ["reject", "keep", "ask_again"])
def test_only_cut_answers_are_asked_again_and_only_where_the_recipe_says_so(on_length: str) -> None:
    stub = Stub()
    with running(stub) as url:
        asked = teacher(url, max_tokens=25, on_length=on_length)
        found = collected(asked, requests_of(asked, texts(40)))
    assert found.fault is None
    cut = {answer.key for answer in found.answers if answer.finish_reason == "length"}
    assert 0 < len(cut) < 40
    assert all(answer.text and answer.max_tokens for answer in found.answers)
    if on_length == "ask_again":
        assert {answer.finish_reason for answer in found.last.values()} == {"stop"}
        assert {answer.max_tokens for answer in found.answers if answer.key not in cut} == {25}
        assert set(stub.limits_seen) == {25, 50, 100}
    else:
        assert stub.asked.total() == 40


def test_the_budget_is_a_hard_stop_that_counts_what_is_in_flight() -> None:
    stub = Stub(delay_seconds=0.01)
    with running(stub) as url:
        prices = {"input": 100.0, "output": 1000.0}
        asked = teacher(url, max_tokens=60, prices=prices, budget_usd=1.0)
        budget = Budget(1.0)
        found = collected(asked, requests_of(asked, texts(200)), budget=budget)
    assert isinstance(found.fault, BudgetSpent)
    true_cost = sum(asked.money().prices.cost_of(answer) or 0 for answer in found.answers)  # type: ignore[union-attr]
    assert budget.spent_usd == pytest.approx(true_cost)
    assert 0.8 < budget.spent_usd <= 1.0
    assert len(found.answers) == stub.asked.total()


def test_a_disk_that_is_full_stops_the_run() -> None:
    stub = Stub()

    async def keep(_: object) -> None:
        if stub.answered.total() > 10:
            raise Failure("no space left")

    with running(stub) as url:
        asked = teacher(url, concurrency=4)
        found = collected(asked, requests_of(asked, texts(300)), keep=keep)
    assert isinstance(found.fault, Failure)
    assert stub.asked.total() < 60


def test_a_queue_that_breaks_ends_the_run_with_its_fault() -> None:
    def requests() -> Iterator[Request]:
        yield from requests_of(asked, texts(5))
        raise Failure("the store is gone")

    stub = Stub()
    with running(stub) as url:
        asked = teacher(url, concurrency=1)
        found = collected(asked, requests())
    assert isinstance(found.fault, Failure)
    assert len(found.answers) == stub.asked.total()


def test_a_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(jumps) * 86_400.0)
    stub = Stub(faults=Faults({"429_after": 0.2, "500": 0.1}, most=1))
    with running(stub) as url:
        asked = teacher(url, concurrency=8, requests_per_minute=100_000)
        found = collected(asked, requests_of(asked, texts(40)))
    assert found.fault is None
    assert len(found.last) == 40


def test_a_server_that_redirects_is_not_followed_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from aiohttp import web

    monkeypatch.setenv("PLANTED", "sk-planted-key-0123456789")
    thief = Stub()
    with running(thief) as stolen:

        class Redirecting(Stub):
            async def _answer(self, request: web.Request) -> web.StreamResponse:
                return web.Response(status=307, headers={"Location": f"{stolen}/chat/completions"})

        with running(Redirecting()) as url:
            found = collected(asked := teacher(url, key_env="PLANTED"), requests_of(asked, texts(2)))
    assert isinstance(found.fault, TeacherError)
    assert "redirects" in str(found.fault)
    assert thief.asked.total() == 0


def test_several_processes_collect_behind_one_limiter() -> None:
    stub = Stub(faults=Faults({"500": 0.05, "429_after": 0.05, "cut": 0.05}, most=1))
    with running(stub) as url:
        asked = teacher(url, processes=2, concurrency=16, requests_per_minute=1200)
        requests = requests_of(asked, texts(120))
        found = collected(asked, requests)
    assert found.fault is None
    assert {answer.key: answer.text for answer in found.answers} == expected(asked, requests)
    assert max(stub.answered.values()) == 1
    assert stub.most_in_flight <= 16
    # 40 go at once, the others at 20 a second: one process has no share of its own.
    assert stub.log[-1][0] - stub.log[0][0] > 3.9
    assert asked.identity() == teacher(url).identity()


def test_a_collecting_process_that_is_killed_costs_no_answer() -> None:
    stub = Stub(delay_seconds=0.05)
    killed: list[int] = []

    async def keep(_: object) -> None:
        if not killed and stub.answered.total() > 20:
            killed.append(collecting_children()[0])
            os.kill(killed[0], signal.SIGKILL)

    with running(stub) as url:
        asked = teacher(url, processes=2, concurrency=8)
        found = collected(asked, requests_of(asked, texts(100)), keep=keep)
    assert found.fault is None
    assert killed
    assert len(found.last) == 100
    assert not collecting_children()


def test_what_a_collecting_process_cannot_send_ends_the_run_and_is_not_waited_for() -> None:
    async def asks() -> None:
        endpoints = teacher("http://127.0.0.1:9/v1").endpoints
        async with ProcessWire(endpoints, timeout_seconds=5, processes=1) as wire:
            await wire.chat(0, {"model": {1, 2}})

    with pytest.raises(Failure, match=r"could not be sent \(TypeError\)"):
        asyncio.run(asks())


def collecting_children() -> list[int]:
    """Collecting processes of this one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = (stat.parent / "cmdline").read_bytes()
            parent = stat.read_text(errors="replace").rpartition(")")[2].split()[1]
        except OSError:
            continue
        if b"openai.http_processes" in words and int(parent) == os.getpid():
            found.append(int(stat.parent.name))
    return found


def test_a_server_is_sent_what_the_recipe_says_and_nothing_else() -> None:
    options: dict[str, Any] = {"temperature": 0.2, "top_p": 0.9, "max_tokens": 7, "seed": 3, "stop": ["END"]}
    asked = teacher(extra_body={"top_k": 5}, **options)
    sent = asked.as_sent(request=Request(b"k", (("system", "Be brief."), ("user", "Hi")), 2, 7))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert sent == {"model": "m", **options, "seed": 5, "top_k": 5, "messages": messages}
    assert teacher().as_sent(request=Request(b"k", (), 0, None)) == {"model": "m", "messages": []}


def test_a_model_that_reasons_is_sent_the_limit_under_the_name_that_it_takes() -> None:
    options: dict[str, Any] = {"max_tokens": 25, "on_length": "ask_again"}
    stub = Stub(reasons=True)
    with running(stub) as url:
        refused = collected(teacher(url, **options), requests_of(teacher(url, **options), texts(10)))
        asked = teacher(url, token_limit="max_completion_tokens", **options)
        found = collected(asked, requests_of(asked, texts(10)))
    assert isinstance(refused.fault, TeacherError)
    assert "Use 'max_completion_tokens' instead" in str(refused.fault)
    assert found.fault is None
    assert {answer.finish_reason for answer in found.last.values()} == {"stop"}
    assert set(stub.limits_seen) == {25, 50}
    assert {answer.max_tokens for answer in found.last.values()} == {25, 50}


def test_answers_that_are_stored_serve_either_name_of_the_limit() -> None:
    asked, other = teacher(max_tokens=7), teacher(max_tokens=7, token_limit="max_completion_tokens")
    assert asked.identity() == other.identity()
    assert [request.key for request in requests_of(asked, texts(3))] == [
        request.key for request in requests_of(other, texts(3))
    ]
    request = Request(b"k", (("user", "Hi"),), 0, 7)
    assert other.as_sent(request=request).keys() - asked.as_sent(request=request).keys() == {"max_completion_tokens"}


def test_what_decides_no_answer_is_no_part_of_identity_or_keys() -> None:
    plain = teacher("http://one/v1", temperature=0.5)
    prices = {"input": 1.0, "output": 2.0}
    other = teacher("http://two/v1", temperature=0.5, mode="batch", prices=prices, requests_per_minute=5)
    assert plain.identity() == other.identity()
    assert plain.sampling() == other.sampling() == {"model": "m", "temperature": 0.5}
    assert plain.identity() != teacher("http://one/v1", temperature=0.6).identity()
    check_kind(other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget_usd": 5}, "budget_usd needs prices and max_tokens"),
        ({"on_length": "ask_again"}, "needs max_tokens"),
        ({"extra_body": {"temperature": 1}}, "extra_body.temperature is set by this teacher"),
        (
            {"extra_body": {"auth": [{"header": "Bearer sk-proj-Zq8Xv2Lm9Rt4Wy7K"}]}},
            "extra_body holds what looks like a",
        ),
        (
            {"extra_body": {"max_completion_tokens": 1}, "token_limit": "max_completion_tokens"},
            "extra_body.max_completion_tokens is set by this teacher",
        ),
        ({"endpoints": [{}, {}]}, "two endpoints are called api.openai.com"),
        ({"endpoints": [{"base_url": "https://user:secret@host/v1"}]}, "must hold no user, password"),
        ({"endpoints": [{"base_url": "https://host/v1#secret"}]}, "must hold no user, password, query or fragment"),
        ({"endpoints": [{"base_url": f"https://host/sk-{'a1' * 10}/v1"}]}, "in its path what looks like a key"),
        ({"endpoints": [{"base_url": "https://host/9f8Qx7Lm2Zp4Rt6Wv1Yb/v1"}]}, "in its path what looks like a key"),
        ({"endpoints": [{"base_url": "file:///etc/passwd"}]}, "must begin with http"),
        ({"endpoints": []}, "at least 1 item"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OpenAI.model_validate_json(json.dumps({"model": "m", **options}))


@pytest.mark.parametrize(
    "key",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "XJ4K9QZP2M7RT1VW8B3NY6HC",
        "A94A8FE5CCB19BA61C4C0873D391E987FBBD0F12",
        "SKPROJQWERTYUIOPASDFGHJKLZXCVBNMQWE",
        "MY_XJ4K9QZP2M7RT1VW8B3NY6HC",
        "sk-proj-aaaaaaaaaaaaaaaa",
        "A KEY",
    ],
)
def test_a_key_in_place_of_the_name_of_its_variable_is_refused_without_its_words(key: str) -> None:
    with pytest.raises(ValueError, match="must be the name of an environment variable") as caught:
        Endpoint(key_env=key)
    assert key not in str(caught.value.errors()[0]["msg"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "ANTHROPICPRODUCTIONKEYFOREUROPE",
        "GPT4O_KEY_2024_07_18",
        "my_key_2",
        "AZURE_GPT4OMINI20240718_KEY",
    ],
)
def test_a_name_of_a_variable_is_one(name: str) -> None:
    assert Endpoint(key_env=name).key_env == name


@pytest.mark.parametrize(
    "path",
    [
        "openai/deployments/gpt-4o-mini-2024-07-18",
        "v1/0f8fad5bd9cb469fa16570867728950e/my-gateway/openai",
        "0f8fad5b-d9cb-469f-a165-70867728950e/v1",
        "models/Llama33Nemotron70BInstruct2024/v1",
        "v2/k3j4h5g6f7d8s9/openai/v1",
    ],
)
def test_names_and_ids_in_the_path_of_an_address_are_no_keys(path: str) -> None:
    OpenAI.model_validate_json(json.dumps({"model": "m", "endpoints": [{"base_url": f"https://host/{path}"}]}))
