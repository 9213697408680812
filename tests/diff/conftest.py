"""A recipe whose rows have ids, so that an answer can change while its example stays the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from tests.run.small import STUDENT, asked, sums, write_rows

RECIPE = f"""\
name = "small"
seed = 7

[collections.sums]
kind = "files"
path = "sums.jsonl"
columns = {{ id = "id", question = "q", reference = "a", task = "t" }}

[system_messages.set.messages]
plain = "Help."
kind = "Be kind."

[mixtures.all]
take.sums = {{ all = true }}

[datasets.main]
mixture = "all"

[[rules]]
strategy = "direct"
system_messages = ["set/plain"]
{STUDENT}
[output]
shard_tokens = 2_000
"""

Builder = Callable[..., Path]


def rows() -> list[dict[str, str]]:
    return [{"id": f"s{number}", **row} for number, row in enumerate(sums(60))]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Builds the recipe, with overrides or other rows, under a name."""
    folder = tmp_path_factory.mktemp("diff")

    def make(name: str, *overrides: str, of: list[dict[str, str]] | None = None) -> Path:
        project = folder / name
        project.mkdir()
        (project / "recipe.toml").write_text(RECIPE, encoding="utf-8")
        write_rows(project / "sums.jsonl", rows() if of is None else of)
        build(asked(project / "recipe.toml", *overrides, store=folder / "store"), Progress())
        return project / "out"

    return make


@pytest.fixture(scope="module")
def plain(built: Builder) -> Path:
    return built("plain")
