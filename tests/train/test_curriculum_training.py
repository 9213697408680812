"""A build with several datasets, a curriculum with weights, and a validation dataset, trained from end to end."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orca_recipes.shards.curriculum import read_curriculum
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.train import passes
from orca_recipes.train.data.order import RowPlace
from orca_recipes.train.processes.rank import train_as_rank
from orca_recipes.train.training_settings import Request
from tests.train.builds import make_build, read_steps

MIXED = """
[mixtures.checks]
take.odds = { rows = 12 }

[datasets.checks]
mixture = "checks"

[[curriculum]]
dataset = "sums"
tokens = 900
training = { learning_rate = 1e-3, warmup_steps = 2 }

[[curriculum]]
datasets = { sums = 1, odds = 3 }
epochs = 2
training = { batch_rows = 6, schedule = "linear" }

[training]
batch_rows = 8
learning_rate = 3e-3
schedule = "constant"
validation = "checks"
validate_every = 4
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_build(tmp_path_factory.mktemp("mixed") / "project", MIXED)


@pytest.fixture(scope="module")
def seen(
    build: Path, tmp_path_factory: pytest.TempPathFactory, fork_from_here: Callable[..., Any]
) -> tuple[Path, list[RowPlace], list[RowPlace]]:
    """A run on two ranks; the places of all rows trained on, and of those that were only looked at."""
    run, real = tmp_path_factory.mktemp("mixed-run") / "run", passes.losses

    def rank(rendezvous: str) -> tuple[list[RowPlace], list[RowPlace]]:
        trained: list[RowPlace] = []
        looked_at: list[RowPlace] = []

        def witnessed(model: Any, batch: Any) -> Any:
            found = real(model, batch)
            (trained if found.requires_grad else looked_at).extend(batch.places)
            return found

        # In a forked rank alone, which ends with this.
        passes.losses = witnessed
        train_as_rank(Request(build=build, out=run, data_parallel=2), rendezvous=rendezvous)
        return trained, looked_at

    ranks = fork_from_here(2, rank)
    return run, [place for trained, _ in ranks for place in trained], [place for _, looked in ranks for place in looked]


def test_each_dataset_gives_the_rows_that_the_curriculum_says(build: Path, seen: Any):
    _, trained, _ = seen
    phases = read_curriculum(build).phases
    asked = Counter[str]()
    for phase in phases:
        asked.update(phase.rows)
    assert phases[1].rows["odds"] > phases[1].rows["sums"] > 0
    assert Counter(place.dataset for place in trained) == +asked


def test_phases_begin_at_the_rows_and_with_the_settings_that_the_curriculum_says(build: Path, seen: Any):
    run, _, _ = seen
    first, second = read_curriculum(build).phases
    steps = read_steps(run)
    assert sum(step["rows"] for step in steps if step["phase"] == 1) == second.first_row == first.rows["sums"]
    assert {step["rows"] for step in steps if step["phase"] == 1} <= {8, second.first_row % 8}
    assert {step["rows"] for step in steps if step["phase"] == 2} <= {6, sum(second.rows.values()) % 6}
    rates = [step["learning_rate"] for step in steps if step["phase"] == 1]
    assert rates[:2] == pytest.approx([5e-4, 1e-3])
    rates = [step["learning_rate"] for step in steps if step["phase"] == 2]
    assert rates[0] == pytest.approx(3e-3)
    assert rates == sorted(rates, reverse=True)


def test_ranks_share_rows_so_that_each_is_seen_as_often_as_its_epochs_say(build: Path, seen: Any):
    _, trained, _ = seen
    held = read_manifest(build).datasets
    of_odds = Counter(place.row for place in trained if place.dataset == "odds")
    passes, left = divmod(sum(of_odds.values()), held["odds"].rows)
    assert Counter(of_odds.values()) == +Counter({passes + 1: left, passes: held["odds"].rows - left})


def test_validation_rows_are_all_looked_at_and_never_trained_on(build: Path, seen: Any):
    run, trained, looked_at = seen
    rows = read_manifest(build).datasets["checks"].rows
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    looks = [line for line in lines if "validation_loss" in line]
    assert "checks" not in {place.dataset for place in trained}
    ends = [sum(step["phase"] <= phase for step in read_steps(run)) for phase in (1, 2)]
    assert [look["step"] for look in looks] == sorted({*range(4, ends[1] + 1, 4), *ends})
    assert Counter(place.row for place in looked_at) == {row: len(looks) for row in range(rows)}
    assert {place.dataset for place in looked_at} == {"checks"}
    assert {look["target_tokens"] for look in looks} == {read_manifest(build).datasets["checks"].trained_tokens}
    assert looks[-1]["validation_loss"] < looks[0]["validation_loss"]
