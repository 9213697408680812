"""Text of data sets is untrusted: it never becomes a terminal escape, markup, a path or code."""

import io
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from rich.console import Console

from orca_recipes.cli.main import main
from orca_recipes.contract.templates.chat_template import ChatTemplate, Refused
from orca_recipes.errors import OrcaError
from orca_recipes.progress import progress_for
from orca_recipes.shards.show.show import show

TOKENIZER = Path(__file__).parents[2] / "recipes" / "quickstart" / "tokenizer.json"
EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b1m\r\b\x7f\u202eorder[bold red]markup[/][link=file:///etc]x[/link]"
NAME = "a\x1b[31m\u202e\r.jsonl"
RECIPE = """\
name = "evil"
[collections.rows]
kind = "files"
path = "data"
[tokenizer]
kind = "hf"
path = {tokenizer}
[template]
kind = "chatml"
[packing]
row_tokens = 512
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe whose data holds what steers terminals: in texts, tasks, the file's own name, and a bad row."""
    (tmp_path / "data").mkdir()
    rows = [{"question": f"{n} {EVIL}", "answer": EVIL, "task": EVIL, "id": f"{n}{EVIL}"} for n in range(120)]
    lines = [*map(json.dumps, rows), json.dumps({"question": 1.5, EVIL: 1})]
    (tmp_path / "data" / NAME).write_text("\n".join(lines))
    path = tmp_path / "evil.toml"
    path.write_text(RECIPE.format(tokenizer=json.dumps(str(TOKENIZER))), encoding="utf-8")
    return path


def said(*words: str | Path) -> str:
    """What a command prints, to both streams."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.output


def steering(text: str) -> set[str]:
    """The characters of a text that a terminal acts on."""
    return {char for char in text if char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")}


def build_words(recipe: Path) -> Sequence[str | Path]:
    return recipe, "--store", recipe.parent / "store", "--out", recipe.parent / "out"


def test_no_command_prints_what_steers_a_terminal(recipe: Path):
    words = build_words(recipe)
    printed = {"build": said("build", *words, "--workers", "1")}
    out = recipe.parent / "out"
    line = pl.read_parquet(out / "main" / "00000.records.parquet")["line"][0]
    (example,) = pl.read_parquet(out / "main" / "00000.records.parquet")["id"][:1]
    printed |= {
        "show": said("show", out),
        "show --raw": said("show", out, "--raw"),
        "show --task": said("show", out, "--task", EVIL),
        "show of a task that is not there": said("show", out, "--task", f"{EVIL}?"),
        "plan": said("plan", *words),
        "plan --json": said("plan", *words, "--json"),
        "verify": said("verify", out),
        "explain an example": said("explain", out, "--example", example.hex(), "--store", recipe.parent / "store"),
        "explain a place": said("explain", out, "--source", f"{NAME}:{line}", "--store", recipe.parent / "store"),
        "explain a bad row": said("explain", out, "--source", f"{NAME}:121", "--store", recipe.parent / "store"),
        "explain no row": said("explain", out, "--source", f"{NAME}:999", "--store", recipe.parent / "store"),
    }
    (recipe.parent / "data" / NAME).rename(recipe.parent / "data" / f"b{NAME}")
    again = [sys.executable, "-m", "orca_recipes.cli", "build", *map(str, words), "--workers", "1"]
    printed["build again"] = subprocess.run(again, capture_output=True, text=True).stderr
    printed["verify of another build"] = said("verify", recipe.parent / "data")
    assert {command: steering(text) for command, text in printed.items() if steering(text)} == {}
    assert "is locked and gone" in printed["build again"]
    assert "␛[31mred" in printed["show"]
    assert "[bold red]markup[/]" in printed["show"]


def test_errors_show_signs_for_what_steers_a_terminal(recipe: Path):
    (recipe.parent / "data" / NAME).write_text('{"question": 1.5}\n' * 9)
    told = said("build", *build_words(recipe))
    assert "9 of 9 rows cannot be used" in told
    assert steering(told) == set()
    (recipe.parent / "data" / NAME).write_text(json.dumps({EVIL: "a"}))
    told = said("build", *build_words(recipe))
    assert "no column" in told
    assert steering(told) == set()
    assert steering(said("--traceback", "build", *build_words(recipe))) == set()


def test_a_terminal_gets_colours_of_ours_and_none_of_theirs(recipe: Path):
    said("build", *build_words(recipe), "--workers", "1")
    terminal = io.StringIO()
    show(recipe.parent / "out", out=Console(file=terminal, force_terminal=True, width=200))
    text = terminal.getvalue()
    assert "\x1b[" in text
    assert steering(re.sub(r"\x1b\[[0-9;]*m", "", text)) == set()
    assert "[bold red]markup[/]" in re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_progress_shows_signs_for_what_steers_a_terminal():
    stream = io.StringIO()
    with progress_for(stream) as progress:
        progress.say(f"{EVIL} is locked and gone")
    assert steering(stream.getvalue()) == set()


def test_a_row_that_names_a_path_reads_none(tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret itself")
    row = {"question": f"file://{secret}", "answer": f"{{% include '{secret}' %}} ![x]({secret})", "path": str(secret)}
    row |= {"cover": {"path": str(secret)}, "$ref": str(secret), "task": f"../../{secret.name}"}
    (tmp_path / "p" / "data").mkdir(parents=True)
    (tmp_path / "p" / "data" / "rows.jsonl").write_text(json.dumps(row))
    recipe = tmp_path / "p" / "recipe.toml"
    recipe.write_text(RECIPE.format(tokenizer=json.dumps(str(TOKENIZER))), encoding="utf-8")
    said("build", *build_words(recipe), "--workers", "1")
    text = said("show", tmp_path / "p" / "out")
    assert "secret.txt" in text
    assert "the secret itself" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p", "secret.txt"]


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ raise_exception.__globals__['os'] }}",
    "{{ strftime_now.__call__.__func__.__globals__ }}",
    "{{ (messages|attr('__class__')).mro() }}",
    "{{ '{0.__class__.__mro__}'.format(1).mro() }}",
    "{{ ('{0.__class__}'|format(1)).mro() }}",
    "{{ messages|map(attribute='__class__.__mro__')|first|first }}",
    "{{ messages.append({}) }}",
    "{{ messages[0].update({'content': 'other'}) }}",
    "{{ messages[0].__setitem__('content', 'other') }}",
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as x %}",
    "{% extends '/etc/passwd' %}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ config.items() }}",
    "{% for m in messages %}{{ loop.__class__ }}{{ loop._iterable }}{{ loop.__init__.__globals__ }}{% endfor %}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}{{ m.__init__.__globals__ }}",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_a_template_does_not_leave_its_sandbox(text: str):
    messages = [{"role": "user", "content": "hi"}]
    try:
        printed = ChatTemplate(text, {}, None).render(messages)
    except (Refused, OrcaError):
        printed = ""
    assert not re.search("class|function|module|root:|uid=|object at", printed)
    assert messages == [{"role": "user", "content": "hi"}]
