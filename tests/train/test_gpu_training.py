"""A training on a device whose memory numpy cannot read: a real build, the real loop, a CPU that pretends."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from orca_recipes.shards.manifest import read_manifest
from orca_recipes.train import journal
from orca_recipes.train.data.batches import read_batch
from orca_recipes.train.data.order import RowPlace
from orca_recipes.train.data.rows import Rows
from orca_recipes.train.hf.configuration import architecture_from_hf
from orca_recipes.train.journal import read_log
from orca_recipes.train.model import network
from orca_recipes.train.model.network import build_model
from orca_recipes.train.processes.parallel_layout import Layout, running
from orca_recipes.train.processes.rank import train_as_rank
from orca_recipes.train.training_settings import Request
from orca_recipes.train.transfer import sent
from tests.train import pretended_gpu
from tests.train.builds import make_build, read_steps
from tests.train.pretended_gpu import OnGpu, Pinned, a_pretended_gpu
from tests.train.random_models import saved_configuration
from tests.train.rows import packed

Fork = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of which one dataset is for validation."""
    curriculum = '[[curriculum]]\ndataset = "sums"\nepochs = 2\n'
    return make_build(tmp_path_factory.mktemp("held out") / "project", curriculum, sums=40, odds=20)


def train(fork_ranks: Fork, request: Request) -> None:
    def on_a_gpu(rendezvous: str) -> None:
        with a_pretended_gpu():
            train_as_rank(request, rendezvous=rendezvous)

    fork_ranks(1, on_a_gpu if request.device == "cuda" else lambda rendezvous: train_as_rank(request))


def losses(run: Path) -> list[float]:
    return [line.get("loss", line.get("validation_loss")) for line in read_log(run / "log.jsonl")]


@pytest.mark.slow
def test_a_training_on_a_gpu_has_the_losses_of_one_on_a_cpu(held_out: Path, tmp_path: Path, fork_ranks: Fork):
    settings = {
        "batch_rows": 8,
        "micro_batch_rows": 3,
        "learning_rate": 1e-3,
        "validation": "odds",
        "validate_every": 2,
    }
    asked = Request(build=held_out, out=tmp_path / "cpu", device="cpu", training=settings)
    train(fork_ranks, asked)
    # Checkpoints are copied from the device, and written while the training goes on.
    behind = {**settings, "checkpoint_every": 2, "async_checkpoints": True}
    on_a_gpu = replace(asked, out=tmp_path / "gpu", device="cuda", training=behind)
    train(fork_ranks, replace(on_a_gpu, steps=3))
    train(fork_ranks, on_a_gpu)
    expected = losses(tmp_path / "cpu")
    assert len(expected) > len(read_steps(tmp_path / "cpu"))
    # Weights are bfloat16 there and float32 here.
    assert losses(tmp_path / "gpu") == pytest.approx(expected, rel=0.02)


def test_a_host_waits_for_its_gpu_once_a_step(
    held_out: Path, tmp_path: Path, fork_ranks: Fork, monkeypatch: pytest.MonkeyPatch
):
    settings = {"batch_rows": 8, "micro_batch_rows": 3, "loss_normalization": "example", "checkpoint_every": 99}
    asked = Request(build=held_out, out=tmp_path / "run", device="cuda", training=settings)
    step, waited = journal.RunJournal.step, list[int]()

    def counting(self: Any, told: journal.Step, glance: journal.Glance) -> None:
        waited.append(len(pretended_gpu.halts))
        step(self, told, glance)

    def on_a_gpu(rendezvous: str) -> list[int]:
        with a_pretended_gpu():
            train_as_rank(asked, rendezvous=rendezvous)
        return waited

    monkeypatch.setattr(journal.RunJournal, "step", counting)
    [counts] = fork_ranks(1, on_a_gpu)
    # In the first step the model sends a table of its own.
    assert len(counts) > 3
    assert set(np.diff(counts)) == {1}


@pytest.mark.parametrize("family", ["gemma3_text", "granite", "olmo2", "smollm3"])
def test_a_host_waits_for_its_gpu_in_no_part_of_a_model(fork_ranks: Fork, family: str):
    layout = Layout(device="cuda")
    config = saved_configuration(family, 1)

    def on_a_gpu(rendezvous: str) -> list[str]:
        with a_pretended_gpu(), running(layout, seed=1, rendezvous=rendezvous):
            model = build_model(architecture_from_hf(config, family), layout)
            batch = packed([64], [64], vocabulary=500).to("cuda")
            for _ in range(2):
                begun = len(pretended_gpu.halts)
                network.losses(model, batch).sum().backward()
        return pretended_gpu.halts[begun:]

    assert fork_ranks(1, on_a_gpu) == [[]]


def test_the_bounds_of_rows_stay_on_the_host_and_the_rest_goes_to_the_device(held_out: Path):
    rows = Rows(held_out, read_manifest(held_out))
    batch = read_batch(rows, [RowPlace("sums", 0, 0), RowPlace("sums", 1, 0)], 3)
    with a_pretended_gpu() as device:
        there = batch.to(device)
        tensors = [there.tokens_BT, there.labels_BT, there.loss_mask_BT]
        assert all(isinstance(tensor, OnGpu) for tensor in tensors)
        for tensor in tensors:
            with pytest.raises(TypeError, match="can't convert cuda:0"):
                np.asarray(tensor)
        assert [bounds.tolist() for bounds in there.cu_seqlens] == [bounds.tolist() for bounds in batch.cu_seqlens]
    assert all(type(bounds) is np.ndarray for bounds in there.cu_seqlens)


class Counting(TorchFunctionMode):
    """Counts what is pinned, and what is sent without waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned, self.sent = 0, 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.pinned += function is torch.Tensor.pin_memory
        self.sent += function is torch.Tensor.to and isinstance(args[0], Pinned) and bool(kwargs["non_blocking"])
        return function(*args, **(kwargs or {}))


def test_batches_go_to_a_gpu_from_pinned_memory_and_nobody_waits(held_out: Path):
    rows = Rows(held_out, read_manifest(held_out))
    batch = read_batch(rows, [RowPlace("sums", 0, 0)], 1)
    with a_pretended_gpu() as device, Counting() as counting:
        batch.to(device)
        sent(batch.weights_BT("example"), device)
    assert counting.pinned == counting.sent == 5
    with Counting() as counting:
        batch.to(torch.device("cpu"))
    assert counting.pinned == 0
