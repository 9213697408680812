"""Columns that a recipe names of sources that do not say which ones they keep: their rows tell, once they are read."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.frames import completed, rejected_rows_schema, rows_schema
from orca_recipes.contract.hooks import Offers, hookimpl
from orca_recipes.contract.kinds import Reading, Slice, Source, SourceFile
from orca_recipes.errors import SourceError
from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from tests.run.small import STUDENT, asked


class Silent(Source):
    """Ten sums, and what it keeps beside them, of which it says nothing."""

    kind: Literal["silent"] = "silent"
    adds: int
    keeps: str | None = None

    def files(self) -> Sequence[SourceFile]:
        return []

    def slices(self, *, slice_bytes: int) -> Sequence[Slice]:
        return [Slice(None, 0, 10)]

    def read(self, *, slice: Slice) -> Iterator[Reading]:
        rows: list[dict[str, Any]] = [
            {"place": n + 1, "question": f"What is {n} + {self.adds}?", "answer": str(n + self.adds)}
            for n in range(slice.stop)
        ]
        if self.keeps is not None:
            rows = [row | {"extra": [{"name": self.keeps, "value": "cut"}]} for row in rows]
        frame = pl.DataFrame(rows, schema={name: rows_schema()[name] for name in rows[0]})
        yield Reading(completed(frame, rows_schema()), pl.DataFrame(schema=rejected_rows_schema()))


class SilentPlugin:
    @hookimpl
    def orca_sources(self) -> Offers:
        return {"silent": "tests.run.conversations.test_unkept_columns:Silent"}


def built(folder: Path, more: str, *, other: str = "") -> None:
    recipe = folder / "recipe.toml"
    collections = '[collections.one]\nkind = "silent"\nadds = 1\nkeeps = "stop"\n'
    collections += f'[collections.two]\nkind = "silent"\nadds = 2\n{other}\n'
    taken = "[mixtures.m]\ntake.one = { all = true }\ntake.two = { all = true }\n"
    recipe.write_text(f'name = "r"\n{collections}{taken}[datasets.main]\nmixture = "m"\n{more}\n{STUDENT}')
    build(asked(recipe, catalogue=Catalogue(plugins=[SilentPlugin()])), Progress())


def filtered(column: str) -> str:
    return f'filters = [{{ kind = "where", where = {{ not = {{ "extra.{column}" = "long" }} }} }}]'


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (filtered("stpo"), 'datasets.main.filters.0: no column "stpo" is kept by any of 2 .*did you mean "stop"'),
        (
            '[[rules]]\nstrategy = "direct"\nwhen = { collection = "one", where = { "extra.stpo" = "x" } }\n'
            '[[rules]]\nstrategy = "direct"',
            'rules.0.when.where: no column "stpo" is kept by "one"; did you mean "stop"?',
        ),
    ],
)
def test_a_column_that_no_row_keeps_is_refused(tmp_path: Path, more: str, told: str):
    with pytest.raises(SourceError, match=told):
        built(tmp_path, more)


def test_a_column_that_rows_of_one_collection_keep_may_be_named(tmp_path: Path):
    built(tmp_path, filtered("stop"))
    built(tmp_path, filtered("score"), other='keeps = "score"')
