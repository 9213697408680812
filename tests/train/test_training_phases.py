"""Phases and settings: flags over a phase's own, over the build's, over defaults."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.errors import TrainingError
from orca_recipes.shards.curriculum import Curriculum, read_curriculum
from orca_recipes.shards.manifest import Manifest, read_manifest
from orca_recipes.shards.training import Training
from orca_recipes.train.data.training_phases import phases_of
from orca_recipes.train.options import request_of, train_options, words_of
from orca_recipes.train.training_settings import Request, resolve


@pytest.fixture(scope="module")
def manifest(sums_build: Path) -> Manifest:
    return read_manifest(sums_build)


@pytest.fixture(scope="module")
def curriculum(sums_build: Path) -> Curriculum:
    return read_curriculum(sums_build)


def test_phases_take_the_rows_that_the_curriculum_names(manifest: Manifest, curriculum: Curriculum):
    first, second = phases_of(manifest, curriculum, {})
    assert first.taken == {"sums": 2 * manifest.datasets["sums"].rows}
    assert second.taken == {"odds": manifest.datasets["odds"].rows}
    assert first.steps == -(-first.rows // 8)


def test_a_phases_own_settings_win_over_the_builds_and_flags_over_both(manifest: Manifest, curriculum: Curriculum):
    first, second = phases_of(manifest, curriculum, {"batch_rows": 3})
    assert (first.training.learning_rate, second.training.learning_rate) == (3e-3, 1e-3)
    assert first.training.batch_rows == second.training.batch_rows == 3
    assert first.training.weight_decay == Training().weight_decay


def test_a_build_without_a_curriculum_is_one_phase_over_everything(manifest: Manifest):
    (phase,) = phases_of(manifest, Curriculum(), {})
    assert phase.taken == {name: counts.rows for name, counts in manifest.datasets.items()}
    (phase,) = phases_of(manifest, Curriculum(), {"validation": "odds"})
    assert phase.taken == {"sums": manifest.datasets["sums"].rows}


@pytest.mark.parametrize(
    ("own", "flags", "sentence"),
    [
        ({"learning_rat": 1.0}, {}, r"training.learning_rat of phase 2: there is no such setting"),
        ({"lora_rank": 8}, {}, r'training.lora_rank of phase 2: "lora_rank" is of adapters, .*; correct it'),
        ({"seed": 2}, {}, r"phase 2 sets seed, which holds for all phases"),
        ({"batch_rows": 0}, {}, r"training.batch_rows of phase 2: input should be greater than or equal to 1"),
        ({}, {"validation": "odds"}, r'phase 2 trains on "odds", which is held out for validation'),
        ({}, {"validation": "oods"}, r'phase 1 names dataset "oods", and the build holds odds, sums'),
    ],
)
def test_a_setting_that_cannot_be_meant_is_answered_with_its_place(
    manifest: Manifest, curriculum: Curriculum, own: dict[str, Any], flags: dict[str, Any], sentence: str
):
    first, second = curriculum.phases
    changed = curriculum.model_copy(update={"phases": (first, second.model_copy(update={"training": own}))})
    with pytest.raises(TrainingError, match=sentence):
        phases_of(manifest, changed, flags)


def test_layers_are_recomputed_whole_or_in_parts(manifest: Manifest, curriculum: Curriculum):
    both = {"recompute": True, "recompute_modules": "mlp"}
    with pytest.raises(TrainingError, match=r'recompute recomputes whole layers, and recompute_modules "mlp" parts of'):
        phases_of(manifest, curriculum, both)


def test_the_resolved_settings_say_what_a_run_does(sums_build: Path, tmp_path: Path):
    settings = resolve(Request(build=sums_build, out=tmp_path, training={"seed": 5}))
    settings.write()
    told = json.loads((tmp_path / "settings.json").read_bytes())
    assert told["manifest_digest"] == settings.manifest.digest
    assert told["model"] == "tiny"
    assert [phase["training"]["seed"] for phase in told["phases"]] == [5, 5]
    assert told["steps"] == sum(phase["steps"] for phase in told["phases"]) == settings.steps


def test_an_option_that_cannot_be_meant_is_answered_with_its_name(manifest: Manifest, curriculum: Curriculum):
    with pytest.raises(TrainingError, match=r"^--learning-rate -1.0: input should be greater than 0; give another"):
        phases_of(manifest, curriculum, {"learning_rate": -1.0})


def test_a_phase_that_is_not_there_is_refused(sums_build: Path):
    with pytest.raises(TrainingError, match=r"--phase 3: the curriculum has 2, counted from 1"):
        resolve(Request(build=sums_build, first_phase=3))


@given(
    training=st.fixed_dictionaries(
        {},
        optional={
            "learning_rate": st.floats(1e-9, 1.0),
            "schedule": st.sampled_from(["constant", "linear", "cosine"]),
            "restart_schedule": st.booleans(),
            "recompute": st.booleans(),
            "recompute_modules": st.sampled_from(["none", "core_attn", "mlp", "both"]),
            "async_checkpoints": st.booleans(),
            "deterministic": st.booleans(),
            "seed": st.integers(0, 1000),
            "validation": st.just("held-out"),
        },
    ),
    steps=st.none() | st.integers(1, 100),
    sequence_parallel=st.booleans(),
)
def test_ranks_are_started_with_the_request_that_was_made(
    training: dict[str, Any], steps: int | None, sequence_parallel: bool
):
    asked = Request(
        build=Path("build/x"),
        out=Path("runs/x"),
        steps=steps,
        sequence_parallel=sequence_parallel,
        data_parallel=2,
        training=training,
    )
    found: list[Request] = []
    command = click.Command("train", params=train_options(), callback=lambda **given: found.append(request_of(given)))
    command.main(words_of(asked), standalone_mode=False)
    assert found == [asked]


def test_every_setting_of_a_recipe_is_an_option_of_the_command():
    names = {name for parameter in train_options() for name in parameter.opts}
    assert {f"--{name.replace('_', '-')}" for name in Training.model_fields} <= names
