"""Replies that hold nothing: rejected, asked again so often, never trained; and what is dropped is asked anew."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from orca_recipes.cli.main import main
from tests.run.small import STUDENT, write_rows
from tests.run.spoken import trained_texts
from tests.servers.running import running
from tests.servers.stub import Stub

RECIPE = """
name = "small"

[collections.c]
kind = "files"
path = "c.jsonl"

[teachers.t]
kind = "openai"
model = "m"
endpoints = [{{ base_url = "{base_url}" }}]

[datasets.main]
teacher = "t"
"""


@dataclass
class Desk:
    """Three questions, a server whose words can be set, and a command line."""

    folder: Path
    stub: Stub
    empty: set[str] = field(default_factory=lambda: {"0?", "1?", "2?"})
    blank: str = ""

    def says(self, body) -> str:
        question = body["messages"][-1]["content"]
        return self.blank if question in self.empty else f"TEACHER({question})"

    def run(self, *words: str, status: int = 0) -> Result:
        places = ["--traces", str(self.folder / "traces"), "--store", str(self.folder / "store")]
        places = places[:2] if words[0] == "traces" and words[1] != "drop" else places
        done = CliRunner().invoke(main, [*words, *places])
        assert done.exit_code == status, done.output
        return done

    def build(self, *words: str, status: int = 0) -> Result:
        out = str(self.folder / "out")
        return self.run("build", self.recipe, "--out", out, "--workers", "1", *words, status=status)

    @property
    def recipe(self) -> str:
        return str(self.folder / "small.toml")

    @property
    def trained(self) -> list[str]:
        return sorted(text for (text,) in trained_texts(self.folder / "out").values())

    @property
    def rejected(self) -> dict[int, str]:
        table = pl.read_parquet(self.folder / "out" / "main" / "rejected.parquet")
        return dict(table.select("line", "reason").iter_rows())

    def asked(self) -> int:
        """How often the server was asked since the last look."""
        number = len(self.stub.bodies)
        self.stub.bodies.clear()
        return number


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_rows(tmp_path / "c.jsonl", [{"question": f"{n}?"} for n in range(3)])
    stub = Stub()
    desk = Desk(tmp_path, stub)
    stub.says = desk.says
    with running(stub) as base_url:
        (tmp_path / "small.toml").write_text(RECIPE.format(base_url=base_url) + STUDENT)
        yield desk


@pytest.mark.parametrize("blank", ["", " \n\t"])
def test_an_empty_reply_is_no_answer_is_asked_again_once_and_anew_by_the_same_command(desk: Desk, blank: str) -> None:
    desk.blank = blank
    told = desk.build(status=2).stderr
    assert "no example is left to train on (3 empty)" in told
    assert desk.asked() == 6
    desk.empty = set()
    desk.build()
    assert desk.trained == ["TEACHER(0?)", "TEACHER(1?)", "TEACHER(2?)"]
    assert desk.asked() == 3
    desk.build()
    assert desk.asked() == 0


@pytest.mark.parametrize(("retries", "asked"), [(0, 3), (3, 12)])
def test_how_often_it_is_asked_again_is_an_option_that_buys_nothing_anew(desk: Desk, retries: int, asked: int) -> None:
    desk.build("--set", f"teachers.t.empty_retries={retries}", status=2)
    assert desk.asked() == asked
    desk.empty = set()
    desk.build()
    desk.asked()
    desk.build("--set", f"teachers.t.empty_retries={retries + 1}", "--out", str(desk.folder / "other"))
    assert desk.asked() == 0


def test_a_reply_that_comes_when_asked_again_is_trained(desk: Desk) -> None:
    replies = iter(["", "", "", "one", "two", "three"])
    desk.stub.says = lambda body: next(replies)
    done = desk.build()
    assert sorted(desk.trained) == ["one", "three", "two"]
    assert "main: answers of t: 0 stored, 3 asked, 0 rejected\n" in done.stdout


def test_empty_replies_beside_answers_are_counted_and_wait_to_be_dropped(desk: Desk) -> None:
    desk.empty = {"1?"}
    done = desk.build()
    assert "main: answers of t: 0 stored, 3 asked, 1 rejected (1 empty)" in done.stdout
    assert (desk.trained, desk.rejected, desk.asked()) == (["TEACHER(0?)", "TEACHER(2?)"], {2: "empty"}, 4)
    desk.empty = set()
    desk.build()
    assert desk.asked() == 0
    assert "1 answer (0 cut)" not in desk.run("traces", "stats").stdout
    assert "2 rejections (2 empty)" in desk.run("traces", "stats").stdout
    told = desk.run("traces", "drop", "--reason", "empty", status=2)
    assert "2 traces of 1 request\n  m: 2 empty\n" in told.stdout
    assert "say --yes" in told.stderr
    assert "2 traces dropped" in desk.run("traces", "drop", "--reason", "empty", "--yes").stdout
    shown = desk.run("plan", desk.recipe, "--out", str(desk.folder / "out")).stdout
    assert "answers that it holds were dropped" in shown
    assert "2 stored in" in shown
    desk.build()
    assert desk.trained == ["TEACHER(0?)", "TEACHER(1?)", "TEACHER(2?)"]
    assert desk.asked() == 1


def test_good_answers_that_were_dropped_are_bought_anew_also_where_a_build_stands(desk: Desk) -> None:
    desk.empty = set()
    desk.build()
    desk.build("--set", "packing.row_tokens=256", "--out", str(desk.folder / "other"))
    assert desk.asked() == 3
    desk.stub.says = lambda body: "BETTER"
    desk.run("traces", "drop", "--model", "m", "--recipe", desk.recipe, "--yes")
    desk.build()
    assert (desk.trained, desk.asked()) == (["BETTER"] * 3, 3)
    desk.build("--set", "packing.row_tokens=256", "--out", str(desk.folder / "other"))
    assert sorted(text for (text,) in trained_texts(desk.folder / "other").values()) == ["BETTER"] * 3
    assert desk.asked() == 0


def test_a_locked_build_buys_nothing_and_takes_empty_replies_as_they_stand(desk: Desk) -> None:
    desk.empty = {"1?"}
    desk.build()
    desk.asked()
    words = {"out": "again", "store": "anew", "traces": "traces"}
    places = [word for name, folder in words.items() for word in (f"--{name}", str(desk.folder / folder))]
    done = CliRunner().invoke(main, ["build", desk.recipe, "--locked", "--workers", "1", *places])
    assert done.exit_code == 0, done.output
    assert desk.asked() == 0


def test_an_empty_reply_that_its_limit_cut_is_no_answer_either(desk: Desk) -> None:
    good = desk.stub.completion

    def cut(body):
        reply = good(body)
        reply["choices"][0] |= {"message": {"role": "assistant", "content": None}, "finish_reason": "length"}
        return reply

    desk.stub.completion = cut  # type: ignore[method-assign]
    told = desk.build("--set", 'teachers.t.on_length="keep"', "--set", "teachers.t.max_tokens=8", status=2).stderr
    assert "no example is left to train on (3 empty)" in told
    assert desk.asked() == 3


def test_drop_wants_to_be_told_which(desk: Desk) -> None:
    assert "say which answers" in desk.run("traces", "drop", "--yes", status=2).stderr
    assert "0 traces of 0 requests" in desk.run("traces", "drop", "--model", "*", "--yes").stdout


def test_batches_ask_again_too(desk: Desk) -> None:
    asked: list[str] = []

    def says(body) -> str:
        asked.append(body["messages"][-1]["content"])
        return "" if asked.count(asked[-1]) == 1 else f"TEACHER({asked[-1]})"

    desk.stub.says = says
    desk.build("--set", 'teachers.t.mode="batch"')
    assert desk.trained == ["TEACHER(0?)", "TEACHER(1?)", "TEACHER(2?)"]
    assert sorted(asked) == ["0?", "0?", "1?", "1?", "2?", "2?"]
