"""The trainer on the newest megatron-core that it takes, beside the one that is installed.

The newest declares a newer Python than ours may be, and its code does not need it: its wheel is unpacked and stands
before the installed one on the path of processes of their own. `ORCA_MEGATRON=0.18.0` tries another version.
"""

import importlib.util
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orca_recipes.train import megatron_versions
from orca_recipes.train.megatron_versions import reporting_to_this_process, standing_in_for_cuda
from orca_recipes.train.options import words_of
from orca_recipes.train.processes.rank import train_as_rank
from orca_recipes.train.training_settings import Request
from tests.train.builds import HOME, read_steps

VERSION = os.environ.get("ORCA_MEGATRON", "0.19.2")

QUICK = ["test_network.py"]
ESSENTIAL = [
    "test_sample.py::test_logits_and_answers_of_every_family_are_those_without_a_cache",
    "test_optimizer.py",
    "test_checkpoint.py::test_a_resumed_run_goes_on_as_if_nothing_had_happened_at_any_layout",
    "test_checkpoint.py::test_a_checkpoint_of_another_model_other_data_or_damaged_is_refused",
    "test_background.py::test_a_checkpoint_in_the_background_is_that_of_its_step_to_the_byte",
    "test_background.py::test_a_checkpoint_is_not_there_before_all_of_it_is_written",
    "test_background.py::test_a_writer_that_is_killed_is_a_sentence_and_leaves_nothing",
    "test_gpu_optimizer.py",
]
"""With the quick ones, what megatron-core computes and writes for us; what is done around it is the same on every
version."""

# A large epsilon keeps AdamW from turning rounding of tiny gradients into steps of full size.
CALM = {"epsilon": 1e-3, "learning_rate": 1e-3, "batch_rows": 8}


FORKED = """
import os, sys
import torch.utils.tensorboard
import orca_recipes.train.processes.rank
from orca_recipes.train.__main__ import main
for words in {words!r}:
    if not os.fork():
        sys.argv = words
        main()
    assert os.wait()[1] == 0
"""
"""Trainings one after the other, which share the imports of one process."""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the other version, unpacked."""
    folder = tmp_path_factory.mktemp("megatron")
    asked = f"megatron-core=={VERSION}"
    options = ["-q", "--no-deps", "--ignore-requires-python", "--disable-pip-version-check", "-d", str(folder)]
    told = subprocess.run([sys.executable, "-m", "pip", "download", *options, asked], capture_output=True, text=True)
    if told.returncode:
        pytest.skip(f"pip could not fetch {asked}: {told.stderr.strip().splitlines()[-1]}")
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "unpacked")
    return folder / "unpacked"


def run(*words: str, megatron: Path | None = None) -> str:
    """What `python WORDS` prints, with another megatron-core where one is named."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=HOME,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "" if megatron is None else str(megatron)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_newest_version_is_within_the_declared_cap():
    extras = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    wanted = {one for extra in extras.values() for one in extra if one.startswith("megatron-core")}
    assert wanted == {"megatron-core>=0.16,<0.20"}


@pytest.mark.parametrize("names", [QUICK, pytest.param(ESSENTIAL, marks=pytest.mark.slow)], ids=["quick", "others"])
def test_the_essential_tests_of_the_trainer_pass_on_the_newest_version(other: Path, names: list[str]):
    options = ["-q", "-x", "-p", "no:cacheprovider", "-o", "addopts=", "--import-mode=importlib", "--all"]
    tests = [f"tests/train/{name}" for name in names]
    # One process says what it has imported and runs them: each import takes as long as many a test.
    called = (
        "import sys, orca_recipes.train, megatron.core, pytest\n"
        "print(megatron.core.__version__)\n"
        f"sys.exit(pytest.main({[*options, *tests]!r}))"
    )
    told = run("-W", "ignore", "-c", called, megatron=other)
    assert told.split()[0] == VERSION
    assert "passed" in told


@pytest.mark.slow
def test_what_one_version_began_another_goes_on_with_and_back(
    other: Path, sums_build: Path, tmp_path: Path, fork_ranks: Callable[..., list[Any]]
):
    def asked(name: str, steps: int) -> Request:
        return Request(build=sums_build, out=tmp_path / name, device="cpu", steps=steps, training=CALM)

    def train(name: str, steps: int) -> None:
        fork_ranks(1, lambda rendezvous: train_as_rank(asked(name, steps), rendezvous=rendezvous))

    def train_on_the_newest(*runs: tuple[str, int]) -> None:
        words = [["train", *words_of(asked(name, steps))] for name, steps in runs]
        run("-W", "ignore", "-c", FORKED.format(words=words), megatron=other)

    train("there and back", 2)
    train_on_the_newest(("there and back", 4), ("back and there", 2))
    train("there and back", 6)
    train("back and there", 4)
    train("same", 6)
    expected = [step["loss"] for step in read_steps(tmp_path / "same")]
    for name in ("there and back", "back and there"):
        losses = [step["loss"] for step in read_steps(tmp_path / name)]
        assert losses == pytest.approx(expected[: len(losses)], abs=1e-5)
        assert len(losses) >= 4


@pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="triton is installed")
@pytest.mark.parametrize("name", megatron_versions._OF_TRITON)
def test_what_needs_triton_says_so_when_it_is_called(name: str):
    kernels = sys.modules[name]
    assert not hasattr(kernels, "__wrapped__")
    with pytest.raises(ModuleNotFoundError, match="paged_stash_reset needs triton: pip install triton"):
        kernels.paged_stash_reset()


def test_names_of_cuda_are_put_back(fork_ranks: Callable[..., list[Any]]):
    def look(rendezvous: str) -> bool:
        from megatron.core.dist_checkpointing.strategies import filesystem_async

        before = torch.cuda.current_device, torch.cuda.current_stream, filesystem_async._process_memory
        with standing_in_for_cuda(), reporting_to_this_process():
            assert torch.cuda.current_device() == torch.device("cpu")
            torch.cuda.current_stream().wait_stream(None)
            assert filesystem_async._process_memory() == 0
        return before == (torch.cuda.current_device, torch.cuda.current_stream, filesystem_async._process_memory)

    assert fork_ranks(1, look) == [True]
