"""The end of an answer: trained through its last control token, and named alike wherever generation looks for it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import transformers

from orca_plugins.templates.from_tokenizer.kind import FromTokenizer
from orca_plugins.templates.plain import Plain, Turn
from orca_plugins.tokenizers.hf.kind import HF
from orca_recipes.contract.ending import ending_of, without_added_end
from orca_recipes.contract.kinds import Vocabulary
from orca_recipes.errors import TemplateError
from orca_recipes.run.work.loaded_tokenizer import opened
from orca_recipes.shards.layout import is_trained
from orca_recipes.shards.reader import Shard
from tests.run.ends import COHERE_LIKE, ONE_END, make_build, write_tokenizer
from tests.run.small import QUICKSTART_TOKENIZER


def trained_texts(directory: Path) -> list[str]:
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer" / "tokenizer.json"))
    shard = Shard.open(directory / "main" / "00000")
    ends = np.cumsum(shard.segments.lengths)
    bounds = zip(ends - shard.segments.lengths, ends, is_trained(shard.segments.modes), strict=True)
    return [
        tokenizer.decode(shard.tokens[start:stop].tolist(), skip_special_tokens=False)
        for start, stop, trained in bounds
        if trained
    ]


@pytest.mark.parametrize("between", ["", " so "])
def test_all_through_the_last_control_token_of_an_answer_is_trained_and_white_space_after_it_is_not(
    tmp_path: Path, between: str
) -> None:
    directory = make_build(tmp_path / "p", COHERE_LIKE.replace("between", repr(between)))
    end = f"<|END_RESPONSE|>{between}<|END_TURN|>"
    found = trained_texts(directory)
    assert sorted(set(found)) == sorted([f"Bye.{end}", *(f"Hello {n}{end}" for n in range(4))])
    manifest = json.loads((directory / "manifest.json").read_text())
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer" / "tokenizer.json"))
    assert manifest["terminators"] == [tokenizer.encode(end, add_special_tokens=False).ids]


def test_tokenizer_and_generation_settings_name_the_end_that_is_trained(tmp_path: Path) -> None:
    directory = make_build(tmp_path / "p", ONE_END, eos="<|old|>")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory / "tokenizer")
    settings = json.loads((directory / "tokenizer" / "generation_config.json").read_text())
    manifest = json.loads((directory / "manifest.json").read_text())
    assert tokenizer.eos_token == "<|END_TURN|>"
    assert settings["eos_token_id"] == tokenizer.eos_token_id == manifest["terminators"][0][-1]
    assert tokenizer.pad_token == "<|old|>"
    assert settings["pad_token_id"] == tokenizer.pad_token_id == manifest["pad_id"]


def test_a_template_that_prints_the_old_end_by_its_name_prints_it_still(tmp_path: Path) -> None:
    template = ONE_END.replace("'<|START|><|USER|>'", "eos_token + '<|START|><|USER|>'")
    directory = make_build(tmp_path / "p", template, eos="<|old|>")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory / "tokenizer")
    assert tokenizer.eos_token == "<|END_TURN|>"
    printed = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert printed == "<|old|><|START|><|USER|>Hi<|END_TURN|>\n"


def test_a_text_that_is_encoded_as_it_is_gets_no_end_behind_it(tmp_path: Path) -> None:
    special = {"<|START|>": 4096, "<|old|>": 4101}
    adds_both = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|START|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<|old|>", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {text: {"id": text, "ids": [place], "tokens": [text]} for text, place in special.items()},
    }
    directory = make_build(tmp_path / "p", ONE_END, post_processor=adds_both)
    before = tokenizers.Tokenizer.from_file(str(tmp_path / "p" / "tokenizer" / "tokenizer.json"))
    shipped = tokenizers.Tokenizer.from_file(str(directory / "tokenizer" / "tokenizer.json"))
    ids = before.encode("Hi").ids
    assert ids[-1] == before.token_to_id("<|old|>")
    assert shipped.encode("Hi").ids == ids[:-1]


@pytest.mark.parametrize("kind", ["BertProcessing", "RobertaProcessing"])
def test_processors_of_bert_and_roberta_lose_their_end_and_keep_their_start(kind: str) -> None:
    given = {"type": kind, "sep": ["<|old|>", 4102], "cls": ["<|START|>", 4097]}
    definition = json.loads(QUICKSTART_TOKENIZER.read_text())
    more = {"trim_offsets": True, "add_prefix_space": False} if kind.startswith("Ro") else {}
    both = tokenizers.Tokenizer.from_str(json.dumps({**definition, "post_processor": {**given, **more}}))
    shipped = without_added_end({**definition, "post_processor": {"type": "Sequence", "processors": [given]}})
    assert tokenizers.Tokenizer.from_str(json.dumps(shipped)).encode("Hi").ids == both.encode("Hi").ids[:-1]


def test_a_tokenizer_that_ends_nothing_is_shipped_byte_for_byte(tmp_path: Path) -> None:
    directory = make_build(tmp_path / "p", ONE_END)
    resolved = next((tmp_path / "p" / "store").rglob("tokenizer.json"))
    assert (directory / "tokenizer" / "tokenizer.json").read_bytes() == resolved.read_bytes()
    definition = json.loads(resolved.read_text())
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    assert without_added_end({**definition, "post_processor": byte_level})["post_processor"] == byte_level


def test_a_footer_of_the_recipe_that_ends_in_a_control_token_is_trained_to_it(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "tokenizer", ONE_END)
    encoder = resolved(folder, tmp_path / "resolved")
    kind = Plain(terminator="<|END_RESPONSE|>", assistant=Turn(footer=" <|END_TURN|>\n"))
    markup = kind.markup(vocabulary=encoder.vocabulary)
    assert markup.terminator == "<|END_RESPONSE|> <|END_TURN|>"
    assert markup.joints["assistant", "user"].footer == "\n"
    assert ending_of(markup, encoder).token == "<|END_TURN|>"


def test_an_end_that_is_also_trained_before_the_end_is_refused(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "tokenizer", ONE_END)
    encoder = resolved(folder, tmp_path / "resolved")
    twice = COHERE_LIKE.replace("between", "'<|END_TURN|>'")
    with pytest.raises(TemplateError, match=r"trains <\|END_TURN\|> before an answer's end"):
        ending_of(taken(twice, encoder.vocabulary), encoder)
    inside = ONE_END.replace("'<|START|><|BOT|>' + m", "'<|START|><|BOT|><|END_TURN|>' + m")
    with pytest.raises(TemplateError, match="generation would stop too early"):
        ending_of(taken(inside, encoder.vocabulary), encoder)


def test_a_control_token_that_only_the_last_answer_has_ends_none(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "tokenizer", ONE_END)
    vocabulary = resolved(folder, tmp_path / "resolved").vocabulary
    template = ONE_END.replace("{% if add", "{% if not add_generation_prompt %}<|old|>{% endif %}{% if add")
    assert taken(template, vocabulary).terminator == "<|END_RESPONSE|><|END_TURN|>"


def taken(template: str, vocabulary: Vocabulary):
    return FromTokenizer().markup(vocabulary=replace(vocabulary, chat_template=template))


def resolved(folder: Path, target: Path):
    target.mkdir()
    kind = HF(path=folder)
    kind.materialize(files=kind.files(), folder=target)
    return opened(kind, target)
