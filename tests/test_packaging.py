"""What a package promises: floors that a build at them keeps, types that checkers see, no library that cannot work."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

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


def test_the_wheel_tells_type_checkers_that_both_packages_are_typed(tmp_path: Path):
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], check=True, cwd=HOME)
    (wheel,) = tmp_path.glob("*.whl")
    assert {"orca_recipes/py.typed", "orca_plugins/py.typed"} <= set(zipfile.ZipFile(wheel).namelist())
