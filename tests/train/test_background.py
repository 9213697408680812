"""Checkpoints that are written while the training goes on: those that a training waits for, to the byte."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orca_recipes.errors import Failure, NonFiniteLoss, StoreError
from orca_recipes.train.checkpoints import background
from orca_recipes.train.checkpoints.background import Writing
from orca_recipes.train.checkpoints.checkpoint import begin_checkpoint, resume, save_checkpoint
from orca_recipes.train.checkpoints.description import Checkpoint, newest_checkpoint, read_checkpoint
from orca_recipes.train.loop import Trainer
from orca_recipes.train.processes.parallel_layout import Layout, Place
from orca_recipes.train.processes.rank import train_as_rank
from orca_recipes.train.training_settings import Request
from tests.campaign.disks import small_disk
from tests.patience import SECONDS
from tests.train.builds import read_steps
from tests.train.rows import small
from tests.train.test_checkpoint import DIGEST, TWO, made, steps

RunLayout = Callable[..., list[Any]]
Fork = Callable[..., list[Any]]

STUDENT = {"tokenizer.json": b"{}"}


def described(step: int) -> Checkpoint:
    return Checkpoint(small(), step=step, manifest_digest=DIGEST, position={"rows": 6})


@pytest.mark.parametrize("layout", [Layout(), TWO, Layout(data_parallel=2)], ids=str)
def test_a_checkpoint_in_the_background_is_that_of_its_step_to_the_byte(
    run_layout: RunLayout, tmp_path: Path, layout: Layout
):
    def train(place: Place) -> list[float]:
        model, optimizer = made(layout)
        steps(layout, place, model, optimizer, 0, 3)
        save_checkpoint(tmp_path / "waited", described(3), model, optimizer, keep=2, tokenizer=STUDENT)
        writing = begin_checkpoint(tmp_path / "behind", described(3), model, optimizer, keep=2, tokenizer=STUDENT)
        after = steps(layout, place, model, optimizer, 3, 6)
        assert writing.is_published(wait=True)
        return after

    def go_on(place: Place) -> list[float]:
        model, optimizer = made(layout)
        resume(tmp_path / "behind" / "step-00000003", model, optimizer, manifest_digest=DIGEST)
        return steps(layout, place, model, optimizer, 3, 6)

    undisturbed, resumed = run_layout(layout, train), run_layout(layout, go_on)
    assert resumed == undisturbed
    waited, behind = (read_checkpoint(tmp_path / name / "step-00000003") for name in ("waited", "behind"))
    assert any(name.startswith("__0_") for name in behind.files)
    assert behind == waited
    assert [place.name for place in (tmp_path / "behind").iterdir()] == ["step-00000003"]


def test_a_checkpoint_is_not_there_before_all_of_it_is_written(
    run_layout: RunLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write, may_write = background._write, tmp_path / "may write"

    def write_when_told(*arguments: Any, **more: Any) -> None:
        while not may_write.exists():
            time.sleep(0.01)
        write(*arguments, **more)

    monkeypatch.setattr(background, "_write", write_when_told)

    def train(place: Place) -> list[object]:
        model, optimizer = made(Layout())
        writing = begin_checkpoint(tmp_path / "run", described(3), model, optimizer, keep=2)
        before = writing.is_published(wait=False), newest_checkpoint(tmp_path / "run")
        may_write.touch()
        return [*before, writing.is_published(wait=True), newest_checkpoint(tmp_path / "run")]

    assert run_layout(Layout(), train) == [[False, None, True, tmp_path / "run" / "step-00000003"]]


def test_a_disk_that_fills_up_behind_the_training_is_a_sentence_and_leaves_nothing(
    run_layout: RunLayout, tmp_path: Path
):
    def attempt(place: Place) -> str:
        with small_disk(tmp_path, 700_000):
            model, optimizer = made(Layout())
            writing = begin_checkpoint(tmp_path, described(3), model, optimizer, keep=2)
            with pytest.raises(StoreError) as fault:
                writing.is_published(wait=True)
            assert not list(tmp_path.iterdir())
        return str(fault.value)

    try:
        [said] = run_layout(Layout(), attempt)
    except PermissionError:
        pytest.skip("this machine lets nobody mount a small disk")
    assert "there is no room left on its disk for the checkpoint step-00000003; nothing is left of it" in said


def test_a_writer_that_is_killed_is_a_sentence_and_leaves_nothing(
    run_layout: RunLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(background, "_write", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))

    def attempt(place: Place) -> str:
        model, optimizer = made(TWO)
        writing = begin_checkpoint(tmp_path / "run", described(3), model, optimizer, keep=2)
        with pytest.raises(StoreError) as fault:
            writing.is_published(wait=True)
        return str(fault.value)

    for said in run_layout(TWO, attempt):
        assert "it cannot be written" in said
    assert not list((tmp_path / "run").iterdir())


def asked(build: Path, out: Path, *, steps: int = 6, **settings: Any) -> Request:
    training = {"batch_rows": 8, "checkpoint_every": 2, "async_checkpoints": True, **settings}
    return Request(build=build, out=out, device="cpu", steps=steps, training=training)


@pytest.mark.slow
def test_a_training_that_writes_behind_itself_has_the_steps_and_checkpoints_of_one_that_waits(
    sums_build: Path, tmp_path: Path, fork_ranks: Fork
):
    for name, behind in (("waited", False), ("behind", True)):
        request = asked(sums_build, tmp_path / name, async_checkpoints=behind, keep_checkpoints=3)
        fork_ranks(1, lambda rendezvous, request=request: train_as_rank(request, rendezvous=rendezvous))
    waited, behind = tmp_path / "waited", tmp_path / "behind"
    assert [step["loss"] for step in read_steps(behind)] == [step["loss"] for step in read_steps(waited)]
    names = sorted(place.name for place in (waited / "checkpoints").iterdir())
    assert sorted(place.name for place in (behind / "checkpoints").iterdir()) == names
    assert len(names) > 2
    for name in names:
        both = [read_checkpoint(run / "checkpoints" / name).files for run in (waited, behind)]
        assert both[0] == both[1]


@pytest.mark.slow
def test_a_rank_that_dies_while_it_writes_is_a_sentence_and_its_checkpoint_goes(
    sums_build: Path, tmp_path: Path, fork_ranks: Fork, monkeypatch: pytest.MonkeyPatch
):
    write, step, begin = background._write, Trainer._step, Writing.__init__
    begun = [0]

    def count(self: Writing, *arguments: Any) -> None:
        begun[0] += 1
        begin(self, *arguments)

    def write_without_end(*arguments: Any, **more: Any) -> None:
        if begun[0] > 1:
            (tmp_path / f"writer {os.getpid()}").touch()
            time.sleep(10 * SECONDS)
        write(*arguments, **more)

    def die_in_the_fifth(self: Trainer, phase: Any, position: Any) -> Any:
        if position.step == 4 and self.place.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, phase, position)

    monkeypatch.setattr(Writing, "__init__", count)
    monkeypatch.setattr(background, "_write", write_without_end)
    monkeypatch.setattr(Trainer, "_step", die_in_the_fifth)
    request = asked(sums_build, tmp_path / "run")
    with pytest.raises(Failure, match="another rank ended in the middle of a step; the last checkpoint stands"):
        fork_ranks(2, lambda rendezvous: train_as_rank(request, rendezvous=rendezvous))
    monkeypatch.undo()

    assert [place.name for place in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002"]
    assert list(tmp_path.glob("writer *"))
    for writer in tmp_path.glob("writer *"):
        assert not is_running(writer.name.split()[1]), "a writer ends with its rank"
    fork_ranks(2, lambda rendezvous: train_as_rank(request, rendezvous=rendezvous))
    assert [step["step"] for step in read_steps(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def is_running(process: str) -> bool:
    """Whether a process does anything; one that ended and that nobody asked about has state Z."""
    try:
        return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_killed_ranks_left_half_written_goes_when_the_run_goes_on(
    sums_build: Path, tmp_path: Path, fork_ranks: Fork
):
    request = asked(sums_build, tmp_path / "run", steps=2)
    fork_ranks(1, lambda rendezvous: train_as_rank(request, rendezvous=rendezvous))
    left = tmp_path / "run" / "checkpoints" / ".step-00000099.partial"
    left.mkdir()
    (left / "__0_0.distcp").write_bytes(b"half")
    further = replace(request, steps=3)
    fork_ranks(1, lambda rendezvous: train_as_rank(further, rendezvous=rendezvous))
    assert not left.exists()


def test_a_loss_that_is_no_number_keeps_the_checkpoint_on_its_way(
    sums_build: Path, tmp_path: Path, fork_ranks: Fork, monkeypatch: pytest.MonkeyPatch
):
    step, write = Trainer._step, background._write

    def write_late(*arguments: Any, **more: Any) -> None:
        time.sleep(1)
        write(*arguments, **more)

    def lose(self: Trainer, phase: Any, position: Any) -> Any:
        if position.step == 2:
            raise NonFiniteLoss("step 3: the loss is not finite")
        return step(self, phase, position)

    monkeypatch.setattr(background, "_write", write_late)
    monkeypatch.setattr(Trainer, "_step", lose)
    request = asked(sums_build, tmp_path / "run")
    with pytest.raises(NonFiniteLoss):
        fork_ranks(1, lambda rendezvous: train_as_rank(request, rendezvous=rendezvous))
    assert newest_checkpoint(tmp_path / "run" / "checkpoints") == tmp_path / "run" / "checkpoints" / "step-00000002"
