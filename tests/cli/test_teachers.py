"""The commands for answers, as a user runs them, against a stub server."""

import json
import os
import pty
import random
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orca_recipes.cli.main import main
from orca_recipes.store.arrow_files import read_frame
from orca_recipes.traces.sent_requests import SentRequests
from tests.campaign.answers import killed, written
from tests.servers.faults import Faults
from tests.servers.running import running, running_apart
from tests.servers.stub import Stub


@dataclass
class Desk:
    """A recipe with eight questions, its stub, and a command line."""

    folder: Path
    stub: Stub
    recipe: Path

    def run(self, *words: str, status: int = 0) -> Result:
        places = ["--traces", str(self.folder / "traces")]
        if words[0] != "traces":
            places += ["--store", str(self.folder / "store")]
        done = CliRunner().invoke(main, [*words, *places])
        assert done.exit_code == status, done.output
        return done

    def run_here(self, *words: str) -> str:
        """A command that touches neither store nor traces."""
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
        return done.stdout

    def build(self, *words: str, status: int = 0) -> Result:
        return self.run("build", str(self.recipe), "--workers", "1", *words, status=status)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stub = Stub()
    with running(stub) as base_url:
        yield Desk(tmp_path, stub, written(tmp_path, base_url, 8))


def test_a_build_ends_with_what_it_asked_and_what_that_cost(desk: Desk) -> None:
    out = str(desk.folder / "out")
    done = desk.build("--out", out, "--set", "teachers.stub.prices={ input = 1000, output = 1000 }")
    assert "main: answers of stub: 0 stored, 8 asked, 0 rejected" in done.stdout
    assert "  stub for questions: 8 answers, " in done.stdout
    assert " USD" in done.stdout
    assert "strategy direct: 100.0% of 8 answers kept" in done.stdout
    counts = json.loads((desk.folder / "out" / "manifest.json").read_bytes())["made"]["answers"]["main"]
    assert (counts["stored"], counts["asked"], counts["rejected"]) == (0, 8, 0)
    assert float(counts["spent"]["questions"]["usd"]) > 0


def test_each_command_for_answers_gives_programs_one_object(desk: Desk) -> None:
    bought = json.loads(desk.run("collect", str(desk.recipe), "--workers", "1", "--json").stdout)
    assert bought["collected"] == [
        {"dataset": "main", "collection": "questions", "teacher": "stub", "requests": 8, "asked": 8, "refused": 0}
        | {"empty": 0, "maybe_billed_twice": 0}
    ]
    assert bought["answers"] == {"stored": 0, "asked": 8, "maybe_billed_twice": 0}
    built = json.loads(desk.build("--out", str(desk.folder / "out"), "--json").stdout)
    assert built["answers"] == {"stored": 8, "asked": 0, "maybe_billed_twice": 0}
    example = json.loads(desk.run_here("show", str(desk.folder / "out"), "--json").splitlines()[0])["id"]
    (asked,) = json.loads(desk.run("ask", str(desk.recipe), "--example", example, "--json").stdout)["requests"]
    assert (asked["example"], asked["teacher"], asked["sample"]) == (example, "stub", 0)
    assert asked["body"]["messages"]
    assert asked["answer"]["text"]
    held = json.loads(desk.run("traces", "stats", "--json").stdout)
    assert (held["traces"], held["requests"], held["damaged"]) == (8, 8, 0)
    file = str(desk.folder / "t.jsonl")
    assert json.loads(desk.run("traces", "export", file, "--json").stdout) == {"file": file, "traces": 8}
    (taken,) = json.loads(desk.run("traces", "import", file, "--json").stdout)["files"]
    assert (taken["file"], taken["taken"], taken["known"], taken["refused"]) == (file, 0, 8, 0)


def test_collect_buys_and_builds_nothing_and_build_finds_all_stored(desk: Desk) -> None:
    done = desk.run("collect", str(desk.recipe), "--workers", "1")
    assert "main/questions: 8 answers of stub stored, 8 of them asked now; 0 cannot be used" in done.stdout
    assert not list((desk.folder / "store" / "stages").glob("tokenize-*"))
    assert "8 stored, 0 asked" in desk.build("--out", str(desk.folder / "out")).stdout
    assert desk.stub.asked.total() == 8


def test_plan_says_where_traces_lie_what_is_stored_and_what_it_may_cost(desk: Desk) -> None:
    prices = ("--set", "teachers.stub.prices={ input = 1, output = 2 }")
    shown = desk.run("plan", str(desk.recipe), *prices).stdout
    assert f"answers: 0 stored in {desk.folder / 'traces'}, 8 to buy, " in shown
    assert "8 to 3,200" in shown
    assert "no answer is stored for direct: from one token to max_tokens" in shown
    desk.run("collect", str(desk.recipe), "--limit", "4", "--workers", "1")
    table = json.loads(desk.run("plan", str(desk.recipe), *prices, "--json").stdout)["answers"]
    (line,) = table["lines"]
    assert (line["questions"], line["stored"], line["calls"]) == (8, 4, 4)
    assert 0 < line["tokens_out"][0] <= line["tokens_out"][1] < 400
    assert line["usd"][1] == pytest.approx((line["tokens_in"] * 1 + line["tokens_out"][1] * 2) / 1e6)
    assert "teachers.stub states no prices" in desk.run("plan", str(desk.recipe)).stdout


def test_ask_prints_the_exact_request_and_sends_it_on_demand_once(desk: Desk) -> None:
    desk.build("--out", str(desk.folder / "out"), "--limit", "1")
    assert desk.stub.asked.total() == 1
    done = desk.run("ask", str(desk.recipe), "--example", "", "--limit", "1")
    title, body = done.stdout.split("\n", 1)
    assert title.startswith("main/questions: example ")
    assert title.endswith("teacher stub, strategy direct, sample 0; stored")
    sent = json.loads(body.split("\nanswer")[0])
    assert sent["model"] == "stub-1"
    assert sent["messages"][0]["content"].startswith("What is ")
    for _ in range(2):
        every = desk.run("ask", str(desk.recipe), "--example", _example_of(desk), "--send").stdout
        assert "answer (stop): " in every
    assert desk.stub.asked.total() == 2


def _example_of(desk: Desk) -> str:
    """The id of an example that was not asked yet."""
    listed = desk.run("ask", str(desk.recipe), "--example", "", status=2).stderr
    ids = listed.rpartition("among them ")[2].split(", ")
    asked = [one.strip() for one in ids]
    stored = desk.run("ask", str(desk.recipe), "--example", "", "--limit", "1").stdout.split("example ")[1][:32]
    return next(one for one in asked if one != stored)


def test_ask_says_which_example_is_not_there(desk: Desk) -> None:
    told = desk.run("ask", str(desk.recipe), "--example", "zz", status=2).stderr
    assert "no example is asked whose id begins with zz" in told


def test_traces_are_told_exported_and_imported(desk: Desk) -> None:
    desk.run("collect", str(desk.recipe), "--workers", "1")
    assert "stub-1: 8 answers (0 cut), 0 rejections" in desk.run("traces", "stats").stdout
    file = desk.folder / "traces.parquet"
    assert "8 traces" in desk.run("traces", "export", str(file)).stdout
    done = CliRunner().invoke(main, ["traces", "import", str(file), "--traces", str(desk.folder / "other")])
    assert "8 taken, 0 there already, 0 refused" in done.stdout
    (desk.folder / "bad.jsonl").write_text("no JSON\n")
    told = desk.run("traces", "import", str(desk.folder / "bad.jsonl"), status=1)
    assert "0 taken, 0 there already, 1 refused" in told.stdout


def test_clean_never_touches_traces(desk: Desk) -> None:
    desk.run("collect", str(desk.recipe), "--workers", "1")
    before = {path: path.read_bytes() for path in (desk.folder / "traces").rglob("*.answers")}
    CliRunner().invoke(main, ["clean", "--all", "--store", str(desk.folder / "store")])
    assert {path: path.read_bytes() for path in (desk.folder / "traces").rglob("*.answers")} == before
    assert before


def test_a_recipe_without_such_a_teacher_has_nothing_to_collect(desk: Desk) -> None:
    told = desk.run("collect", str(desk.recipe), "--set", "datasets.main.teacher=reference", status=2).stderr
    assert "no dataset has a teacher whose answers are collected" in told


def test_a_planted_key_stands_nowhere_after_collecting_and_after_failing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = "sk-planted-0123456789"
    monkeypatch.setenv("PLANTED_KEY", planted)
    text = desk.recipe.read_text().replace("concurrency =", 'key_env = "PLANTED_KEY", concurrency =')
    desk.recipe.write_text(text)
    desk.stub.key = planted
    said = desk.build("--out", str(desk.folder / "out"), "--limit", "4").output
    desk.stub.key = "another"
    refused = desk.build("--out", str(desk.folder / "out"), status=2)
    said += refused.output + desk.run("plan", str(desk.recipe)).output + desk.run("traces", "stats").output
    said += desk.run("ask", str(desk.recipe), "--example", "", "--limit", "1").output
    said += desk.run("collect", str(desk.recipe), "--workers", "1", status=2).output
    places = ["--store", str(desk.folder / "store"), "--traces", str(desk.folder / "traces")]
    fresh = [*places[:2], "--traces", str(desk.folder / "other")]
    sending = CliRunner().invoke(main, ["ask", str(desk.recipe), "--example", "", "--limit", "1", "--send", *fresh])
    assert sending.exit_code == 2
    said += sending.output
    for command in ("build", "collect", "plan"):
        done = CliRunner().invoke(main, ["--traceback", command, str(desk.recipe), *places])
        said += done.output + "".join(traceback.format_exception(done.exception) if done.exception else [])
    for file in ("traces.jsonl", "traces.parquet"):
        said += desk.run("traces", "export", str(desk.folder / file)).output
    words = ["explain", str(desk.folder / "out"), "--source", "questions.jsonl:1", *places]
    said += CliRunner().invoke(main, words).output
    assert "the key is refused" in said
    assert planted not in said
    holding = [path for path in desk.folder.rglob("*") if path.is_file() and planted.encode() in path.read_bytes()]
    assert holding == []


def _elsewhere(desk: Desk) -> None:
    """Let the recipe send a variable's value to a host that is not this machine (and that no network has)."""
    text = re.sub(
        r'base_url = "[^"]*"', 'base_url = "https://192.0.2.1:9/v1", key_env = "HOME"', desk.recipe.read_text()
    )
    desk.recipe.write_text(text)


def test_nothing_is_sent_to_a_host_that_the_user_never_allowed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCA_CONFIG", str(desk.folder / "config"))
    _elsewhere(desk)
    for words in (["collect", str(desk.recipe)], ["build", str(desk.recipe), "--out", str(desk.folder / "out")]):
        told = desk.run(*words, "--workers", "1", status=2).stderr
        assert "orca-recipe trust add 192.0.2.1:9 HOME" in told
        assert "nothing was sent" in told
    (sends,) = json.loads(desk.run("plan", str(desk.recipe), "--json").stdout)["answers"]["sends"]
    assert sends == {"teacher": "stub", "host": "192.0.2.1:9", "variable": "HOME", "allowed": False}
    assert "not allowed yet: orca-recipe trust add 192.0.2.1:9 HOME" in desk.run("plan", str(desk.recipe)).stdout
    desk.run_here("trust", "add", "192.0.2.1:9", "HOME")
    assert json.loads(desk.run_here("trust", "list", "--json"))["allowed"] == [
        {"host": "192.0.2.1:9", "variable": "HOME"}
    ]
    (sends,) = json.loads(desk.run("plan", str(desk.recipe), "--json").stdout)["answers"]["sends"]
    assert sends["allowed"]
    assert "not allowed any more" in desk.run_here("trust", "remove", "192.0.2.1:9", "HOME")


def test_on_a_terminal_a_new_host_is_asked_for_once(desk: Desk) -> None:
    _elsewhere(desk)
    environment = {**os.environ, "ORCA_CONFIG": str(desk.folder / "config"), "PYTHONSAFEPATH": "1"}
    places = ["--store", str(desk.folder / "store"), "--traces", str(desk.folder / "traces")]
    command = [sys.executable, "-m", "orca_recipes.cli", "collect", str(desk.recipe), "--workers", "1", *places]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    os.write(ours, b"n\n")
    said = b""
    with suppress(OSError):  # Linux ends a terminal whose last user left with EIO
        while piece := os.read(ours, 4096):
            said += piece
    os.close(ours)
    assert process.wait() == 2
    assert b"sends requests to 192.0.2.1:9 (the value of HOME)" in said
    assert b"Allow that, from now on? [y/N]" in said
    assert not (desk.folder / "config").exists()


def test_of_the_environment_the_named_key_alone_is_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "planted-in-the-environment")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Planted: planted-in-the-environment")
    desk.run("collect", str(desk.recipe), "--workers", "1")
    assert desk.stub.headers
    assert not [value for headers in desk.stub.headers for value in headers.values() if "planted" in value]


@pytest.mark.slow
def test_a_collection_that_is_killed_again_and_again_loses_nothing_and_asks_nothing_twice(tmp_path: Path) -> None:
    with running_apart(tmp_path, "--delay", "0.3") as base_url:
        found = killed(tmp_path, base_url, 240, random.Random(3), most=3, latest=1.0)
    assert not found.faults
    assert found.kills >= 1
    assert found.in_flight_again <= found.told <= found.asked.total()


def test_what_was_in_flight_when_a_run_was_stopped_may_be_billed_twice_and_is_told(desk: Desk) -> None:
    """As a killed run leaves it: eight requests written down as sent, one of them twice, and nothing answered."""
    desk.run("plan", str(desk.recipe), "--json")
    keys = [key for part in sorted((desk.folder / "store" / "stages").glob("ask-*/*.arrow")) for key in _keys(part)]
    with suppress(KeyboardInterrupt), SentRequests(desk.folder / "traces" / "sent") as left:
        for key in (*keys, keys[0]):
            left.begin(key, "stub", once=False)
        raise KeyboardInterrupt
    bought = desk.run("collect", str(desk.recipe), "--workers", "1")
    assert "8 of them asked now; 0 cannot be used; 9 may be billed twice" in bought.stdout
    assert not list((desk.folder / "traces" / "sent").iterdir())


@pytest.mark.parametrize(("header", "twice"), [("", 8), (', idempotency_header = "Idempotency-Key"', 0)])
def test_a_cut_connection_may_hide_an_answer_that_is_billed_unless_the_server_knows_the_request_again(
    desk: Desk, header: str, twice: int
) -> None:
    desk.stub.faults = Faults(shares={"cut": 1.0}, most=1)
    text = desk.recipe.read_text()
    assert "concurrency = 32 }" in text
    desk.recipe.write_text(text.replace("concurrency = 32 }", f"concurrency = 32{header} }}"))
    bought = json.loads(desk.run("collect", str(desk.recipe), "--workers", "1", "--json").stdout)
    assert (bought["answers"]["asked"], bought["answers"]["maybe_billed_twice"]) == (8, twice)
    headers = [{name.lower(): value for name, value in sent.items()} for sent in desk.stub.headers]
    tokens = [sent["idempotency-key"] for sent in headers if "idempotency-key" in sent]
    assert (len(tokens), len(set(tokens))) == ((16, 8) if header else (0, 0))


def _keys(part: Path) -> list[bytes]:
    frame = read_frame(part)
    return frame["key"].drop_nulls().to_list() if "key" in frame.columns else []
