"""A small real recipe for tests of the whole path: files, a tokenizer of our own, two collections."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from orca_recipes.run.build import build
from orca_recipes.run.explain import explain_example, explain_place, explain_token
from orca_recipes.run.explain_page import Explanation, Fate
from orca_recipes.run.progress import Progress
from tests.run.small import STUDENT, SUMS, asked, sums, write_rows

RECIPE = f"""{SUMS}
[collections.chats]
kind = "files"
path = "chats.jsonl"
task = "chat"
columns = {{ messages = "messages" }}

[mixtures.both]
take.sums = {{ rows = 150 }}
take.chats = {{ all = true }}

[datasets.main]
mixture = "both"
filters = [{{ kind = "length", max_chars = 2000 }}]
{STUDENT}
[output]
shard_tokens = 4_000
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The path of the recipe, in a folder of its own with its data."""
    return make_recipe(tmp_path / "project")


@pytest.fixture(scope="module")
def lasting_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, for tests of one module that share what they build."""
    return make_recipe(tmp_path_factory.mktemp("lasting") / "project")


@pytest.fixture(scope="session")
def recipe_maker() -> Callable[[Path], Path]:
    """Makes the recipe anew in a folder that is not there yet."""
    return make_recipe


def make_recipe(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_rows(folder / "sums.jsonl", sums(200) + [{"q": "What is 1 + 7?", "a": "It is 8.", "t": "sum-1"}] * 2)
    chats = [
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": f"Hello {n}"},
                {"role": "assistant", "content": "Hello! " * (1 + n % 9)},
                {"role": "user", "content": "And now?"},
                {"role": "assistant", "content": f"Now {n} ✓"},
            ]
        }
        for n in range(60)
    ]
    chats.append({"messages": [{"role": "user", "content": "long"}, {"role": "assistant", "content": "word " * 300}]})
    chats.append({"messages": [{"role": "user", "content": "longer"}, {"role": "assistant", "content": "word " * 900}]})
    write_rows(folder / "chats.jsonl", chats)
    path = folder / "small.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


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


def make_explainable(recipe: Path, *, limit: int | None = None) -> Explainable:
    build(asked(recipe, limit=limit), Progress())
    return Explainable(recipe.parent / "out", recipe.parent / "store")


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
