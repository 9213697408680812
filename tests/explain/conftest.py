"""A build of the small recipe with all that can happen to a row, to be asked for explanations."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from orca_recipes.explain.explain import explain_example, explain_place, explain_token
from orca_recipes.explain.story import Fate
from orca_recipes.explain.story_page import Explanation
from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from tests.run.small import asked, write_rows
from tests.run.small_recipe import lasting_recipe, recipe

__all__ = ["lasting_recipe", "recipe"]

MORE = """
[collections.lone]
kind = "files"
path = "lone.jsonl"
columns = { question = "q", reference = "a", task = "t", category = "c" }

[mixtures.few]
take.sums = { rows = 20 }
take.lone = { all = true }

[datasets.side]
mixture = "few"
student = { erase = true, system_message = "set/plain" }

[system_messages.set.messages]
plain = "Help."
slow = "Think slowly."
fast = "Be quick."

[[rules]]
when = { collection = "lone", category = "hard" }
strategy = "direct"

[[rules]]
when = { task = "sum-1" }
strategy = "direct"
system_messages = ["set/slow", "set/fast"]

[[rules]]
strategy = "direct"

[[curriculum]]
dataset = "side"

[[curriculum]]
dataset = "main"
epochs = 2

[[curriculum]]
dataset = "side"
epochs = 3
"""


@dataclass(frozen=True)
class Explainable:
    """A build that is asked for explanations."""

    directory: Path
    store: Path

    def example(self, wanted: str) -> Explanation:
        return explain_example(self.directory, wanted, store=self.store)

    def token(self, row: int, at: int) -> Explanation:
        return explain_token(self.directory, row, at, store=self.store)

    def place(self, source: str) -> Explanation:
        return explain_place(self.directory, source, store=self.store)

    def fates(self, source: str) -> dict[str, Fate]:
        (story,) = self.place(source).stories
        return {fate.dataset: fate for fate in story.fates}

    def records(self, dataset: str = "main") -> pl.DataFrame:
        paths = sorted((self.directory / dataset).glob("*.records.parquet"))
        table = pl.concat([pl.read_parquet(path).with_columns(shard=pl.lit(path.name[:5])) for path in paths])
        return table.with_columns(pl.col("id").bin.encode("hex"))

    def undrawn(self) -> int:
        """The first line of sums.jsonl that no dataset drew."""
        drawn = {line for name in ("main", "side") for line in self.records(name).filter(collection="sums")["line"]}
        return next(line for line in range(1, 203) if line not in drawn)

    def without_store(self) -> "Explainable":
        return Explainable(self.directory, self.store / "gone")


def make_explainable(path: Path, *, limit: int | None = None) -> Explainable:
    build(asked(path, limit=limit), Progress())
    return Explainable(path.parent / "out", path.parent / "store")


@pytest.fixture(scope="module")
def built(lasting_recipe: Path) -> Explainable:
    """A build of the small recipe with all that can happen to a row."""
    recipe = lasting_recipe
    recipe.write_text(recipe.read_text() + MORE)
    with (recipe.parent / "sums.jsonl").open("a") as file:
        file.write('{"q": 1.5}\n')
    lone = [{"q": "Why?", "a": "So.", "t": "ask", "c": "hard"}, {"q": "How?", "a": "Thus.", "t": "ask", "c": "easy"}]
    write_rows(recipe.parent / "lone.jsonl", lone)
    return make_explainable(recipe)


@pytest.fixture
def explainable() -> Callable[..., Explainable]:
    """Builds a recipe, to be asked for explanations."""
    return make_explainable
