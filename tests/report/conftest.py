"""Builds to report on: sums whose texts would be markup, and what a rule lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from tests.run.small import HOME, STUDENT, asked, write_rows

EVIL = '</pre><script>document.title="taken"</script><img src=x onerror="document.title=1"> http://e.org/x \u202e'

RECIPE = f"""\
name = "reported"
seed = 7

[collections.sums]
kind = "files"
path = "sums.jsonl"
columns = {{ id = "id", question = "q", reference = "a", task = "t" }}

[system_messages.set.messages]
plain = "Help."
generic = "Be good."

[mixtures.all]
take.sums = {{ rows = 40 }}

[datasets.main]
mixture = "all"
filters = [{{ kind = "length", max_chars = 300 }}]
student = {{ erase = true, system_message = "set/generic" }}

[[rules]]
strategy = "direct"
system_messages = ["set/plain"]
{STUDENT.replace("128", "512")}
[[curriculum]]
dataset = "main"
epochs = 2
"""


def made(folder: Path, rows: list[dict[str, str]], recipe: str = RECIPE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    write_rows(folder / "sums.jsonl", rows)
    build(asked(folder / "recipe.toml", store=folder / "store"), Progress())
    return folder / "out"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty questions; one of them is markup, one answer is too long."""
    rows = [{"id": f"s{n}", "t": f"t{n % 3}", "q": f"What is {n} + {n}?", "a": f"{2 * n}."} for n in range(38)]
    rows.append({"id": "long", "t": "t0", "q": "Tell all", "a": "word " * 200})
    rows.append({"id": "evil", "t": f"evil {EVIL}", "q": EVIL, "a": json.dumps({"a": EVIL})})
    return made(tmp_path_factory.mktemp("report"), rows)


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart on 100 examples."""
    folder = tmp_path_factory.mktemp("quickstart")
    words = ["build", str(HOME / "recipes" / "quickstart.toml"), "--limit", "100", "--out", "build", "--store", "store"]
    command = [sys.executable, "-m", "orca_recipes.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "build"
