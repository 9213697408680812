"""Small inputs of real data that once went wrong, each with what is right."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orca_recipes.cli import main
from tests.cases.judging import Outcome, faults_of

PLAIN = ["01_turn_flags"]
"""Cases that are built from the recipe that lies beside them."""


@pytest.fixture(scope="module")
def cases(shared: Path) -> dict[str, Mapping[str, Any]]:
    """The right values, by case."""
    path = shared / "cases" / "expected.jsonl"
    if not path.is_file():
        pytest.skip(f"no cases at {path}")
    return {case["case"]: case for case in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


@pytest.fixture
def inputs(shared: Path, tmp_path: Path) -> Path:
    """A copy of all inputs: a build writes its lock beside the recipe."""
    shutil.copytree(shared / "cases", tmp_path / "cases", copy_function=shutil.copyfile)
    return tmp_path / "cases" / "inputs"


def _writable(source: str, target: str) -> None:
    shutil.copyfile(source, target)


def outcome_of(folder: Path) -> Outcome:
    """Build a case's recipe as it lies there and read what came of it."""
    out, store = folder / "built", folder / "store"
    done = CliRunner().invoke(main, ["build", str(folder / "recipe.toml"), "--out", str(out), "--store", str(store)])
    if done.exit_code:
        return Outcome(exit=done.exit_code, stderr=done.stderr)
    return Outcome(exit=0, stderr=done.stderr, examples=_shown(out), rejected=_shown(out, "--rejected"))


def _shown(build: Path, *words: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(main, ["show", str(build), *words, "--json"])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", PLAIN)
def test_a_case_comes_out_right(name: str, cases: dict[str, Mapping[str, Any]], inputs: Path) -> None:
    assert faults_of(outcome_of(inputs / name), cases[name]) == []
