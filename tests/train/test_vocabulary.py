"""A build's tokens are those of the model that is trained on it, id by id, or the first that differs is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from click.testing import CliRunner

from orca_recipes.cli.main import main
from orca_recipes.errors import ModelError
from orca_recipes.train.checkpoints.description import read_checkpoint
from orca_recipes.train.data.vocabulary import tokens_of, what_is_unknown
from orca_recipes.train.hf.conversion import import_hf
from orca_recipes.train.processes.rank import prepare, train_as_rank
from orca_recipes.train.training_settings import Request
from tests.train.test_conversion import random_llama

Fork = Callable[..., list[Any]]


def vocabulary_of(build: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((build / "tokenizer" / "tokenizer.json").read_bytes())
    return found


def model_with(folder: Path, tokenizer: dict[str, Any] | None, **changes: Any) -> Path:
    """A random model whose tokenizer is this, or that brings none."""
    random_llama(folder, **{"vocab_size": 4096, **changes})
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def swapped(tokenizer: dict[str, Any], one: int, other: int) -> dict[str, Any]:
    """Another tokenizer: two of its tokens stand for one another."""
    table = tokenizer["model"]["vocab"]
    names = {token: text for text, token in table.items()}
    changed = {**table, names[one]: other, names[other]: one}
    return {**tokenizer, "model": {**tokenizer["model"], "vocab": changed}}


def told(build: Path, model: Path) -> str:
    texts = {token: text for text, token in vocabulary_of(build)["model"]["vocab"].items()}
    ours, theirs = (json.dumps(texts[token], ensure_ascii=False) for token in (700, 1200))
    return (
        f"{model}: token 700 is {theirs} to this model and {ours} to {build}, which has another tokenizer; "
        "build with the tokenizer that belongs to this model, or name the model that the build's tokenizer belongs to"
    )


def test_a_model_of_another_tokenizer_is_refused_with_the_first_token_that_differs(sums_build: Path, tmp_path: Path):
    model = model_with(tmp_path / "model", swapped(vocabulary_of(sums_build), 700, 1200))
    with pytest.raises(ModelError) as fault:
        prepare(Request(build=sums_build, out=tmp_path / "run", model=str(model)), 1)
    assert str(fault.value) == told(sums_build, model)


def test_an_import_for_a_build_of_another_tokenizer_is_refused_and_leaves_nothing(sums_build: Path, tmp_path: Path):
    model = model_with(tmp_path / "model", swapped(vocabulary_of(sums_build), 700, 1200))
    done = CliRunner().invoke(main, ["import-hf", str(model), str(tmp_path / "run"), "--build", str(sums_build)])
    assert (done.exit_code, done.stderr) == (2, told(sums_build, model) + "\n")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_tokenizer_is_refused(sums_build: Path, tmp_path: Path, fork_ranks: Fork):
    model = model_with(tmp_path / "model", swapped(vocabulary_of(sums_build), 700, 1200))
    [(checkpoint, _)] = fork_ranks(1, lambda rendezvous: import_hf(model, tmp_path / "imported"))
    with pytest.raises(ModelError) as fault:
        prepare(Request(build=sums_build, out=tmp_path / "run", model=str(checkpoint)), 1)
    assert str(fault.value) == told(sums_build, checkpoint)


def test_a_run_whose_checkpoint_is_of_another_tokenizer_does_not_go_on(
    sums_build: Path, tmp_path: Path, fork_ranks: Fork
):
    asked = Request(build=sums_build, out=tmp_path / "run", steps=1)
    fork_ranks(1, lambda rendezvous: train_as_rank(asked, rendezvous=rendezvous))
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000001"
    other = json.dumps(swapped(vocabulary_of(sums_build), 700, 1200))
    (checkpoint / "tokenizer" / "tokenizer.json").write_text(other)
    with pytest.raises(ModelError, match=r"step-00000001: token 700 is "):
        prepare(Request(build=sums_build, out=tmp_path / "run", steps=2), 1)


def test_tokens_that_a_build_added_are_no_difference(sums_build: Path, tmp_path: Path):
    build = Path(shutil.copytree(sums_build, tmp_path / "build"))
    tokenizer = tokenizers.Tokenizer.from_file(str(build / "tokenizer" / "tokenizer.json"))
    assert tokenizer.add_special_tokens(["<|new|>"]) == 1
    tokenizer.save(str(build / "tokenizer" / "tokenizer.json"))
    plain = vocabulary_of(sums_build)
    # An embedding may have rows beyond the tokenizer: what was added may stand there, or beyond all rows.
    for rows in (4096, 4224):
        model = model_with(tmp_path / f"model-{rows}", plain, vocab_size=rows)
        assert what_is_unknown(model, model, build, known=rows) is None


def test_a_token_that_the_models_tokenizer_has_beyond_its_embedding_is_no_difference(sums_build: Path, tmp_path: Path):
    build = Path(shutil.copytree(sums_build, tmp_path / "build"))
    for place, name in ((build, "<|new|>"), (tmp_path, "[PAD]")):
        tokenizer = tokenizers.Tokenizer.from_file(str(sums_build / "tokenizer" / "tokenizer.json"))
        tokenizer.add_special_tokens([name])
        tokenizer.save(str(place / "tokenizer" / "tokenizer.json" if place == build else place / "tokenizer.json"))
    assert what_is_unknown(tmp_path, tmp_path, build, known=4096) is None
    with pytest.raises(ModelError, match=r'token 4,096 is "\[PAD\]" to this model and "<|new|>" to'):
        what_is_unknown(tmp_path, tmp_path, build, known=4097)


def test_a_token_of_the_build_that_the_model_lacks_is_named(sums_build: Path, tmp_path: Path):
    tokenizer = vocabulary_of(sums_build)
    table = {text: token for text, token in tokenizer["model"]["vocab"].items() if token != 3000}
    model = model_with(tmp_path / "model", {**tokenizer, "model": {**tokenizer["model"], "vocab": table}})
    with pytest.raises(ModelError, match=r"token 3,000 is none to this model and \""):
        what_is_unknown(model, model, sums_build, known=4096)


def test_what_brings_no_tokenizer_is_trained_and_what_is_not_known_is_said(
    sums_build: Path, tmp_path: Path, fork_ranks: Fork, capfd: pytest.CaptureFixture[str]
):
    model = model_with(tmp_path / "model", None)
    unknown = f"brings no tokenizer: whether its tokens are those of {sums_build} is not known"
    said: list[str] = []
    [sentences] = fork_ranks(
        1, lambda rendezvous: (import_hf(model, tmp_path / "imported", build=sums_build, say=said.append), said)[1]
    )
    assert sentences == [f"{model} {unknown}"]
    checkpoint = tmp_path / "imported" / "step-00000000"
    assert not read_checkpoint(checkpoint).tokenizer_is_known
    for start, sentence in (
        (model, f"{model} {unknown}"),
        (checkpoint, f"{checkpoint} is of a model that brought no tokenizer: whether its tokens"),
    ):
        asked = Request(build=sums_build, out=tmp_path / f"run-{start.name}", model=str(start), steps=1)
        fork_ranks(1, lambda rendezvous, asked=asked: train_as_rank(asked, rendezvous=rendezvous))
        lines = capfd.readouterr().out.splitlines()
        told = [number for number, line in enumerate(lines) if line.startswith(sentence)]
        step = [number for number, line in enumerate(lines) if line.startswith("step 1/1")]
        assert len(told) == len(step) == 1
        assert told < step


def test_older_models_tokenizers_are_read_too(sums_build: Path, tmp_path: Path):
    table = vocabulary_of(sums_build)["model"]
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(table["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in table["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    found = tokens_of(folder)
    assert found is not None
    assert what_is_unknown(folder, folder, sums_build, known=4096) is None


def test_pieces_of_a_unigram_vocabulary_are_counted_from_zero(tmp_path: Path):
    pieces = [["<unk>", 0.0], ["▁a", -1.0], ["b", -2.0]]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram", "vocab": pieces}}))
    found = tokens_of(tmp_path)
    assert found is not None
    assert dict(found.by_id) == {0: "<unk>", 1: "▁a", 2: "b"}


def test_a_tokenizer_that_cannot_be_read_is_said_to_be_unknown(sums_build: Path, tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{}")
    said = what_is_unknown(tmp_path, tmp_path, sums_build, known=4096)
    assert said is not None
    assert said.startswith(f"{tmp_path / 'tokenizer.json'} cannot be read as a tokenizer")
