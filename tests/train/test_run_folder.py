"""A training writes over nothing that no training wrote, wherever its folder lies."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orca_recipes.errors import TrainingError
from orca_recipes.train.checkpoints.checkpoint import save_checkpoint
from orca_recipes.train.checkpoints.description import Checkpoint, newest_checkpoint
from orca_recipes.train.hf.conversion import export_hf
from orca_recipes.train.model.network import build_model
from orca_recipes.train.processes.parallel_layout import Layout, Place
from orca_recipes.train.processes.rank import prepare, train_as_rank
from orca_recipes.train.training_settings import Request
from tests.train.builds import read_steps
from tests.train.rows import small

Fork = Callable[..., list[Any]]


def train(fork_ranks: Fork, build: Path, run: Path, **more: Any) -> None:
    asked = Request(build=build, out=run, training={"checkpoint_every": 1, "keep_checkpoints": 1}, **more)
    fork_ranks(1, lambda rendezvous: train_as_rank(asked, rendezvous=rendezvous))


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("log.jsonl", "log.jsonl"),
        ("settings.json", "settings.json"),
        ("tensorboard/events", "tensorboard"),
        ("trackio/x.db", "trackio"),
        ("checkpoints/step-00000007/mine.txt", "checkpoints"),
    ],
)
def test_a_file_that_a_training_would_write_over_is_named_and_stands(
    sums_build: Path, tmp_path: Path, file: str, named: str
):
    path = tmp_path / "run" / file
    path.parent.mkdir(parents=True)
    path.write_text('{"mine": 1}\n')
    with pytest.raises(TrainingError) as fault:
        prepare(Request(build=sums_build, out=tmp_path / "run"), 1)
    assert str(fault.value) == (
        f"{tmp_path / 'run'} holds {named}, which no training wrote and this one would write over; "
        "choose another place with --out, or move it elsewhere"
    )
    assert path.read_text() == '{"mine": 1}\n'


def test_files_beside_those_of_a_run_disturb_nobody(sums_build: Path, tmp_path: Path, fork_ranks: Fork):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "slurm-7.out").write_text("mine")
    train(fork_ranks, sums_build, tmp_path / "run", steps=1)
    train(fork_ranks, sums_build, tmp_path / "run", steps=2)
    assert [step["step"] for step in read_steps(tmp_path / "run")] == [1, 2]
    assert (tmp_path / "run" / "slurm-7.out").read_text() == "mine"


def test_a_folder_among_the_checkpoints_that_is_none_is_named(sums_build: Path, tmp_path: Path, fork_ranks: Fork):
    train(fork_ranks, sums_build, tmp_path / "run", steps=1)
    (tmp_path / "run" / "checkpoints" / "step-00000000").mkdir()
    with pytest.raises(TrainingError, match=r"holds checkpoints/step-00000000, which no training wrote"):
        prepare(Request(build=sums_build, out=tmp_path / "run", steps=2), 1)


def test_a_checkpoint_into_which_somebody_put_a_file_is_not_removed(sums_build: Path, tmp_path: Path, fork_ranks: Fork):
    checkpoints = tmp_path / "run" / "checkpoints"
    train(fork_ranks, sums_build, tmp_path / "run", steps=1)
    (checkpoints / "step-00000001" / "notes.txt").write_text("mine")
    train(fork_ranks, sums_build, tmp_path / "run", steps=2)
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step-00000001", "step-00000002"]


def test_a_step_that_is_come_by_again_leaves_what_somebody_put_into_its_checkpoint(
    run_layout: Callable[..., list[Any]], tmp_path: Path
):
    def save(place: Place) -> None:
        model = build_model(small(), Layout())
        for text in ("first", "second"):
            saved = save_checkpoint(tmp_path, Checkpoint(small(), step=1), model, keep=1)
            (saved / "notes.txt").write_text(text)
        save_checkpoint(tmp_path, Checkpoint(small(), step=1), model, keep=1)

    run_layout(Layout(), save)
    assert sorted(path.read_text() for path in tmp_path.rglob("notes.txt")) == ["first", "second"]
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000001"
    assert not (tmp_path / "step-00000001" / "notes.txt").exists()


@pytest.mark.parametrize("is_there", [True, False], ids=["to a folder", "to where none is yet"])
def test_a_run_through_a_link_is_where_the_link_leads(
    sums_build: Path, tmp_path: Path, fork_ranks: Fork, is_there: bool
):
    link, target = tmp_path / "link", tmp_path / "large disk" / "run"
    if is_there:
        target.mkdir(parents=True)
    link.symlink_to(target)
    train(fork_ranks, sums_build, link, steps=1)
    train(fork_ranks, sums_build, link, steps=2)
    assert link.is_symlink()
    assert newest_checkpoint(target / "checkpoints") == target / "checkpoints" / "step-00000002"


def test_a_checkpoint_is_written_where_a_link_leads_that_leads_to_nothing_yet(
    run_layout: Callable[..., list[Any]], tmp_path: Path
):
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    saved = Checkpoint(small(), step=1)
    run_layout(
        Layout(), lambda place: save_checkpoint(tmp_path / "link", saved, build_model(small(), Layout()), keep=1)
    )
    assert newest_checkpoint(tmp_path / "far" / "away") == tmp_path / "far" / "away" / "step-00000001"


def test_a_mount_point_and_a_link_take_a_run_and_an_export(sums_build: Path, tmp_path: Path, fork_ranks: Fork):
    run, mounted, target = tmp_path / "run", tmp_path / "exported", tmp_path / "far" / "away"
    run.mkdir()
    mounted.mkdir()
    for place in (run, mounted):
        mounting = ["mount", "-t", "tmpfs", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True).returncode:
            pytest.skip("this machine lets nobody mount a folder")
    try:
        train(fork_ranks, sums_build, run, steps=1)
        newest = newest_checkpoint(run / "checkpoints")
        assert newest is not None
        (tmp_path / "link").symlink_to(target)
        for place in (mounted, tmp_path / "link"):
            fork_ranks(1, lambda rendezvous, place=place: export_hf(newest, place))
        for place in (mounted, target):
            assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in place.iterdir()}
            assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []
        assert [path.name for path in target.parent.iterdir()] == ["away"]
    finally:
        for place in (run, mounted):
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_an_export_leaves_a_users_folder_of_a_similar_name_alone(sums_build: Path, tmp_path: Path, fork_ranks: Fork):
    train(fork_ranks, sums_build, tmp_path / "run", steps=1)
    (tmp_path / "hf.partial").mkdir()
    (tmp_path / "hf.partial" / "mine.txt").write_text("mine")
    newest = newest_checkpoint(tmp_path / "run" / "checkpoints")
    fork_ranks(1, lambda rendezvous: export_hf(newest, tmp_path / "hf"))
    assert (tmp_path / "hf" / "config.json").is_file()
    assert (tmp_path / "hf.partial" / "mine.txt").read_text() == "mine"
