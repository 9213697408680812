"""A package that `plugin new` writes installs, keeps the contract, passes its tests, and a recipe builds with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.pieces import PIECES
from orca_recipes.errors import PluginError
from orca_recipes.packages.skeleton import new_package

HOOKS = [piece.hook.removeprefix("orca_") for piece in PIECES]
TEST_ALL = """\
import json, pathlib, sys
from orca_recipes.catalogue import Catalogue
from orca_recipes.packages.conformance import tested
if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps([kind.as_json() for kind in tested(name, Catalogue(), pathlib.Path.cwd())]))
"""


@dataclass(frozen=True)
class Installed:
    """Packages of all hooks: their folders, and what their own tests and `plugin test` said."""

    folder: Path
    environment: dict[str, str]
    passed: set[str]
    said: str
    tested: dict[str, list[dict[str, object]]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Written and installed by one pip, beside ours; tested by one pytest."""
    folder = tmp_path_factory.mktemp("packages")
    catalogue = Catalogue()
    names = [f"orca-my-{hook}" for hook in HOOKS]
    for name, hook in zip(names, HOOKS, strict=True):
        new_package(name, hook, folder / name, catalogue=catalogue, version="0.1")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", "site"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([*pip, *(f"./{name}" for name in names)], check=True, cwd=folder, env=environment)
    environment["PYTHONPATH"] = str(folder / "site")
    words = [sys.executable, "-m", "pytest", "-rA", "--no-header", "-p", "no:cacheprovider", "--rootdir", ".", *names]
    tests = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment)
    passed = {line.split("/")[0].removeprefix("PASSED ") for line in tests.stdout.splitlines() if "a_recipe" in line}
    script = folder / "test_all.py"
    script.write_text(TEST_ALL)
    done = subprocess.run(
        [sys.executable, script, *names], capture_output=True, text=True, cwd=folder, env=environment, check=True
    )
    told = dict(zip(names, map(json.loads, done.stdout.splitlines()), strict=True))
    return Installed(folder, environment, passed if not tests.returncode else set(), tests.stdout, told)


@pytest.mark.parametrize("hook", HOOKS)
def test_it_installs_passes_its_tests_and_a_recipe_builds_with_it(installed: Installed, hook: str) -> None:
    assert f"orca-my-{hook}" in installed.passed, installed.said


@pytest.mark.parametrize("hook", HOOKS)
def test_its_kind_keeps_the_contract(installed: Installed, hook: str) -> None:
    (kind,) = installed.tested[f"orca-my-{hook}"]
    assert (kind["hook"], kind["name"], kind["sound"], kind["failures"]) == (hook, f"my_{hook}", True, [])


def test_plugin_list_and_plugin_test_tell_of_it(installed: Installed) -> None:
    listed = orca(installed, "plugin", "list", "--json")
    (package,) = [one for one in json.loads(listed.stdout)["plugins"] if one["distribution"] == "orca-my-filters"]
    assert (package["hooks"], package["contract"], package["faults"]) == (["filters"], 1, [])
    told = orca(installed, "plugin", "test", "--json", folder=installed.folder / "orca-my-filters")
    assert told.returncode == 0
    assert json.loads(told.stdout)["distribution"] == "orca-my-filters"


def test_a_kind_that_is_broken_is_shown_with_the_smallest_row_and_status_1(installed: Installed) -> None:
    module = installed.folder / "site" / "orca_my_filters" / "kind.py"
    whole = module.read_text()
    try:
        module.write_text(whole.replace('["reason"]', '["reason"].fill_null("last").head(1).extend_constant(None, 0)'))
        told = orca(installed, "plugin", "test", "orca-my-filters", "--json")
        assert told.returncode == 1, told.stderr
        (kind,) = json.loads(told.stdout)["kinds"]
        (failure,) = kind["failures"]
        assert not kind["sound"]
        assert failure["check"] == "reasons returns 1 values for 2 rows"
        assert len(failure["input"]["rows"]) == 2
    finally:
        module.write_text(whole)


def orca(installed: Installed, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orca_recipes.cli", *words],
        capture_output=True,
        text=True,
        cwd=folder or installed.folder,
        env=installed.environment,
    )


@pytest.mark.parametrize(
    ("name", "hook", "said"),
    [
        ("orca-x", "filtres", 'there is no hook "filtres"; did you mean "filters"?'),
        ("a b", "filters", '"a b" cannot name a package'),
        ("json", "filters", '"json" would be imported as json, which is taken'),
        ("orca-length", "filters", 'filter "length" is offered by orca-recipes'),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(tmp_path: Path, name: str, hook: str, said: str) -> None:
    with pytest.raises(PluginError) as caught:
        new_package(name, hook, tmp_path / "p", catalogue=Catalogue(), version="0.1")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(PluginError, match="choose a new or empty folder"):
        new_package("orca-x", "filters", tmp_path, catalogue=Catalogue(), version="0.1")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
