"""Checkpoints: exact, at any layout, whole or not there, and only for the run they belong to."""

import json
import os
import pickle
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from megatron.core import dist_checkpointing

from orca_recipes.errors import CheckpointError, StoreError
from orca_recipes.shards.digests import file_digest
from orca_recipes.train.checkpoints.checkpoint import load_weights, read_weights, resume, save_checkpoint
from orca_recipes.train.checkpoints.description import Checkpoint, newest_checkpoint, read_checkpoint
from orca_recipes.train.checkpoints.pickles import reading_data_alone
from orca_recipes.train.model.network import Network, build_model, hollow_model, logits
from orca_recipes.train.optimizer import Optimizer, build_optimizer
from orca_recipes.train.processes.parallel_layout import Layout, Place
from tests.campaign.disks import small_disk
from tests.train.rows import small
from tests.train.test_optimizer import BATCHES, CALM, mean_loss, take

TWO = Layout(tensor_parallel=2, sequence_parallel=True)
DIGEST = "a" * 64


def made(layout: Layout) -> tuple[Network, Optimizer]:
    model = build_model(small(), layout)
    return model, build_optimizer(model, layout, CALM)


def steps(layout: Layout, place: Place, model: Network, optimizer: Optimizer, first: int, last: int) -> list[float]:
    found = []
    for step in range(first, last):
        found.append(mean_loss(model, BATCHES[step % 2]))
        take(model, optimizer, BATCHES[step % 2][place.data_rank :: layout.data_parallel])
    return found


def train_and_save(layout: Layout, folder: Path, last: int = 3, **options: Any) -> Callable[[Place], list[float]]:
    def train(place: Place) -> list[float]:
        model, optimizer = made(layout)
        before = steps(layout, place, model, optimizer, 0, last)
        description = Checkpoint(small(), step=last, manifest_digest=DIGEST, position={"rows": 6})
        save_checkpoint(folder, description, model, optimizer, keep=2, **options)
        return [*before, *steps(layout, place, model, optimizer, last, last + 3)]

    return train


@pytest.mark.parametrize(
    ("saved", "resumed"),
    [
        (TWO, Layout()),
        (Layout(), TWO),
        (TWO, TWO),
        (Layout(data_parallel=2), Layout(tensor_parallel=2)),
    ],
    ids=str,
)
def test_a_resumed_run_goes_on_as_if_nothing_had_happened_at_any_layout(
    run_layout: Callable[..., list[Any]], tmp_path: Path, saved: Layout, resumed: Layout
):
    undisturbed = run_layout(saved, train_and_save(saved, tmp_path))[0]

    def go_on(place: Place) -> tuple[Checkpoint, list[float]]:
        torch.manual_seed(99)
        model, optimizer = made(resumed)
        path = newest_checkpoint(tmp_path)
        assert path is not None
        found = resume(path, model, optimizer, manifest_digest=DIGEST)
        return found, steps(resumed, place, model, optimizer, found.step, found.step + 3)

    for found, losses in run_layout(resumed, go_on):
        assert found.position == {"rows": 6}
        assert losses == pytest.approx(undisturbed[3:], rel=1e-4 if saved != resumed else 1e-7)


def test_weights_come_back_to_the_bit(run_layout: Callable[..., list[Any]], tmp_path: Path):
    def save(place: Place) -> torch.Tensor:
        model, optimizer = made(TWO)
        steps(TWO, place, model, optimizer, 0, 2)
        save_checkpoint(tmp_path, Checkpoint(small()), model, keep=1)
        return torch.cat([weight.detach().flatten() for weight in model.parameters()])

    def load(place: Place) -> tuple[torch.Tensor, list[float]]:
        norms, weights = [], torch.empty(0)
        for initialize in (True, False):
            model = build_model(small(), TWO, initialize=initialize)
            load_weights(tmp_path / "step-00000000", model)
            weights = torch.cat([weight.detach().flatten() for weight in model.parameters()])
            norms.append(take(model, build_optimizer(model, TWO, CALM), BATCHES[0]).gradient_norm)
        return weights, norms

    for before, (after, norms) in zip(run_layout(TWO, save), run_layout(TWO, load), strict=True):
        assert torch.equal(before, after)
        assert norms[0] == norms[1], "a weight that is loaded counts in the gradient's norm as one that was drawn"


def test_the_last_few_are_kept_and_those_that_end_a_phase(run_layout: Callable[..., list[Any]], tmp_path: Path):
    student = {"tokenizer.json": b"{}"}

    def save(place: Place) -> None:
        model, _ = made(Layout())
        for step in (1, 2, 3, 4, 5):
            phase = "first" if step == 2 else None
            description = Checkpoint(small(), step=step, ends_phase=phase)
            save_checkpoint(tmp_path / "run", description, model, keep=2, tokenizer=student)

    run_layout(Layout(), save)
    assert sorted(place.name for place in (tmp_path / "run").iterdir()) == [
        "step-00000002",
        "step-00000004",
        "step-00000005",
    ]
    assert newest_checkpoint(tmp_path / "run") == tmp_path / "run" / "step-00000005"
    assert (tmp_path / "run" / "step-00000005" / "tokenizer" / "tokenizer.json").read_text() == "{}"


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_writes_leaves_the_checkpoint_before(
    run_layout: Callable[..., list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run_layout(TWO, train_and_save(TWO, tmp_path))
    whole = dist_checkpointing.save

    def save_and_die(state: dict[str, Any], folder: str) -> None:
        whole(state, folder)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(dist_checkpointing, "save", save_and_die)
    with pytest.raises(AssertionError, match="died"):
        run_layout(TWO, train_and_save(TWO, tmp_path, last=5))
    monkeypatch.undo()

    assert [place.name for place in tmp_path.glob(".step-*")] == [".step-00000005.partial"]
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000003"
    run_layout(TWO, train_and_save(TWO, tmp_path, last=5))
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000005"
    assert not list(tmp_path.glob(".step-*"))


def test_a_checkpoint_of_another_model_other_data_or_damaged_is_refused(
    run_layout: Callable[..., list[Any]], tmp_path: Path
):
    run_layout(Layout(), train_and_save(Layout(), tmp_path))
    path = tmp_path / "step-00000003"

    def refused(place: Place) -> list[str]:
        said = []
        model, optimizer = made(Layout())
        wider = build_model(replace(small(), mlp_hidden=128), Layout())
        for attempt in (
            lambda: resume(path, model, optimizer, manifest_digest="b" * 64),
            lambda: resume(path, wider, build_optimizer(wider, Layout(), CALM), manifest_digest=DIGEST),
            lambda: load_weights(path, wider),
            lambda: read_checkpoint(tmp_path),
        ):
            with pytest.raises(CheckpointError) as fault:
                attempt()
            said.append(str(fault.value))
        [shard, *_] = sorted(path.glob("*.distcp"))
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        with pytest.raises(CheckpointError) as fault:
            resume(path, model, optimizer, manifest_digest=DIGEST)
        return [*said, str(fault.value)]

    [(data, model, weights, nothing, damaged)] = run_layout(Layout(), refused)
    assert "other data" in data
    assert "mlp_hidden 64 where this has 128" in model
    assert "mlp_hidden 64 where this has 128" in weights
    assert "is not a checkpoint" in nothing
    assert "__0_0.distcp is not as it was written; use the checkpoint before it" in damaged


@pytest.mark.parametrize("layout", [Layout(), Layout(tensor_parallel=2)], ids=str)
def test_tokens_added_since_begin_as_the_mean_of_those_that_were_trained(
    run_layout: Callable[..., list[Any]], tmp_path: Path, layout: Layout
):
    old = small(510)
    new = old.with_vocabulary(515, added=range(510, 515))
    assert (old.padded_vocabulary_size, new.padded_vocabulary_size) == (512, 640)

    def save(place: Place) -> tuple[torch.Tensor, torch.Tensor]:
        model = build_model(old, Layout())
        save_checkpoint(tmp_path, Checkpoint(old), model, keep=1)
        return model.embedding.word_embeddings.weight.detach(), logits(model, BATCHES[0][0]).detach()

    def load(place: Place) -> tuple[torch.Tensor, torch.Tensor]:
        model = build_model(new, layout)
        load_weights(tmp_path / "step-00000000", model)
        return model.embedding.word_embeddings.weight.detach(), logits(model, BATCHES[0][0]).detach()

    [(table, scores)] = run_layout(Layout(), save)
    loaded = run_layout(layout, load)
    grown = torch.cat([rows for rows, _ in loaded])
    assert torch.equal(grown[:510], table[:510])
    assert torch.allclose(grown[510:515], table[:510].mean(dim=0).expand(5, -1), atol=1e-7)
    assert not grown[515:].any()
    assert torch.allclose(loaded[0][1][..., :510], scores[..., :510], atol=1e-5)
    assert torch.allclose(loaded[0][1][..., 510:515].mean(-1), scores[..., :510].mean(-1), atol=1e-5)


def test_a_disk_that_is_full_is_a_sentence_and_leaves_nothing(run_layout: Callable[..., list[Any]], tmp_path: Path):
    def attempt(place: Place) -> list[str]:
        said = []
        for number, size in enumerate((100_000, 700_000)):
            disk = tmp_path / str(number)
            disk.mkdir()
            with small_disk(disk, size):
                model, optimizer = made(Layout())
                with pytest.raises(StoreError) as fault:
                    save_checkpoint(disk, Checkpoint(small(), step=3), model, optimizer, keep=2)
                said.append(str(fault.value))
                assert not list(disk.iterdir())
        return said

    try:
        [said] = run_layout(Layout(), attempt)
    except PermissionError:
        pytest.skip("this machine lets nobody mount a small disk")
    for sentence in said:
        assert "there is no room left on its disk for the checkpoint step-00000003; nothing is left of it" in sentence


class Appends:
    """A pickle of it appends a line to a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.file, "ran")


def test_a_checkpoint_from_elsewhere_runs_nothing_when_it_is_read(run_layout: Callable[..., list[Any]], tmp_path: Path):
    run_layout(Layout(), train_and_save(Layout(), tmp_path))
    path, trace = tmp_path / "step-00000003", tmp_path / "ran"
    metadata = pickle.loads((path / ".metadata").read_bytes())
    metadata.storage_meta = Appends(trace)
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    pickle.loads((path / ".metadata").read_bytes())
    assert trace.read_text() == "ran"
    trace.unlink()
    described = json.loads((path / "checkpoint.json").read_text())
    described["files"][".metadata"] = file_digest(path / ".metadata")
    (path / "checkpoint.json").write_text(json.dumps(described))

    def refused(place: Place) -> list[str]:
        said = []
        model, optimizer = made(Layout())
        for attempt in (
            lambda: load_weights(path, model),
            lambda: resume(path, model, optimizer, manifest_digest=DIGEST),
            lambda: read_weights(path, hollow_model(small(), torch.float32)),
        ):
            with pytest.raises(CheckpointError) as fault:
                attempt()
            said.append(str(fault.value))
        # Whoever comes by that look runs nothing either.
        with reading_data_alone(), pytest.raises(BaseException, match=r"pathlib\.Path\.write_text|pathlib\."):
            dist_checkpointing.load({"weight": model.sharded_state_dict()}, str(path))
        return said

    [said] = run_layout(Layout(), refused)
    assert not trace.exists()
    assert len(set(said)) == 1
    assert "it would call pathlib." in said[0]
    assert "which no trainer writes; nothing was called" in said[0]


def test_numbers_from_elsewhere_run_nothing_and_are_refused_by_name(
    run_layout: Callable[..., list[Any]], tmp_path: Path
):
    run_layout(Layout(), train_and_save(Layout(), tmp_path))
    path, trace = tmp_path / "step-00000003", tmp_path / "ran"
    torch.save(Appends(trace), path / "common.pt")
    described = json.loads((path / "checkpoint.json").read_text())
    described["files"]["common.pt"] = file_digest(path / "common.pt")
    (path / "checkpoint.json").write_text(json.dumps(described))

    def refused(place: Place) -> list[str]:
        model, optimizer = made(Layout())
        said = []
        for attempt in (
            lambda: load_weights(path, model),
            lambda: resume(path, model, optimizer, manifest_digest=DIGEST),
        ):
            with pytest.raises(CheckpointError) as fault:
                attempt()
            said.append(str(fault.value))
        return said

    [said] = run_layout(Layout(), refused)
    assert not trace.exists()
    assert all("it would call " in sentence and "nothing was called" in sentence for sentence in said)
