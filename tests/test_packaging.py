"""What a package promises: floors that a build at them keeps, types that checkers see, no library that cannot work."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.run.small import STUDENT, SUMS, sums, write_rows

PLUGIN = '''\
"""A stranger's filter."""

from typing import Literal

import polars as pl

from orca_recipes.contract.kinds import Filter


class NoShouting(Filter):
    """Reject answers that shout."""

    kind: Literal["no_shouting"] = "no_shouting"
    marks: int = 3

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        """Say why each conversation is rejected."""
        return conversations.select(pl.lit(None, dtype=pl.String).alias("reason")).to_series()
'''

HOME = Path(__file__).parents[1]
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def lines_of(path: str) -> list[str]:
    return [line for line in (HOME / path).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def test_the_floors_that_are_built_with_are_those_that_are_declared():
    declared = [requirement.replace(">=", "==") for requirement in PROJECT["dependencies"]]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\d.]+", floor) for floor in declared)
    assert lines_of(".ci/floors.txt") == declared


def test_continuous_integration_builds_at_the_floors():
    assert ".ci/floors" in lines_of(".ci/run")
    assert "--locked" in (HOME / ".ci" / "floors").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as it is built."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], check=True, cwd=HOME)
    return next(folder.glob("*.whl"))


def test_the_wheel_tells_type_checkers_that_both_packages_are_typed(wheel: Path):
    assert {"orca_recipes/py.typed", "orca_plugins/py.typed"} <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_alone_builds_a_recipe_and_reports_on_it(wheel: Path, tmp_path: Path):
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    (tmp_path / "recipe.toml").write_text(SUMS + STUDENT, encoding="utf-8")
    write_rows(tmp_path / "sums.jsonl", sums(12))

    def run(*words: str) -> str:
        # What the wheel holds is found before what the tests run from.
        command = [sys.executable, "-P", *words]
        path = {**os.environ, "PYTHONPATH": str(installed)}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("-c", "import orca_plugins, orca_recipes; print(orca_recipes.__file__, orca_plugins.__file__)").split()
    assert all(Path(place).is_relative_to(installed) for place in where)
    run("-m", "orca_recipes.cli", "build", "recipe.toml", "--out", "build", "--store", "store")
    assert "sound" in run("-m", "orca_recipes.cli", "verify", "build")
    run("-m", "orca_recipes.cli", "report", "build")
    assert (tmp_path / "report.html").stat().st_size


@pytest.mark.slow
def test_a_plugin_checked_strictly_against_the_installed_wheel_is_clean(wheel: Path, tmp_path: Path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (packages,) = (tmp_path / "venv").glob("lib/*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # What our package needs lies where these tests have it.
    (packages / "others.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n", encoding="utf-8")
    for name, text in (("plugin.py", PLUGIN), ("wrong.py", PLUGIN.replace("-> pl.Series", "-> int"))):
        (tmp_path / name).write_text(text, encoding="utf-8")
    words = ["--strict", "--python-executable", tmp_path / "venv" / "bin" / "python", "--cache-dir", os.devnull]
    command = [sys.executable, "-m", "mypy", *words, "plugin.py", "wrong.py"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout
    *faults, found = [line for line in told.splitlines() if ": note: " not in line]
    assert found == f"Found {len(faults)} error{'s' * (len(faults) != 1)} in 1 file (checked 2 source files)", told
    assert all(fault.startswith("wrong.py:") for fault in faults), told
    assert any("in supertype" in fault for fault in faults), told
