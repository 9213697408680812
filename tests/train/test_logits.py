"""Logits for whoever compares: those of transformers, at every tensor parallel size."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from orca_recipes.errors import ModelError
from orca_recipes.train.checkpoints.description import newest_checkpoint, read_checkpoint
from orca_recipes.train.logits import read_ids
from tests.train.builds import run_command

VOCABULARY = 261


def logits(*words: str, folder: Path, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "orca_recipes.train.logits", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of transformers in `hf`, and what was imported of it in `run`."""
    folder = tmp_path_factory.mktemp("imported")
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=VOCABULARY, max_position_embeddings=64)
    LlamaForCausalLM(config).save_pretrained(folder / "hf")
    run_command("import-hf", "hf", "run", folder=folder)
    return folder


@pytest.mark.parametrize("size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_logits_are_those_of_transformers(imported: Path, tmp_path: Path, size: int):
    ids = np.random.default_rng(3).integers(0, VOCABULARY, size=(3, 17))
    np.save(tmp_path / "ids.npy", ids)
    words = ["--ids", "ids.npy", "--out", "l.npy", "--tensor-parallel", str(size)]
    told = logits(str(imported / "run"), *words, folder=tmp_path)
    assert told.splitlines()[-1].startswith(f"l.npy: logits [3, 17, {VOCABULARY}]")
    found = np.load(tmp_path / "l.npy")
    with torch.no_grad():
        expected = LlamaForCausalLM.from_pretrained(imported / "hf")(torch.from_numpy(ids)).logits.numpy()
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    assert {path.name for path in tmp_path.iterdir()} == {"ids.npy", "l.npy"}


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (np.array([[1, VOCABULARY]]), "261 is no token of the model, which has 261"),
        (np.array([[-1, 2]]), "-1 is no token of the model"),
        (np.zeros((1, 65), dtype=np.int64), "its rows have 65 tokens, and the model has positions for 64"),
        (np.zeros((1, 4)), "it holds no integers"),
    ],
)
def test_what_is_no_text_of_the_model_is_refused(imported: Path, tmp_path: Path, ids: np.ndarray, sentence: str):
    np.save(tmp_path / "ids.npy", ids)
    checkpoint = newest_checkpoint(imported / "run")
    assert checkpoint is not None
    with pytest.raises(ModelError, match=sentence):
        read_ids(tmp_path / "ids.npy", read_checkpoint(checkpoint).architecture)


@pytest.mark.slow
def test_a_size_that_does_not_divide_the_model_is_refused_before_a_rank_starts(imported: Path, tmp_path: Path):
    np.save(tmp_path / "ids.npy", np.array([[1, 2]]))
    words = ["--ids", "ids.npy", "--out", "l.npy", "--tensor-parallel", "3"]
    told = logits(str(imported / "run"), *words, folder=tmp_path, status=2)
    assert told.startswith("tensor parallel 3 does not divide the 4 attention heads")
    assert not (tmp_path / "l.npy").exists()
