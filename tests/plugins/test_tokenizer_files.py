"""Where a tokenizer comes from, and what is shipped of it."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import AutoTokenizer

from orca_plugins.tokenizers.hf.hf_encoder import HFEncoder
from orca_plugins.tokenizers.hf.kind import HF
from orca_recipes.errors import TokenizerError

SENTENCES = [
    f"The {noun} number {n} runs  past the old {noun} at {n * 37}." for n in range(200) for noun in ("fox", "mill")
]


def shipped(kind: HF, folder: Path) -> HFEncoder:
    folder.mkdir(exist_ok=True)
    kind.materialize(files=kind.files(), folder=folder)
    return kind.open(folder=folder)


def encoded(encoder: HFEncoder, texts: Sequence[str], *, exact: bool = False) -> list[list[int]]:
    column = pa.array(texts, type=pa.large_string())
    ids, offsets = encoder.encode(texts=column, opens=True, exact=exact)
    return [part.tolist() for part in np.split(ids, offsets[1:-1])]


@pytest.fixture(scope="session")
def llama(shared: Path) -> Path:
    return shared / "data/tokenizer"


@pytest.fixture
def folder(llama: Path, tmp_path: Path) -> Path:
    """A folder with the shared tokenizer.json, to put files beside it."""
    place = tmp_path / "source"
    place.mkdir()
    (place / "tokenizer.json").write_bytes((llama / "tokenizer.json").read_bytes())
    return place


def trained(**options: Any) -> bytes:
    model = io.BytesIO()
    plain: dict[str, Any] = {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"}
    plain |= {"vocab_size": 600, "remove_extra_whitespaces": False, "minloglevel": 2} | options
    SentencePieceTrainer.train(sentence_iterator=iter(SENTENCES), model_writer=model, **plain)
    return model.getvalue()


def test_what_is_shipped_is_opened_by_transformers_with_the_same_ids(llama: Path, tmp_path: Path) -> None:
    encoder = shipped(HF(path=llama, add_special_tokens=("<|im_start|>", "[[PAD]]"), pad="[[PAD]]"), tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(theirs) == encoder.vocabulary.size == 32002
    assert encoder.vocabulary.control["<|im_start|>"] == 32000
    assert (theirs.bos_token, theirs.eos_token, theirs.pad_token) == ("<s>", "</s>", "[[PAD]]")
    vocabulary = encoder.vocabulary
    assert (vocabulary.bos, vocabulary.eos, vocabulary.pad) == ("<s>", "</s>", "[[PAD]]")
    texts = ["Hello", " two  spaces", "naïve\n\n中"]
    assert encoded(encoder, texts) == [theirs(text, add_special_tokens=False).input_ids for text in texts]


def test_what_is_shipped_is_the_same_from_a_file_and_a_folder(llama: Path, tmp_path: Path) -> None:
    for name, path in (("a", llama), ("b", llama / "tokenizer.json")):
        shipped(HF(path=path, add_special_tokens=("<x>",)), tmp_path / name)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_what_is_shipped_is_shipped_again_unchanged(llama: Path, tmp_path: Path) -> None:
    shipped(HF(path=llama, add_special_tokens=("<x>",)), tmp_path / "once")
    shipped(HF(path=tmp_path / "once"), tmp_path / "twice")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "once" / file).read_bytes() == (tmp_path / "twice" / file).read_bytes()


def test_a_folder_is_read_by_its_tokenizer_json_and_its_settings(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"0")
    (folder / "tokenizer.model").write_bytes(b"not looked at")
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    assert [file.name for file in HF(path=folder).files()] == ["tokenizer.json", "tokenizer_config.json"]


def test_named_tokens_and_template_come_from_the_settings(folder: Path, tmp_path: Path) -> None:
    config = {
        "eos_token": {"content": "<|end|>", "special": True},
        "chat_template": [{"name": "default", "template": "old"}],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    special = {"eos_token": "</s>", "pad_token": "<pad>", "additional_special_tokens": ["<|user|>"]}
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    (folder / "chat_template.jinja").write_text("{{ new }}", encoding="utf-8")
    vocabulary = shipped(HF(path=folder), tmp_path / "out").vocabulary
    assert (vocabulary.bos, vocabulary.eos, vocabulary.pad) == (None, "<|end|>", "<pad>")
    assert {"<|end|>", "<pad>", "<|user|>"} <= set(vocabulary.control)
    assert vocabulary.chat_template == "{{ new }}"
    assert vocabulary.size == 32003


def test_a_named_token_that_was_an_ordinary_one_becomes_a_control_token(folder: Path, tmp_path: Path) -> None:
    config = {
        "eos_token": "<turn>",
        "added_tokens_decoder": {"32000": {"content": "<turn>", "special": False, "rstrip": True}},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    vocabulary = shipped(HF(path=folder), tmp_path / "out").vocabulary
    assert vocabulary.control["<turn>"] == 32000
    assert vocabulary.eats_space == {"<turn>"}
    assert not vocabulary.other_added


def test_a_recipe_names_the_tokens_that_the_files_do_not(folder: Path, tmp_path: Path) -> None:
    vocabulary = shipped(HF(path=folder, bos="</s>", eos="<s>"), tmp_path / "out").vocabulary
    assert (vocabulary.bos, vocabulary.eos) == ("</s>", "<s>")
    with pytest.raises(TokenizerError, match=r"tokenizer\.pad: \[PAD\] is no control token.*add_special_tokens"):
        shipped(HF(path=folder, pad="[PAD]"), tmp_path / "out")


def test_ends_are_guessed_only_where_one_name_is_there(folder: Path, tmp_path: Path) -> None:
    vocabulary = shipped(HF(path=folder, add_special_tokens=("<|endoftext|>",)), tmp_path / "a").vocabulary
    assert vocabulary.eos == "</s>"
    table = json.loads((folder / "tokenizer.json").read_bytes())
    table["added_tokens"].append({**table["added_tokens"][0], "id": 32000, "content": "<|endoftext|>"})
    (folder / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")
    vocabulary = shipped(HF(path=folder), tmp_path / "b").vocabulary
    assert (vocabulary.bos, vocabulary.eos) == ("<s>", None)


def test_two_ids_for_one_token_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "added_tokens.json").write_text('{"<x>": 32005}', encoding="utf-8")
    with pytest.raises(TokenizerError, match="<x> two ids, 32005 and 32000"):
        shipped(HF(path=folder), tmp_path / "out")


def test_ids_that_the_library_would_number_anew_are_refused(folder: Path, tmp_path: Path) -> None:
    table = json.loads((folder / "tokenizer.json").read_bytes())
    table["added_tokens"].append({**table["added_tokens"][0], "id": 32009, "content": "<x>"})
    (folder / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(TokenizerError, match="<x> id 32009, where the tokenizers library gives it 32000"):
        shipped(HF(path=folder), tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is not JSON"),
        (b"[]", r"has no \[model\]"),
        (b'{"model": {"type": "BPE", "dropout": 0.1}}', "dropout"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}', "cannot load the tokenizer.json"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_told_in_a_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(TokenizerError, match=sentence):
        shipped(HF(path=tmp_path / "tokenizer.json"), tmp_path / "out")


def test_a_place_without_a_tokenizer_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="there is no tokenizer at"):
        HF(path=tmp_path / "nowhere").files()
    with pytest.raises(TokenizerError, match=r"has neither tokenizer\.json nor tokenizer\.model"):
        HF(path=tmp_path).files()


def test_a_recipe_gives_either_a_path_or_a_hub_name() -> None:
    with pytest.raises(ValidationError, match="give one of `path`, `hub` and `model`"):
        HF()
    with pytest.raises(ValidationError, match="give one of `path`, `hub` and `model`"):
        HF(path=Path("a"), hub="b/c")


def test_a_sentencepiece_model_gives_sentencepiece_ids(llama: Path, tmp_path: Path) -> None:
    encoder = shipped(HF(path=llama / "tokenizer.model"), tmp_path / "out")
    processor = SentencePieceProcessor(model_file=str(llama / "tokenizer.model"))
    texts = [" " * length for length in range(1, 70)] + ["Hello  world", "\tx\n\n y", "中文 é", "a" + " " * 35 + "b"]
    for exact in (False, True):
        assert encoded(encoder, texts, exact=exact) == processor.encode(texts)
    assert (encoder.vocabulary.bos, encoder.vocabulary.eos, encoder.vocabulary.pad) == ("<s>", "</s>", None)
    assert encoder.fast
    assert AutoTokenizer.from_pretrained(tmp_path / "out").decode(encoded(encoder, ["It is  so"])[0]) == "It is  so"


@pytest.mark.parametrize(
    "options",
    [
        {"pad_id": 3, "control_symbols": ["<ctrl>"], "split_digits": True, "vocab_size": 340},
        {"byte_fallback": False},
        {"remove_extra_whitespaces": True},
        {"add_dummy_prefix": False, "user_defined_symbols": ["<turn>", "▁▁"]},
        {"model_type": "unigram", "byte_fallback": False, "vocab_size": 200},
    ],
    ids=["llama", "unknown characters", "single spaces", "user-defined pieces", "unigram"],
)
def test_sentencepiece_models_of_other_makes_give_their_own_ids(tmp_path: Path, options: dict[str, Any]) -> None:
    model = trained(**options)
    (tmp_path / "tokenizer.model").write_bytes(model)
    encoder = shipped(HF(path=tmp_path), tmp_path / "out")
    processor = SentencePieceProcessor(model_proto=model)
    texts = [*SENTENCES[:20], "  two  spaces  ", "unknown 中 中中 x", "<turn>a <turn>  b", "", " "]
    assert encoded(encoder, texts) == processor.encode(texts)
    assert encoder.vocabulary.pad == ("<pad>" if "pad_id" in options else None)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model_type": "char", "byte_fallback": False, "vocab_size": 60}, "words or characters"),
        ({"user_defined_symbols": ["<turn>"]}, "user-defined pieces beside a dummy prefix"),
        ({"treat_whitespace_as_suffix": True}, "writes spaces in a way of its own"),
        (
            {"normalization_rule_name": "nmt_nfkc"},
            "gives other ids as a tokenizer.json than SentencePiece does, for the text",
        ),
    ],
)
def test_a_sentencepiece_model_that_json_cannot_say_is_refused(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(trained(**options))
    with pytest.raises(TokenizerError, match=sentence):
        shipped(HF(path=tmp_path), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x0a\xff\xff\xff\xff\x7f", b"\x0a\x02\x0a\x05"])
def test_a_damaged_sentencepiece_model_is_told_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.model").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"x\.model is not a SentencePiece model"):
        shipped(HF(path=tmp_path / "x.model"), tmp_path / "out")
