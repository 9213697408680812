"""A plan tries the first rows of each collection, so that a rule that refuses all of them is seen before a build."""

from pathlib import Path

import pytest

from orca_recipes.preview.first_rows import ROWS, Trial, trial_lines, trials
from orca_recipes.progress import Progress
from orca_recipes.run.build import bench_of, build, prepare, scan
from tests.run.small import STUDENT, asked, write_rows

OWN = "strategy step_by_step: the row brings its own answer or system message; say replace = true to replace it"
TABLES = """\
name = "tried"

[collections.sums]
kind = "files"
path = "sums.jsonl"
columns = { question = "q", reference = "a", answer = "own" }

[mixtures.all]
take.sums = { all = true }

[datasets.main]
mixture = "all"
filters = [{ kind = "length", max_chars = 40 }]

[[rules]]
strategy = "step_by_step"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    write_rows(folder / "sums.jsonl", [{"q": f"easy {n}?", "a": "1", "own": "2"} for n in range(54)])
    (folder / "tried.toml").write_text(TABLES + STUDENT, encoding="utf-8")
    return folder / "tried.toml"


def tried(recipe: Path, *overrides: str, **more) -> tuple[Trial, ...]:
    this = asked(recipe, *overrides, **more)
    return trials(scan(this, prepare(this), Progress()))


def test_a_strategy_that_refuses_every_row_is_foreseen(recipe: Path):
    found = tried(recipe)
    assert found == (Trial("main", "sums", 54, 54, {OWN: 54}),)
    assert trial_lines(found) == (
        f"dataset main: of 54 rows of sums that were tried, 54 are rejected: 54 {OWN}; "
        "a build that loses all of them is refused"
    )


def test_teacher_and_filters_are_tried_too_and_rows_that_stay_are_not_told(recipe: Path):
    write_rows(
        recipe.parent / "sums.jsonl", [{"q": "a?", "a": "1", "own": None}, {"q": "b?"}, {"q": "c?", "a": "x" * 50}]
    )
    recipe.write_text(recipe.read_text().replace("step_by_step", "direct"))
    (found,) = tried(recipe)
    assert (found.tried, found.rejected) == (3, 2)
    assert found.reasons == {
        "filter length: too long: more than 40 characters": 1,
        "teacher reference: no reference answer": 1,
    }
    write_rows(recipe.parent / "sums.jsonl", [{"q": "a?", "a": "1", "own": None}])
    assert trial_lines(tried(recipe)) == ""


def test_no_more_rows_are_tried_than_the_first_ones_that_are_taken(recipe: Path):
    write_rows(recipe.parent / "sums.jsonl", [{"q": f"easy {n}?", "a": "1", "own": "2"} for n in range(ROWS + 50)])
    assert [trial.tried for trial in tried(recipe)] == [ROWS]
    assert [trial.tried for trial in tried(recipe, limit=10)] == [10]


def test_what_is_not_read_yet_or_made_already_is_not_tried(recipe: Path):
    this = asked(recipe)
    assert trials(bench_of(this, prepare(this), Progress())) == ()
    kept = recipe.read_text().replace('"step_by_step"', '"direct"')
    recipe.write_text(kept)
    build(asked(recipe), Progress())
    assert tried(recipe) == ()
