"""The page of JSON outputs names the keys that commands print, no more and no fewer."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from orca_recipes.cli.main import main
from tests.docs.conftest import DOCS, environment, run

COMMANDS = {
    "init": "init pairs.jsonl -o other.toml",
    "check": "check mine.toml",
    "plan": "plan mine.toml",
    "build": "build mine.toml",
    "show": "show build/pairs",
    "verify": "verify build/pairs",
    "explain": "explain build/pairs --row 0 --at 9",
    "diff": "diff build/pairs build/pairs",
    "export": "export build/pairs --to hf --out again",
    "push": "push build/pairs me/pairs --dry-run",
    "lock": "lock mine.toml",
    "clean": "clean",
    "train": "train build/pairs --model tiny --steps 2 --out runs/pairs",
    "train --dry-run": "train build/pairs --model tiny --steps 2 --out runs/tried --dry-run",
    "export-hf": "export-hf runs/pairs exported-again",
    "report": "report build/pairs -o report.html",
    "card": "card build/pairs -o card",
    "archive": "archive mine.toml -o mine.tar",
    "rebuild": "rebuild mine.tar --out rebuilt",
    "env": "env",
    "trust list": "trust list",
    "traces stats": "traces stats",
    "plugin list": "plugin list",
    "plugin new": "plugin new no-shouting --hook filters",
}

OF_TORCH = {"train", "train --dry-run", "export-hf"}
"""What loads torch; all others are run in this process."""

OF_A_RUN = ["train", "export-hf"]
"""What reads or goes on with a training."""


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.*)$", (DOCS / "json.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def named(section: str) -> set[str]:
    """The keys that stand in the first cells of a section's table."""
    cells = re.findall(r"^\| (`.*?) \| ", section, flags=re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}


def test_each_section_is_of_a_command_that_is_run_here():
    assert {*sections()} - {"Others"} == {*COMMANDS}


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in OF_A_RUN])
def test_keys_are_those_that_are_printed(worked: Path, command: str, monkeypatch: pytest.MonkeyPatch):
    compare(worked, command, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("command", OF_A_RUN)
def test_keys_of_trainings_are_those_that_are_printed(trained: Path, command: str, monkeypatch: pytest.MonkeyPatch):
    compare(trained, command, monkeypatch)


def compare(worked: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold what a command prints in a folder against the page."""
    words = [*shlex.split(COMMANDS[command]), "--json"]
    if command in OF_TORCH:
        done = run(["orca-recipe", *words], worked)
        assert done.returncode == 0, done.stderr
    else:
        for name, value in environment(worked).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(worked)
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.stderr
    text = done.stdout.splitlines()[0] if command == "show" else done.stdout
    assert named(sections()[command]) == {*json.loads(text)}
