"""What cannot be trained is said in one sentence, before any process group starts, by rank 0 alone."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orca_recipes.errors import (
    BuildError,
    CheckpointError,
    DamagedShard,
    LayoutError,
    ModelError,
    OrcaError,
    TemplateError,
    TrainingError,
)
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.train import start
from orca_recipes.train.checkpoints.description import NAME, read_checkpoint
from orca_recipes.train.data.examine import examine
from orca_recipes.train.data.vocabulary import tokens_of
from orca_recipes.train.hf.model_folder import read_config
from orca_recipes.train.processes import rank
from orca_recipes.train.processes.rank import prepare, train_as_rank
from orca_recipes.train.sample import Asked
from orca_recipes.train.training_settings import Request

CONFIG = """{
 "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 64,
 "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": %d,
 "max_position_embeddings": %d, "rms_norm_eps": 1e-5, "hidden_act": "silu"
}"""


@pytest.fixture
def copy(sums_build: Path, tmp_path: Path) -> Path:
    """The build, for a test to damage."""
    return Path(shutil.copytree(sums_build, tmp_path / "copy"))


def refusal(request: Request, ranks: int = 1) -> str:
    with pytest.raises(OrcaError) as caught:
        prepare(request, ranks)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return f"{type(caught.value).__name__}: {sentence}"


def test_a_folder_without_a_manifest_is_no_build(tmp_path: Path):
    assert refusal(Request(build=tmp_path)).startswith(f"{BuildError.__name__}: {tmp_path} is not a complete build")


def test_a_manifest_without_shards_is_refused(sums_build: Path):
    manifest = read_manifest(sums_build)
    datasets = {name: counts.model_copy(update={"shards": ()}) for name, counts in manifest.datasets.items()}
    with pytest.raises(BuildError, match=r"dataset odds has no shards; build it again"):
        examine(sums_build, manifest.model_copy(update={"datasets": datasets}), whole=False)


def test_a_shard_that_is_gone_is_named(copy: Path):
    (copy / "sums" / "00000.bin").unlink()
    with pytest.raises(DamagedShard, match=r"sums/00000.bin: the manifest promises this file, and there is none"):
        examine(copy, read_manifest(copy), whole=False)


def test_an_index_that_was_changed_is_found_by_its_digest(copy: Path):
    index = copy / "sums" / "00000.idx"
    data = bytearray(index.read_bytes())
    data[-1] ^= 1
    index.write_bytes(data)
    with pytest.raises(DamagedShard, match=r"sums/00000.idx: it was changed after the build"):
        examine(copy, read_manifest(copy), whole=False)


def test_tokens_that_were_changed_are_found_with_verify(copy: Path):
    tokens = copy / "sums" / "00000.bin"
    data = bytearray(tokens.read_bytes())
    data[0] ^= 1
    tokens.write_bytes(data)
    examine(copy, read_manifest(copy), whole=False)
    with pytest.raises(DamagedShard, match=r"sums/00000.bin: it was changed after the build"):
        examine(copy, read_manifest(copy), whole=True)


def test_a_model_with_too_few_positions_is_refused(sums_build: Path, tmp_path: Path):
    config = tmp_path / "config.json"
    config.write_text(CONFIG % (5000, 16))
    told = refusal(Request(build=sums_build, model=str(config)))
    assert told.startswith(ModelError.__name__)
    assert "tokens, and the model has positions for 16; build with a smaller row_tokens" in told


def test_a_vocabulary_larger_than_the_embedding_is_refused(sums_build: Path, tmp_path: Path):
    config = tmp_path / "config.json"
    config.write_text(CONFIG % (100, 512))
    told = refusal(Request(build=sums_build, model=str(config)))
    assert told.startswith(ModelError.__name__)
    assert "is larger than the model's embedding of 100" in told


@pytest.mark.parametrize(
    ("asked", "ranks", "sentence"),
    [
        ({"tensor_parallel": 3}, 3, "tensor parallel 3 does not divide"),
        ({"tensor_parallel": 2}, 3, "tensor parallel 2 do not make the 3 ranks that were started"),
        ({"data_parallel": 3}, 2, "data parallel 3 do not make the 2 ranks that were started"),
        ({"device": "cuda"}, 1, "--device cuda: this machine has no GPU"),
        ({"sequence_parallel": True}, 1, "sequence parallel"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(
    sums_build: Path, asked: dict[str, Any], ranks: int, sentence: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    told = refusal(Request(build=sums_build, **asked), ranks)
    assert told.startswith(LayoutError.__name__)
    assert sentence in told


def test_a_model_that_is_nowhere_is_refused(sums_build: Path):
    assert "there is no such file or folder" in refusal(Request(build=sums_build, model="models/llama"))
    assert "there is no architecture 'tinny': choose tiny" in refusal(Request(build=sums_build, model="tinny"))


@pytest.fixture(scope="module")
def run(sums_build: Path, tmp_path_factory: pytest.TempPathFactory, fork_from_here: Callable[..., Any]) -> Request:
    """A run of one step."""
    asked = Request(build=sums_build, out=tmp_path_factory.mktemp("run") / "run", steps=1)
    fork_from_here(1, lambda rendezvous: train_as_rank(asked, rendezvous=rendezvous))
    return asked


def test_a_run_of_another_model_is_not_gone_on_with(run: Request):
    told = refusal(replace(run, model="small"))
    assert told.startswith(CheckpointError.__name__)
    assert "is of another model than small (layers 4 where it has 12" in told
    assert "leave --model out to go on" in told


def test_a_run_of_another_build_is_not_gone_on_with(run: Request, monkeypatch: pytest.MonkeyPatch):
    known = start.read_checkpoint
    monkeypatch.setattr(start, "read_checkpoint", lambda place: replace(known(place), manifest_digest="blake2b:0"))
    told = refusal(run)
    assert told.startswith(CheckpointError.__name__)
    assert "was trained on another build (manifest blake2b:0)" in told


@pytest.mark.parametrize("changed", [{"training": {"seed": 2}}, {"first_phase": 2}])
def test_a_run_goes_on_in_the_order_in_which_it_began(run: Request, changed: dict[str, Any]):
    told = refusal(replace(run, **changed))
    assert told.startswith(TrainingError.__name__)
    assert "name another --out, or go on as it began" in told


def test_rank_0_alone_speaks(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a process group was started")

    monkeypatch.setattr(rank, "running", refuse)
    monkeypatch.setenv("WORLD_SIZE", "3")
    asked = Request(build=copy, out=tmp_path / "run", tensor_parallel=2)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(LayoutError):
        train_as_rank(asked)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as silent:
        train_as_rank(asked)
    assert silent.value.code == LayoutError.exit_status
    assert not asked.run.exists()


def test_a_question_never_becomes_a_control_token(run: Request):
    asked = Asked.open(next((run.run / "checkpoints").iterdir()))
    with pytest.raises(TemplateError, match=r"the user message holds the control token <\|im_end\|>"):
        asked.prompt("Hello<|im_end|>", None)
    assert asked.prompt("Hello", "Be kind.") != asked.prompt("Hello", None)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (NAME, read_checkpoint),
        ("config.json", read_config),
        ("tokenizer.json", tokens_of),
        ("tokenizer/generation_config.json", Asked.open),
    ],
)
def test_json_that_is_nested_too_deeply_is_refused_by_the_file_s_name(
    tmp_path: Path, name: str, read: Callable[[Path], object]
):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("[" * 30_000 + "]" * 30_000)
    with pytest.raises(OrcaError, match=name):
        read(tmp_path)
