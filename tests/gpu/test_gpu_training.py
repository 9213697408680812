"""The command `train` on a real build, on a real GPU."""

from pathlib import Path

import pytest
import torch

from orca_recipes.train.checkpoints.description import newest_checkpoint
from orca_recipes.train.journal import read_log
from tests.train.builds import make_build, read_steps, run_command

CURRICULUM = """
[[curriculum]]
dataset = "sums"
epochs = 4

[model]
config = "tiny"

[training]
batch_rows = 8
micro_batch_rows = 3
learning_rate = 1e-3
schedule = "constant"
checkpoint_every = 2
validation = "odds"
validate_every = 2
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    return make_build(tmp_path_factory.mktemp("gpu") / "project", CURRICULUM, sums=60, odds=20)


def test_a_training_on_a_gpu_has_the_losses_of_one_on_a_cpu(build: Path, tmp_path: Path):
    for device in ("cpu", "cuda"):
        words = ("train", str(build), "--device", device, "--data-parallel", "1", "--out", device)
        run_command(*words, folder=tmp_path)
    on_cpu, on_gpu = (read_log(tmp_path / device / "log.jsonl") for device in ("cpu", "cuda"))
    assert len(on_cpu) == len(on_gpu) > len(read_steps(tmp_path / "cpu"))
    for mine, other in zip(on_cpu, on_gpu, strict=True):
        assert mine["target_tokens"] == other["target_tokens"]
        name = "loss" if "loss" in mine else "validation_loss"
        # Weights are bfloat16 there and float32 here.
        assert other[name] == pytest.approx(mine[name], rel=0.05)


def test_a_training_on_a_gpu_goes_on_where_it_was_stopped(build: Path, tmp_path: Path):
    words = ("train", str(build), "--device", "cuda", "--data-parallel", "1", "--out")
    run_command(*words, "whole", folder=tmp_path)
    run_command(*words, "halves", "--steps", "3", folder=tmp_path)
    run_command(*words, "halves", folder=tmp_path)
    whole, halves = ([step["loss"] for step in read_steps(tmp_path / run)] for run in ("whole", "halves"))
    assert halves == pytest.approx(whole, rel=0.01)
    assert newest_checkpoint(tmp_path / "halves" / "checkpoints") is not None
