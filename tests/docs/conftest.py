"""The tutorial, worked through once: its commands in their order, in a folder with the files that it asks for."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
DOCS = HOME / "docs"
ROWS = 60
RECIPE = "mine.toml"
OF_THE_TRAINER = {"train", "sample", "export-hf"}
"""Commands that load torch, many seconds for each."""


def blocks(page: str) -> list[tuple[str, str]]:
    """The language and text of each code block of a page, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run(words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line of the page with this Python."""
    program = [sys.executable, "-m", "orca_recipes.cli"] if words[0] == "orca-recipe" else [sys.executable, "-c"]
    told = {**os.environ, **environment(folder)}
    return subprocess.run([*program, *words[1:]], capture_output=True, text=True, cwd=folder, env=told)


def environment(folder: Path) -> dict[str, str]:
    """Variables that keep what a command remembers within the folder."""
    return {"ORCA_CONFIG": str(folder / "config"), "ORCA_TRACES": str(folder / "traces")}


def _write_data(folder: Path, example: str) -> None:
    """The page's row, and others like it."""
    lines = [example.strip()]
    for number in range(ROWS - 1):
        row = {"instruction": f"What is {number} plus {number + 1}?", "output": f"The sum is {2 * number + 1}."}
        assert row.keys() == json.loads(example).keys()
        lines.append(json.dumps(row))
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(HOME / "recipes" / "quickstart" / "tokenizer.json", folder)


@pytest.fixture(scope="session")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of somebody who followed the tutorial to its end, and trained nothing."""
    folder = tmp_path_factory.mktemp("tutorial")
    for language, text in blocks("tutorial.md"):
        if language == "json":
            _write_data(folder, text)
        elif language == "toml" and "[[curriculum]]" in text:
            with (folder / RECIPE).open("a", encoding="utf-8") as recipe:
                recipe.write(f"\n{text}")
        elif language in ("sh", "python"):
            for line in _lines(language, text):
                if line[1] not in OF_THE_TRAINER:
                    _follow(line, folder)
    return folder


@pytest.fixture(scope="session")
def trained(worked: Path) -> Path:
    """The folder of somebody who trained on it, too."""
    pytest.importorskip("megatron.core")
    for text in (text for language, text in blocks("tutorial.md") if language == "sh"):
        for line in _lines("sh", text):
            if line[1] in OF_THE_TRAINER:
                _follow(line, worked)
    return worked


def _lines(language: str, text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.splitlines()] if language == "sh" else [["python", text]]


def _follow(line: list[str], folder: Path) -> None:
    done = run(line, folder)
    assert done.returncode == 0, f"{shlex.join(line)}\n{done.stderr}{done.stdout}"
