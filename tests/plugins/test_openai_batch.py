"""Teacher openai in batch mode: files, batches, and what is left of them after a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from orca_plugins.teachers.openai import batch as openai_batch
from orca_plugins.teachers.openai import batch_follow as openai_batch_follow
from orca_plugins.teachers.openai.batch_notes import Left, Line, Notes
from orca_plugins.teachers.openai.kind import OpenAI
from orca_recipes.contract.answers import Budget
from orca_recipes.errors import BudgetSpent, Failure, TeacherError
from tests.servers.batches import Batch, Batches
from tests.servers.collecting import collected, requests_of, teacher
from tests.servers.faults import Faults
from tests.servers.running import HOME, running, running_apart
from tests.servers.stub import Stub, answer_to, key_of


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_batch_follow, "FIRST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(openai_batch_follow, "_QUEUE_SECONDS", 0.2)
    monkeypatch.setattr(openai_batch, "STALL_SECONDS", 0.2)


def batching(base_url: str, **options: Any) -> OpenAI:
    return teacher(base_url, mode="batch", **options)


def texts(count: int) -> list[str]:
    return [f"question {number}" for number in range(count)]


def test_every_question_of_a_batch_gets_its_own_answer(tmp_path: Path) -> None:
    stub = Stub()
    with running(stub) as url:
        asked = batching(url)
        requests = requests_of(asked, texts(50))
        found = collected(asked, requests, notes=tmp_path)
    assert found.fault is None
    expected = {request.key: answer_to(key_of(asked.as_sent(request=request))) for request in requests}
    assert {key: answer.text for key, answer in found.last.items()} == expected
    assert len(stub.batches.batches) == 1
    assert found.panel.asks.total() == 50


def test_questions_are_split_by_number_and_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_batch, "MOST_QUESTIONS", 20)
    monkeypatch.setattr(openai_batch, "MOST_BYTES", 10_000)
    stub = Stub()
    with running(stub) as url:
        asked = batching(url)
        found = collected(
            asked, requests_of(asked, [*texts(50), *("x" * 6000 + str(n) for n in range(3))]), notes=tmp_path
        )
    assert found.fault is None
    assert len(found.last) == 53
    counts = [len(batch.lines) for batch in stub.batches.batches.values()]
    assert max(counts) == 20
    assert len(counts) >= 5
    assert max(stub.batches.uploads) <= 10_000


def test_the_limits_are_those_of_the_batch_api() -> None:
    assert (openai_batch.MOST_QUESTIONS, openai_batch.MOST_BYTES) == (50_000, 200_000_000)


def test_only_what_is_missing_is_sent_again(tmp_path: Path) -> None:
    stub = Stub(faults=Faults({"500": 0.3}, most=1))
    with running(stub) as url:
        asked = batching(url)
        found = collected(asked, requests_of(asked, texts(60)), notes=tmp_path)
    first, second = (len(batch.lines) for batch in stub.batches.batches.values())
    assert found.fault is None
    assert len(found.answers) == len(found.last) == 60
    assert first == 60
    assert 5 < second < 40
    assert max(stub.answered.values()) == 1


def test_a_batch_that_expires_half_done_goes_on_with_the_other_half(tmp_path: Path) -> None:
    stub = Stub()
    with running(stub) as url:
        stub.batches.endings = ["expired", "cancelled"]
        asked = batching(url)
        found = collected(asked, requests_of(asked, texts(40)), notes=tmp_path)
    assert found.fault is None
    assert len(found.last) == 40
    assert [len(batch.lines) for batch in stub.batches.batches.values()] == [40, 20, 10]
    assert max(stub.answered.values()) == 1


def test_a_batch_that_the_server_refuses_stops_with_its_words(tmp_path: Path) -> None:
    stub = Stub()
    with running(stub) as url:
        stub.batches.endings = ["failed"]
        asked = batching(url)
        found = collected(asked, requests_of(asked, texts(3)), notes=tmp_path)
        assert isinstance(found.fault, TeacherError)
        assert "This line is not parseable" in str(found.fault)
        again = collected(asked, requests_of(asked, texts(3)), notes=tmp_path)
    assert again.fault is None
    assert len(again.last) == 3


@pytest.mark.parametrize(("fault", "share"), [("quota", 0.5), ("unknown_model", 1.0), ("bad_option", 1.0)])
def test_what_stops_a_batch_and_is_mended_at_the_server_stops_no_later_run(
    tmp_path: Path, fault: str, share: float
) -> None:
    stub = Stub(faults=Faults({fault: share}))
    with running(stub) as url:
        asked = batching(url)
        requests = requests_of(asked, texts(20))
        refused = collected(asked, requests, notes=tmp_path)
        stub.faults = Faults()
        missing = [request for request in requests if request.key not in refused.last]
        found = collected(asked, missing, notes=tmp_path)
    assert isinstance(refused.fault, TeacherError)
    assert found.fault is None
    assert found.last.keys() | refused.last.keys() == {request.key for request in requests}
    assert not found.last.keys() & refused.last.keys()


def test_a_full_queue_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_batch, "MOST_QUESTIONS", 10)
    stub = Stub(batch_seconds=0.2, queue_limit=25)
    with running(stub) as url:
        asked = batching(url)
        found = collected(asked, requests_of(asked, texts(60)), notes=tmp_path)
    assert found.fault is None
    assert len(found.last) == 60
    assert ("its queue is full: waiting") in {state for _, state in found.panel.states}


def test_refusals_and_long_questions_are_rejections_with_reasons(tmp_path: Path) -> None:
    stub = Stub(faults=Faults({"refusal": 0.3, "context": 0.3}, most=9))
    with running(stub) as url:
        asked = batching(url)
        found = collected(asked, requests_of(asked, texts(40)), notes=tmp_path)
    assert found.fault is None
    assert {answer.reason for answer in found.answers} == {None, "refused by policy", "context too long"}
    assert len(stub.batches.batches) == 1


def test_an_answer_outranks_a_refusal_of_the_same_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Batches._stored

    def refused_first(self: Batches, data: bytes, name: str) -> dict[str, Any]:
        if name == "output":
            words = {"error": {"code": "invalid_value", "message": "Invalid 'temperature'"}}
            custom_id = json.loads(data.splitlines()[0])["custom_id"]
            line = {"custom_id": custom_id, "response": {"status_code": 400, "request_id": "r", "body": words}}
            data = json.dumps(line).encode() + b"\n" + data
        return stored(self, data, name)

    monkeypatch.setattr(Batches, "_stored", refused_first)
    with running(Stub()) as url:
        asked = batching(url)
        found = collected(asked, requests_of(asked, texts(5)), notes=tmp_path)
    assert found.fault is None
    assert [answer.reason for answer in found.answers] == [None] * 5


def test_cut_answers_are_asked_again_for_more_tokens(tmp_path: Path) -> None:
    stub = Stub()
    with running(stub) as url:
        asked = batching(url, max_tokens=20, on_length="ask_again")
        found = collected(asked, requests_of(asked, texts(30)), notes=tmp_path)
    assert found.fault is None
    assert {answer.finish_reason for answer in found.last.values()} == {"stop"}
    assert len({answer.max_tokens for answer in found.last.values()}) > 1
    cut = [answer for answer in found.answers if answer.finish_reason == "length"]
    assert all(answer.text for answer in cut)


def test_batches_that_were_refused_for_the_name_of_the_limit_are_asked_again_under_the_other(tmp_path: Path) -> None:
    prices = {"input": 1.0, "output": 1.0}
    options: dict[str, Any] = {"max_tokens": 20, "on_length": "ask_again", "prices": prices, "budget_usd": 1.0}
    stub = Stub(reasons=True)
    with running(stub) as url:
        asked = batching(url, **options)
        refused = collected(asked, requests_of(asked, texts(30)), notes=tmp_path)
        asked = batching(url, token_limit="max_completion_tokens", **options)
        budget = Budget(1.0)
        found = collected(asked, requests_of(asked, texts(30)), notes=tmp_path, budget=budget)
    assert isinstance(refused.fault, TeacherError)
    assert "Use 'max_completion_tokens' instead" in str(refused.fault)
    assert found.fault is None
    assert {answer.finish_reason for answer in found.last.values()} == {"stop"}
    assert len({answer.max_tokens for answer in found.last.values()}) > 1
    assert budget.reserved_usd == pytest.approx(0)


def test_a_budget_holds_and_what_was_handed_over_is_kept(tmp_path: Path) -> None:
    stub = Stub()
    with running(stub) as url:
        prices = {"input": 1000.0, "output": 1000.0, "batch_discount": 0.5}
        asked = batching(url, max_tokens=100, prices=prices, budget_usd=1.0)
        budget = Budget(1.0)
        found = collected(asked, requests_of(asked, texts(60)), notes=tmp_path, budget=budget)
    assert isinstance(found.fault, BudgetSpent)
    assert 0 < len(found.last) < 60
    assert len(found.last) == stub.asked.total()
    assert 0.5 < budget.spent_usd <= 1.0
    assert budget.reserved_usd == pytest.approx(0)


def test_one_run_at_a_time_holds_the_notes_of_a_teacher(tmp_path: Path) -> None:
    asked = batching("http://127.0.0.1:9/v1")
    told = {**asked.sampling(), "endpoints": ["http://127.0.0.1:9/v1"]}
    with Notes(tmp_path, teacher=told):
        found = collected(asked, requests_of(asked, texts(1)), notes=tmp_path)
    assert isinstance(found.fault, TeacherError)
    assert "wait for it" in str(found.fault)


_COLLECT = """
import json, os, sys
from pathlib import Path
from orca_plugins.teachers.openai import batch as openai_batch
from tests.servers.collecting import collected, requests_of, teacher
openai_batch.MOST_QUESTIONS = 15
out = open(sys.argv[2], "a")
async def keep(answer):
    out.write(json.dumps([answer.key.hex(), answer.text]) + "\\n")
    out.flush()
asked = teacher(sys.argv[1], mode="batch")
kept = {json.loads(line)[0] for line in open(sys.argv[2])}
requests = [r for r in requests_of(asked, (f"question {n}" for n in range(60))) if r.key.hex() not in kept]
found = collected(asked, requests, notes=Path(sys.argv[3]), keep=keep)
sys.exit(str(found.fault) if found.fault else 0)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_pays_for_every_question_once(tmp_path: Path) -> None:
    import urllib.request

    answers = tmp_path / "answers.jsonl"
    answers.touch()
    with running_apart(tmp_path, "--batch-seconds", "0.6") as url:
        command = [sys.executable, "-c", _COLLECT, url, str(answers), str(tmp_path / "notes")]
        for seconds in (0.9, 1.1, 1.3, 1.5, 1.7, None):
            process = subprocess.Popen(command, cwd=HOME, stderr=subprocess.PIPE, text=True)
            try:
                _, error = process.communicate(timeout=seconds)
                break
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
        assert process.returncode == 0, error
        asked = json.loads(urllib.request.urlopen(f"{url.removesuffix('/v1')}/_asked").read())
    kept = dict(json.loads(line) for line in answers.read_text().splitlines())
    assert len(kept) == 60
    assert len(asked) == 60
    assert max(asked.values()) == 1, "a question was paid for twice"
    assert not list((tmp_path / "notes").rglob("*.json*"))


def test_a_note_of_an_endpoint_that_is_no_longer_named_is_not_lost(tmp_path: Path) -> None:
    stub = Stub(batch_seconds=60)
    with running(stub) as url:
        asked = batching(url)
        told = {**asked.sampling(), "endpoints": [url]}
        with Notes(tmp_path, teacher=told) as notes:
            notes.begin("another", [], usd=0)
        found = collected(asked, requests_of(asked, texts(1)), notes=tmp_path)
    assert isinstance(found.fault, TeacherError)
    assert "no longer names" in str(found.fault)


@pytest.mark.parametrize("edit", ["mode", "endpoints", "token_limit"])
def test_a_batch_that_is_not_fetched_is_not_paid_again_where_the_recipe_says_otherwise(
    tmp_path: Path, edit: str
) -> None:
    stub = Stub()
    with running(stub) as url:
        asked = batching(url)
        requests = requests_of(asked, texts(2))
        with Notes(tmp_path, teacher={**asked.sampling(), "endpoints": [url]}) as notes:
            lines = [Line(request.key, asked.as_sent(request=request)) for request in requests[1:]]
            notes.begin(asked.endpoints[0].title(), lines, usd=0)
        edits: dict[str, dict[str, Any]] = {
            "mode": {"mode": "live"},
            "endpoints": {"endpoints": [{"base_url": url}, {"base_url": url, "name": "other"}]},
            "token_limit": {"token_limit": "max_completion_tokens"},
        }
        edited = OpenAI.model_validate_json(json.dumps(asked.model_dump(mode="json") | edits[edit]))
        assert requests_of(edited, texts(2)) == requests
        found = collected(edited, requests, notes=tmp_path)
        assert isinstance(found.fault, TeacherError)
        assert "is not fetched yet" in str(found.fault)
        assert collected(asked, requests, notes=tmp_path).fault is None
        assert collected(edited, requests[:1], notes=tmp_path).fault is None
    assert stub.asked.get(key_of(asked.as_sent(request=requests[1]))) == 1


def test_notes_hold_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "sk-planted-key-0123456789")
    stub = Stub(key="sk-planted-key-0123456789", faults=Faults({"500": 1.0}, most=99))
    with running(stub) as url:
        asked = batching(url, key_env="PLANTED")
        found = collected(asked, requests_of(asked, texts(5)), notes=tmp_path)
    assert isinstance(found.fault, TeacherError)
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"sk-planted" not in held


@pytest.mark.parametrize("lacks", ["_upload", "_create", "_list"])
def test_a_server_without_batches_is_told_and_not_asked_on_and_on(
    lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def missing(self: Batches, request: web.Request) -> web.Response:
        return web.json_response({"detail": "Not Found"}, status=404)

    monkeypatch.setattr(Batches, lacks, missing)
    stub = Stub()
    with running(stub) as url:
        asked = batching(url)
        requests = requests_of(asked, texts(2))
        if lacks == "_list":
            with Notes(tmp_path, teacher={**asked.sampling(), "endpoints": [url]}) as notes:
                lines = [Line(request.key, asked.as_sent(request=request)) for request in requests]
                notes.changed(notes.begin(asked.endpoints[0].title(), lines, usd=0), file="file-0", asked=True)
        found = collected(asked, requests, notes=tmp_path)
    assert isinstance(found.fault, TeacherError)
    assert "takes no batches" in str(found.fault)
    assert len(stub.batches.uploads) == (lacks == "_create")
    assert not stub.asked


def test_a_batch_that_another_account_made_is_not_paid_for_again(tmp_path: Path) -> None:
    stub = Stub()
    with running(stub) as url:
        asked = batching(url)
        requests = requests_of(asked, texts(2))
        with Notes(tmp_path, teacher={**asked.sampling(), "endpoints": [url]}) as notes:
            lines = [Line(request.key, asked.as_sent(request=request)) for request in requests]
            note = notes.begin(asked.endpoints[0].title(), lines, usd=0)
            notes.changed(note, file="file-9", asked=True, batch="batch_9")
        found = collected(asked, requests, notes=tmp_path)
        assert isinstance(found.fault, TeacherError)
        assert "does not know batch batch_9" in str(found.fault)
        assert not stub.asked
        notes.drop(note)
        assert len(collected(asked, requests, notes=tmp_path).answers) == 2


@pytest.mark.parametrize("what", ["_stored", "told"])
def test_an_id_that_is_the_key_is_written_nowhere(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-planted-key-0123456789"
    monkeypatch.setenv("PLANTED", key)
    owner, name = (Batches, what) if what == "_stored" else (Batch, what)
    before = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *words: {**before(*words), "id": f"id-{key[::-1]}"})
    with running(Stub(key=key)) as url:
        asked = batching(url, key_env="PLANTED")
        found = collected(asked, requests_of(asked, texts(2)), notes=tmp_path)
    assert isinstance(found.fault, TeacherError)
    assert "by the key that it was sent" in str(found.fault)
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert held
    assert key.encode() not in held
    assert key[::-1].encode() not in held


@pytest.mark.parametrize("edit", ['{"name": "../../x"}', '{"usd": "much"}', "[]", "{"])
def test_a_note_that_somebody_else_made_is_no_path_and_no_riddle(edit: str, tmp_path: Path) -> None:
    outside = tmp_path / "x.json"
    outside.write_text("{}")
    with running(Stub()) as url:
        asked = batching(url)
        with Notes(tmp_path / "notes", teacher={**asked.sampling(), "endpoints": [url]}) as notes:
            path = notes.questions(notes.begin(asked.endpoints[0].title(), [], usd=0)).with_suffix(".json")
        told = json.loads(path.read_bytes())
        path.write_text(json.dumps({**told, **json.loads(edit)}) if edit.startswith('{"') else edit)
        found = collected(asked, requests_of(asked, texts(1)), notes=tmp_path / "notes")
    assert isinstance(found.fault, Failure)
    assert "is no note of a batch" in str(found.fault)
    assert outside.exists()


@pytest.mark.parametrize("line", ["{", "[]", '{"custom_id": "x", "body": {}}', '{"custom_id": "00", "body": 1}'])
def test_questions_of_a_batch_that_cannot_be_read_are_told(line: str, tmp_path: Path) -> None:
    with Notes(tmp_path, teacher={}) as notes:
        note = notes.begin("another", [], usd=0)
        notes.questions(note).write_text(line)
        with pytest.raises(Failure, match="holds no questions of a batch"):
            list(notes.lines(note))
    (notes.folder / "teacher").write_text("[]")
    with pytest.raises(Failure, match="does not tell a teacher"):
        Left.of(tmp_path, sampling={}, but=None)
