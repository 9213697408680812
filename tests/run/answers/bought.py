"""A recipe whose answers are bought of an oracle that writes down what it is asked."""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.run.build import Asked, build
from orca_recipes.shards.manifest import AnswerCounts, Manifest
from tests.run.oracle import Delphi, was_asked
from tests.run.small import STUDENT, SUMS, asked, sums, write_rows

RECIPE = f"""{SUMS}
[system_messages.set.messages]
slow = "Think slowly."
fast = "Be quick."

[[rules]]
when = {{ task = "sum-1" }}
strategy = "direct"
system_messages = ["set"]

[[rules]]
strategy = "direct"

[teachers.oracle]
kind = "oracle"
asked = "asked.jsonl"

[datasets.main]
teacher = "oracle"
{STUDENT}"""


@dataclass
class World:
    """A recipe whose teacher writes down what it is asked, and a trace store of its own."""

    folder: Path
    text: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> Path:
        return self.folder / "small.toml"

    def asked(self, *overrides: str, store: str = "store", out: str = "out", **more) -> Asked:
        self.recipe.write_text(self.text)
        return asked(
            self.recipe,
            *overrides,
            store=self.folder / store,
            out=self.folder / out,
            catalogue=Catalogue([Delphi()]),
            traces=self.folder / more.pop("traces", "traces"),
            **more,
        )

    def build(self, *overrides: str, **more) -> Manifest:
        return build(self.asked(*overrides, **more), Progress())[0]

    def counts(self, *overrides: str, **more) -> AnswerCounts:
        return self.build(*overrides, **more).made.answers["main"]

    def edit(self, old: str, new: str) -> None:
        assert old in self.text
        self.text = self.text.replace(old, new)

    @property
    def questions(self) -> list[dict]:
        return was_asked(self.folder / "asked.jsonl")

    def bytes_of(self, out: str = "out") -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.folder / out / "main").glob("*.[bi]*"))}

    def rejected(self, out: str = "out") -> list[str]:
        return pl.read_parquet(self.folder / out / "main" / "rejected.parquet")["reason"].to_list()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_rows(tmp_path / "sums.jsonl", sums(60))
    return World(tmp_path, RECIPE)
