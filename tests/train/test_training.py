"""Whole trainings on a small build, by ranks forked from this process."""

import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orca_recipes.errors import NonFiniteLoss
from orca_recipes.shards.curriculum import read_curriculum
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.train import journal, passes
from orca_recipes.train.checkpoints.description import newest_checkpoint, read_checkpoint
from orca_recipes.train.data.order import RowPlace
from orca_recipes.train.model import recomputation
from orca_recipes.train.processes.rank import prepare, train_as_rank
from orca_recipes.train.sample import Manner, sample
from orca_recipes.train.training_settings import Request
from tests.train.builds import make_build, read_steps, word_pairs

Fork = Callable[..., list[Any]]

# A large epsilon keeps AdamW from turning rounding of tiny gradients into steps of full size.
CALM = {"epsilon": 1e-3, "learning_rate": 1e-3, "batch_rows": 8, "micro_batch_rows": 8}

SMALL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 4099,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}
"""Two layers, 0.85 M parameters; begun wide, so that it learns pairs by heart in a hundred steps."""


def train(fork_ranks: Fork, request: Request, ranks: int = 1) -> list[bool]:
    return fork_ranks(ranks, lambda rendezvous: train_as_rank(request, rendezvous=rendezvous))


def curve(run: Path) -> list[float]:
    return [step["loss"] for step in read_steps(run)]


@pytest.fixture(scope="module")
def undisturbed(sums_build: Path, tmp_path_factory: pytest.TempPathFactory, fork_from_here: Fork) -> Path:
    """A run that nobody disturbed: both phases, on one rank."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(fork_from_here, Request(build=sums_build, out=run, training=CALM))
    return run


def test_phases_follow_one_another_where_the_curriculum_says(undisturbed: Path, sums_build: Path):
    first, second = read_curriculum(sums_build).phases
    rows = [(step["phase"], step["rows"]) for step in read_steps(undisturbed)]
    assert sum(count for phase, count in rows if phase == 1) == first.rows["sums"]
    assert sum(count for phase, count in rows if phase == 2) == second.rows["odds"]
    assert [phase for phase, _ in rows] == sorted(phase for phase, _ in rows)
    assert [count for phase, count in rows if phase == 1][-1] == first.rows["sums"] % 8


def test_every_target_token_of_every_epoch_is_trained_on_once(undisturbed: Path, sums_build: Path):
    held = read_manifest(sums_build).datasets
    steps = read_steps(undisturbed)
    assert sum(step["target_tokens"] for step in steps) == 2 * held["sums"].trained_tokens + held["odds"].trained_tokens


def test_a_run_that_goes_on_has_the_model_it_began_with_and_tells_of_settings_that_are_others_now(
    sums_build: Path, tmp_path: Path, fork_ranks: Fork
):
    config, run = tmp_path / "config.json", tmp_path / "run"
    config.write_text(json.dumps(SMALL))
    begun = Request(build=sums_build, out=run, model=str(config), steps=1, training=CALM)
    train(fork_ranks, begun)
    assert prepare(replace(begun, steps=2), 1).start.changed is None
    forgotten = Request(
        build=sums_build, out=run, training={**CALM, "loss_normalization": "example", "clip_gradient": 2.0}
    )
    found = prepare(forgotten, 1)
    assert found.settings.as_json()["model"] == str(config)
    assert found.start.changed == (
        'goes on with clip_gradient 2.0 where it had 1.0, loss_normalization "example" where it had "token"'
    )


def test_layers_are_recomputed_as_asked_and_the_losses_stay(
    undisturbed: Path, sums_build: Path, tmp_path: Path, fork_ranks: Fork, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def note(layers: Any, what: str) -> None:
        asked.append(what)
        recompute(layers, what)

    recompute = recomputation.recompute
    monkeypatch.setattr(recomputation, "recompute", note)
    request = Request(build=sums_build, out=tmp_path / "run", steps=3, training={**CALM, "recompute_modules": "both"})
    [told] = fork_ranks(1, lambda rendezvous: (train_as_rank(request, rendezvous=rendezvous), asked)[1])
    assert told == ["both"]
    assert curve(tmp_path / "run") == curve(undisturbed)[:3]


def test_a_checkpoint_stands_at_the_end_of_each_phase(undisturbed: Path):
    found = [read_checkpoint(place) for place in sorted((undisturbed / "checkpoints").iterdir())]
    assert [checkpoint.ends_phase for checkpoint in found if checkpoint.ends_phase] == ["1", "2"]


@pytest.mark.parametrize(
    ("ranks", "layout"),
    [
        pytest.param(2, {"tensor_parallel": 2, "sequence_parallel": True}, marks=pytest.mark.slow),
        pytest.param(2, {"data_parallel": 2}, marks=pytest.mark.slow),
        pytest.param(2, {"pipeline_parallel": 2}, marks=pytest.mark.slow),
        pytest.param(
            4, {"pipeline_parallel": 2, "tensor_parallel": 2, "sequence_parallel": True}, marks=pytest.mark.slow
        ),
    ],
    ids=["sequence parallel", "data parallel", "pipeline parallel", "pipeline and tensor parallel"],
)
def test_every_layout_gives_the_same_curve(
    undisturbed: Path, sums_build: Path, tmp_path: Path, fork_ranks: Fork, ranks: int, layout: dict[str, Any]
):
    train(fork_ranks, Request(build=sums_build, out=tmp_path / "run", training=CALM, **layout), ranks)
    assert curve(tmp_path / "run") == pytest.approx(curve(undisturbed), abs=2e-4)


def test_micro_batches_change_nothing(undisturbed: Path, sums_build: Path, tmp_path: Path, fork_ranks: Fork):
    train(fork_ranks, Request(build=sums_build, out=tmp_path / "run", training={**CALM, "micro_batch_rows": 3}))
    assert curve(tmp_path / "run") == pytest.approx(curve(undisturbed), abs=2e-4)


def test_a_run_that_is_killed_and_resumed_has_the_curve_of_one_that_nobody_disturbed(
    undisturbed: Path, sums_build: Path, tmp_path: Path, fork_ranks: Fork, monkeypatch: pytest.MonkeyPatch
):
    asked = Request(build=sums_build, out=tmp_path / "run", training=CALM)
    step = journal.RunJournal.step

    def die_at_five(self: Any, told: journal.Step, glance: journal.Glance) -> None:
        step(self, told, glance)
        if told.step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as killing:
        killing.setattr(journal.RunJournal, "step", die_at_five)
        with pytest.raises(AssertionError, match="rank 0 died"):
            train(fork_ranks, asked)
    assert len(curve(asked.run)) == 5
    newest = newest_checkpoint(asked.run / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000004"
    train(fork_ranks, asked)
    assert curve(asked.run) == curve(undisturbed)
    assert [step["step"] for step in read_steps(asked.run)] == list(range(1, len(curve(undisturbed)) + 1))


@pytest.mark.slow
def test_a_run_goes_on_at_another_layout(undisturbed: Path, sums_build: Path, tmp_path: Path, fork_ranks: Fork):
    asked = Request(build=sums_build, out=tmp_path / "run", training=CALM, steps=7, tensor_parallel=2)
    train(fork_ranks, asked, 2)
    train(fork_ranks, replace(asked, steps=11, tensor_parallel=1, pipeline_parallel=2), 2)
    train(fork_ranks, replace(asked, steps=None, tensor_parallel=1, data_parallel=2), 2)
    assert curve(asked.run) == pytest.approx(curve(undisturbed), abs=2e-4)


def test_a_finished_run_has_nothing_left_to_do(undisturbed: Path, sums_build: Path, fork_ranks: Fork):
    before = sorted(path.name for path in (undisturbed / "checkpoints").iterdir())
    assert train(fork_ranks, Request(build=sums_build, out=undisturbed, training=CALM)) == [False]
    assert sorted(path.name for path in (undisturbed / "checkpoints").iterdir()) == before


def test_steps_that_the_curriculum_does_not_have_are_told_before_the_first(
    sums_build: Path, tmp_path: Path, fork_ranks: Fork, capfd: pytest.CaptureFixture[str]
):
    asked = Request(build=sums_build, out=tmp_path / "run", training={**CALM, "batch_rows": 90}, steps=30)
    train(fork_ranks, asked)
    first, second = (phase.rows for phase in read_curriculum(sums_build).phases)
    lines = capfd.readouterr().out.splitlines()
    steps = len(curve(asked.run))
    assert steps < 30
    assert re.match(
        r"memory of a rank: about \S+ MB of weights, gradients and optimizer, and \S+ MB of activations; "
        r"its share of this machine is \S+ GB$",
        lines[0],
    )
    assert lines[2] == (
        f"--steps 30: the curriculum ends after {steps} steps (phase 1: {first['sums']} rows, phase 2: "
        f"{second['odds']} rows); for more, give its phases more epochs or tokens and build again, "
        "or take fewer --batch-rows"
    )
    assert lines[3] == "running step 1 on the CPU: 90 rows of 64 tokens, 8 at once on each rank"
    assert lines[4].startswith(f"step 1/{steps}")
    settings = prepare(asked, 1).settings
    assert settings.fewer_steps == lines[2]
    assert replace(settings, request=replace(asked, steps=steps)).fewer_steps is None


def test_a_stop_signal_ends_the_step_and_leaves_a_checkpoint(
    undisturbed: Path, sums_build: Path, tmp_path: Path, fork_ranks: Fork, monkeypatch: pytest.MonkeyPatch
):
    asked = Request(build=sums_build, out=tmp_path / "run", training=CALM, data_parallel=2)
    step = journal.RunJournal.step

    def interrupt_at_three(self: Any, told: journal.Step, glance: journal.Glance) -> None:
        step(self, told, glance)
        if told.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as interrupting:
        interrupting.setattr(journal.RunJournal, "step", interrupt_at_three)
        assert train(fork_ranks, asked, 2) == [True, True]
    newest = newest_checkpoint(asked.run / "checkpoints")
    assert newest is not None
    assert read_checkpoint(newest).step == len(curve(asked.run)) == 3
    train(fork_ranks, asked, 2)
    assert curve(asked.run) == pytest.approx(curve(undisturbed), abs=2e-4)


def test_a_phase_can_start_from_an_earlier_checkpoint(
    undisturbed: Path, sums_build: Path, tmp_path: Path, fork_ranks: Fork
):
    (end_of_first,) = (
        place for place in (undisturbed / "checkpoints").iterdir() if read_checkpoint(place).ends_phase == "1"
    )
    asked = Request(build=sums_build, out=tmp_path / "run", training=CALM, model=str(end_of_first), first_phase=2)
    train(fork_ranks, asked)
    second = [step["loss"] for step in read_steps(undisturbed) if step["phase"] == 2]
    # The same weights and rows, a fresh optimizer: the first loss is equal, later ones part.
    assert curve(asked.run)[0] == pytest.approx(second[0], abs=1e-6)
    assert {step["phase"] for step in read_steps(asked.run)} == {2}


def test_a_loss_that_is_no_number_stops_with_the_rows_that_caused_it(
    sums_build: Path, tmp_path: Path, fork_ranks: Fork, monkeypatch: pytest.MonkeyPatch
):
    real, seen = passes.losses, [0]

    def poisoned(model: Any, batch: Any) -> Any:
        seen[0] += 1
        found = real(model, batch)
        return found * float("nan") if RowPlace("sums", 3, 0) in batch.places else found

    monkeypatch.setattr(passes, "losses", poisoned)
    asked = Request(build=sums_build, out=tmp_path / "run", training=CALM, data_parallel=2)
    with pytest.raises(NonFiniteLoss, match=r"the loss is not finite; .*: row 3 of sums/0000\d, made of sums \S*:\d+"):
        train(fork_ranks, asked, 2)


def test_tensorboard_reads_what_the_log_says(undisturbed: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(undisturbed / "tensorboard")).Reload()
    told = {event.step: event.value for event in events.Scalars("loss")}
    assert list(told) == [step["step"] for step in read_steps(undisturbed)]
    assert list(told.values()) == pytest.approx(curve(undisturbed), rel=1e-6)


@pytest.mark.slow
def test_a_small_model_learns_64_rows_by_heart_and_samples_their_answers(tmp_path: Path, fork_ranks: Fork):
    pairs = word_pairs(64)
    curriculum = '[[curriculum]]\ndataset = "sums"\nepochs = 25\n'
    build = make_build(tmp_path / "project", curriculum, pairs=pairs, row_tokens=28)
    assert read_manifest(build).datasets["sums"].rows == 64
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SMALL))
    training = {"learning_rate": 3e-3, "batch_rows": 16, "micro_batch_rows": 16, "warmup_steps": 10}
    asked = Request(build=build, out=tmp_path / "run", model=str(config), training=training)
    train(fork_ranks, asked)
    newest = newest_checkpoint(asked.run / "checkpoints")
    assert newest is not None
    assert read_checkpoint(newest).architecture.parameters <= 1_000_000
    assert curve(asked.run)[-1] < 0.05

    def ask(rendezvous: str) -> list[str]:
        return [sample(newest, asked_for, system=None, manner=Manner()) for asked_for, _ in pairs[::4]]

    (answers,) = fork_ranks(1, ask)
    assert answers == [told for _, told in pairs[::4]]


def test_an_answer_is_drawn_by_its_seed_and_cut_where_it_was_told(undisturbed: Path, fork_ranks: Fork):
    def ask(rendezvous: str) -> list[str]:
        manners = [Manner(temperature=1.0, seed=seed, max_tokens=6) for seed in (1, 1, 2)]
        return [sample(undisturbed, "3 + 21?", system="Be kind.", manner=manner) for manner in manners]

    ((first, again, other),) = fork_ranks(1, ask)
    assert first == again != other
