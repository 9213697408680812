"""The small recipe with its data, in a folder: fixtures for the rooms that build it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run.small import STUDENT, SUMS, sums, write_rows

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
