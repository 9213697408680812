"""Answers that are bought for drawn mixtures: reserves, rules that expand, several answers, several teachers."""

from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.manifest import DatasetCounts
from tests.run.answers.bought import World
from tests.run.oracle import was_asked

TABLES = """\
[mixtures.many]
take.sums = { rows = 20, reserve = 0.5 }

[mixtures.others]
exclude = ["many"]
take.sums = { rows = 10, repeat = 2 }

[mixtures.tried]
holdout_of = "others"

[teachers.better]
kind = "oracle"
model = "oracle-2"
asked = "better.jsonl"

[datasets.second]
mixture = "others"
teacher = "better"
best_of = 2
filters = [{ kind = "length", max_answer_chars = 70 }]

[datasets.third]
mixture = "tried"
teacher = "oracle"

[datasets.main]
mixture = "many"
best_of = 3
filters = [{ kind = "length", max_answer_chars = 60 }]
"""


@pytest.fixture
def mixed(world: World) -> World:
    world.edit("[datasets.main]\n", TABLES)
    world.edit('exclude = ["many"]', 'exclude = ["many"]\nholdout = 5')
    world.edit(
        'strategy = "direct"\nsystem_messages = ["set"]',
        'strategy = "direct"\nsystem_messages = ["set"]\nexpand = "each"',
    )
    return world


def records(out: Path, dataset: str) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(path) for path in sorted((out / dataset).glob("*.records.parquet")))


def balances(counts: DatasetCounts) -> None:
    """In + created = out + rejected, stage by stage, and each takes what the one before gave."""
    for stage in counts.stages:
        assert stage.taken + sum(stage.created.values()) == stage.out + sum(stage.rejected.values()), stage.name
    for before, after in zip(counts.stages, counts.stages[1:], strict=False):
        assert after.taken == before.out, (before.name, after.name)


def test_reserves_expanding_rules_best_of_and_two_teachers_go_together(mixed: World) -> None:
    manifest = mixed.build()
    out = mixed.folder / "out"
    assert not verify(out).findings
    for name, counts in manifest.datasets.items():
        balances(counts)
        found = records(out, name)
        assert found["id"].n_unique() == found.height == counts.examples, name
    places = {name: set(records(out, name)["line"]) for name in manifest.datasets}
    assert len(places["main"]) == 20, "a reserve counts questions, whatever a rule makes of them"
    assert len(places["third"]) == 5
    assert not places["main"] & places["second"]
    assert not places["second"] & places["third"]
    twice = Counter(records(out, "main").filter(pl.col("task") == "sum-1")["line"])
    assert set(twice.values()) == {1, 2}, "of some questions one copy was filtered, of others none"
    repeats = Counter(records(out, "second").filter(pl.col("task") != "sum-1")["line"])
    assert max(repeats.values()) == 2


def test_each_request_is_bought_once_and_counted_once(mixed: World) -> None:
    counts = mixed.build().made.answers
    bought = {"oracle": mixed.questions, "better": was_asked(mixed.folder / "better.jsonl")}
    for name, questions in bought.items():
        assert len({question["key"] for question in questions}) == len(questions), name
        asked = sum(each.asked for each in counts.values() if each.teacher == name)
        assert asked == len(questions), name
    again = mixed.build(store="other", out="out again")
    assert {name: each.asked for name, each in again.made.answers.items()} == dict.fromkeys(counts, 0)
    assert mixed.bytes_of() == mixed.bytes_of("out again")
