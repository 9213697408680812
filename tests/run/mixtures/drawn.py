"""Three collections of fruit and talk, mixtures that are drawn of them, and mixtures that are kept apart."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build, prepare, scan
from orca_recipes.run.examples.read import batches_of
from orca_recipes.run.examples.selection import taken_copies
from orca_recipes.run.work.bench import Bench
from orca_recipes.shards.manifest import Manifest
from orca_recipes.store.arrow_files import read_frame
from orca_recipes.store.store import Store

TOKENIZER = (Path(__file__).parents[3] / "recipes" / "quickstart" / "tokenizer.json").as_posix()
HEAD = f"""\
name = "mixed"
seed = 3

[collections.apples]
kind = "files"
path = "apples.jsonl"
columns = {{ question = "q", reference = "r", task = "t", category = "c" }}

[collections.pears]
kind = "files"
path = "pears.jsonl"
columns = {{ question = "q", reference = "r", task = "t" }}

[collections.talks]
kind = "files"
path = "talks.jsonl"
columns = {{ messages = "messages" }}

[tokenizer]
kind = "hf"
path = "{TOKENIZER}"

[template]
kind = "chatml"

[packing]
row_tokens = 256

"""
MAIN = '[datasets.main]\nmixture = "m"\n'


def talk(question: str) -> dict[str, Any]:
    roles = (("system", "Be kind."), ("user", question), ("assistant", "Yes."), ("user", "Why?"), ("assistant", "So."))
    return {"messages": [{"role": role, "content": content} for role, content in roles]}


@pytest.fixture(scope="session")
def orchard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 apples of four tasks, 500 pears of a large and a small one (20 apples among them), 100 talks (10 apples)."""
    place = tmp_path_factory.mktemp("orchard")
    apples = [{"q": f"a {n}?", "r": f"x{n}", "t": f"t{n % 4}", "c": f"c{n % 2}"} for n in range(300)]
    pears = [{"q": f"a {n}?" if n < 20 else f"b {n}?" + " more" * (n % 7), "r": "y"} for n in range(500)]
    pears = [{**row, "t": "large" if n % 10 else "small"} for n, row in enumerate(pears)]
    talks = [talk(f"a {n}?" if n < 10 else f"c {n}") for n in range(100)]
    for name, rows in (("apples", apples), ("pears", pears), ("talks", talks)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


@dataclass(frozen=True)
class Drawn:
    """Mixtures that were drawn, with nothing asked."""

    bench: Bench

    def report(self, mixture: str, collection: str) -> Mapping[str, Any]:
        report: Mapping[str, Any] = self.bench.folder(f"mix {mixture}/{collection}").receipt["report"]
        return report

    def out(self, mixture: str) -> dict[str, int]:
        stages = [stage.subject for stage in self.bench.plan if stage.name.startswith(f"mix {mixture}/")]
        return {name.partition("/")[2]: self.report(*name.split("/"))["out"] for name in stages}

    def rows(self, mixture: str, collection: str) -> pl.DataFrame:
        """The rows of a collection with how often each stands."""
        read = self.bench.folder(f"read {collection}")
        frame = pl.concat([read_frame(batch.path) for batch in batches_of(read)])
        copies = taken_copies(self.bench.folder(f"mix {mixture}/{collection}"))
        return frame.with_columns(pl.Series("copies", copies)).filter(pl.col("copies") > 0)

    def by_task(self, mixture: str, collection: str) -> dict[str, int]:
        rows = self.rows(mixture, collection)
        return dict(rows.group_by("task").agg(pl.col("copies").cast(pl.Int64).sum()).sort("task").iter_rows())

    def questions(self, mixture: str, collection: str) -> set[str]:
        rows = self.rows(mixture, collection)
        if collection == "talks":
            return {messages[1]["content"] for messages in rows["messages"].to_list()}
        return set(rows["question"])


Draw = Callable[..., Drawn]


def asked_of(folder: Path, tables: str, **more: Any) -> Asked:
    path = folder / "mixed.toml"
    path.write_text(HEAD + tables + ("" if "[datasets" in tables else MAIN))
    out = more.pop("out", folder / "out")
    return Asked(
        loaded=load_recipe(path, catalogue=Catalogue()), store=Store(folder / "store"), directory=out, workers=1, **more
    )


@pytest.fixture
def draw(orchard: Path) -> Draw:
    def drawn(tables: str, **more: Any) -> Drawn:
        asked = asked_of(orchard, tables, **more)
        return Drawn(scan(asked, prepare(asked), Progress()))

    return drawn


def made(folder: Path, tables: str, **more: Any) -> tuple[Manifest, Path]:
    asked = asked_of(folder, tables, **more)
    return build(asked, Progress())[0], asked.directory


APART = """\
[mixtures.m]
holdout = 20
take.apples = { rows = 60 }
take.pears = { rows = 60, reserve = 0.5 }
take.talks = { rows = 120, max_repeat = 2 }

[mixtures.v]
holdout_of = "m"

[mixtures.p]
from = "m"
rows = 50

[mixtures.o]
exclude = ["m", "v"]
take.apples = { rows = 40 }

[datasets.main]
mixture = "m"
filters = [{ kind = "length", max_chars = 30 }]
[datasets.validation]
mixture = "v"
[datasets.part]
mixture = "p"
[datasets.other]
mixture = "o"
"""


@pytest.fixture(scope="session")
def apart(orchard: Path) -> tuple[Manifest, Path]:
    return made(orchard, APART, out=orchard / "apart")


def records(directory: Path, dataset: str) -> pl.DataFrame:
    return pl.read_parquet(sorted((directory / dataset).glob("*.records.parquet")))
