"""A small recipe and its rows, and how tests build it."""

import hashlib
import json
from pathlib import Path

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked
from orca_recipes.store.store import Store

HOME = Path(__file__).parents[2]
QUICKSTART_TOKENIZER = HOME / "recipes" / "quickstart" / "tokenizer.json"

SUMS = """\
name = "small"
seed = 7

[collections.sums]
kind = "files"
path = "sums.jsonl"
columns = { question = "q", reference = "a", task = "t" }
"""

STUDENT = f"""
[tokenizer]
kind = "hf"
path = "{QUICKSTART_TOKENIZER.as_posix()}"

[template]
kind = "chatml"

[packing]
row_tokens = 128
"""


def sums(count: int) -> list[dict[str, str]]:
    """Rows of `SUMS`: so many questions, in three tasks."""
    return [{"q": f"What is {n} + {n * 7}?", "a": f"It is {n * 8}.", "t": f"sum-{n % 3}"} for n in range(count)]


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def asked(
    recipe: Path,
    *overrides: str,
    store: Path | None = None,
    out: Path | None = None,
    catalogue: Catalogue | None = None,
    **more,
) -> Asked:
    """A build of a recipe, with its store and its output beside it."""
    return Asked(
        loaded=load_recipe(recipe, catalogue=catalogue or Catalogue(), overrides=overrides),
        store=Store(store or recipe.parent / "store"),
        directory=out or recipe.parent / "out",
        workers=more.pop("workers", 1),
        **more,
    )


def promised(directory: Path) -> dict[str, str]:
    """Digest of every file whose bytes are promised; those of tables are not, only what they hold."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.suffix != ".parquet" and path.name != "manifest.json"
    }


class Heard(Progress):
    """Keeps which stages ran, and what the build said."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.said: list[str] = []

    def begin(self, stage: str, *, total: int, unit: str) -> None:
        self.stages.append(stage)

    def say(self, sentence: str) -> None:
        self.said.append(sentence)
