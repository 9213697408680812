"""What `plan` says of a mixture from known sizes alone: Orca 1's, with the sizes of its real tasks."""

import json
from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.preview.mixture_counts import Known, mixture_views
from orca_recipes.preview.mixture_table import mixture_table
from orca_recipes.recipe.load import load_recipe
from orca_recipes.recipe.model import Recipe

COLLECTIONS = ("cot", "niv2", "flan2021", "t0")
MIXTURES = """
[mixtures.flan-5m]
take.cot = { all = true }
take.niv2 = { per_task = 300 }
take.flan2021 = { rows = 2_500_000, draw = "uniform_tasks" }
take.t0 = { rows = 2_000_000, draw = "uniform_tasks" }

[mixtures.flan-1m]
from = "flan-5m"
rows = 1_000_000

[datasets.explain-chatgpt]
mixture = "flan-5m"
[datasets.explain-gpt4]
mixture = "flan-1m"
"""


@pytest.fixture
def orca(tmp_path: Path) -> Recipe:
    heads = "".join(f'[collections.{name}]\nkind = "files"\npath = "{name}"\n' for name in COLLECTIONS)
    student = '[tokenizer]\nkind = "hf"\npath = "tokenizer.json"\n[template]\nkind = "chatml"\n'
    path = tmp_path / "orca.toml"
    path.write_text(f'name = "orca"\n{heads}{student}{MIXTURES}')
    return load_recipe(path, catalogue=Catalogue()).recipe


@pytest.fixture
def sizes(shared: Path) -> dict[str, Known]:
    """The tasks of the facts, as sources would declare them."""

    def tasks(name: str, rows: str, key: str = "task_name") -> Known:
        listed = json.loads((shared / "facts" / f"{name}_tasks.json").read_text())
        found = {task[key]: task[rows] for task in listed if not task.get("mmlu_filtered")}
        return Known(sum(found.values()), found, "declared")

    return {
        "cot": tasks("cot", "zero_shot_rows"),
        "niv2": tasks("niv2", "number_examples"),
        "flan2021": tasks("flan2021", "zero_shot_rows", "task"),
        "t0": tasks("t0", "zero_shot_rows"),
    }


def test_the_plan_of_orca_1_has_the_counts_of_the_facts(orca: Recipe, sizes: dict[str, Known]):
    views = mixture_views(orca, sizes, lambda mixture, collection: None)
    whole = views["flan-5m"].collections
    assert {name: view.rows for name, view in whole.items()} == {
        "cot": 149_460,
        "niv2": 451_028,
        "flan2021": 2_500_000,
        "t0": 2_000_000,
    }
    assert (whole["t0"].level, whole["flan2021"].level) == (12_685, 58_948)
    assert (views["flan-5m"].rows, views["flan-1m"].rows) == (5_100_488, 1_000_000)
    assert sum(view.rows or 0 for view in views["flan-1m"].collections.values()) == 1_000_000


def test_the_table_says_what_is_not_known_before_a_scan(orca: Recipe, sizes: dict[str, Known]):
    table = mixture_table(mixture_views(orca, sizes, lambda mixture, collection: None))
    line = next(line for line in table.splitlines() if "t0" in line)
    assert line.split(maxsplit=4) == [
        "flan-5m",
        "t0",
        f"{sizes['t0'].rows:,}",
        "2,000,000",
        "about 12,685 of each large task, duplicates not known yet  declared",
    ]


def test_what_is_short_is_said_with_its_number(orca: Recipe, sizes: dict[str, Known]):
    small = {**sizes, "t0": Known(1_999_000, None, "declared")}
    views = mixture_views(orca, small, lambda mixture, collection: None)
    assert views["flan-5m"].short == {"t0": 1_000}
    assert "mixtures.flan-5m.take.t0: 1,000 rows too few" in mixture_table(views)


def test_sizes_that_nobody_knows_leave_a_question_mark(orca: Recipe, sizes: dict[str, Known]):
    views = mixture_views(orca, {**sizes, "niv2": Known(None, None, "unknown")}, lambda mixture, collection: None)
    assert views["flan-5m"].rows is None
    assert views["flan-5m"].collections["niv2"].state == "unknown"
    assert views["flan-1m"].rows == 1_000_000
