"""`deterministic`: a training gives the same bits again, and what cannot is refused by name."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orca_recipes.errors import TrainingError
from orca_recipes.train.processes.determinism import deterministic
from orca_recipes.train.processes.rank import train_as_rank
from orca_recipes.train.training_settings import Request


def test_two_runs_have_the_same_checkpoint_to_the_bit(sums_build: Path, tmp_path: Path, fork_ranks: Callable[..., Any]):
    def train(rendezvous: str) -> None:
        for name in ("one", "other"):
            training = {"deterministic": True, "batch_rows": 4, "keep_checkpoints": 1}
            asked = Request(build=sums_build, out=tmp_path / name, steps=2, training=training)
            train_as_rank(asked, rendezvous=f"{rendezvous}-{name}")

    fork_ranks(1, train)
    one, other = (
        {
            path.relative_to(tmp_path / name).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / name / "checkpoints").rglob("*.distcp")
        }
        for name in ("one", "other")
    )
    assert one
    assert one == other


def test_what_has_no_such_algorithm_is_named():
    refused = "scatter_add_cuda_kernel does not have a deterministic implementation, but you set"

    def compute(*, asked: bool) -> None:
        with deterministic(asked=asked):
            assert torch.are_deterministic_algorithms_enabled() is asked
            raise RuntimeError(refused)

    with pytest.raises(
        TrainingError, match=r"^deterministic: scatter_add_cuda_kernel gives no two times the same bits"
    ):
        compute(asked=True)
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match=refused):
        compute(asked=False)
