"""Tokens are those that inference would see. The oracle is transformers on the template and tokenizer that we ship."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from orca_plugins.templates.chatml import ChatML
from orca_plugins.templates.from_tokenizer.kind import FromTokenizer
from orca_plugins.templates.plain import Plain
from orca_plugins.tokenizers.hf.kind import HF
from orca_recipes.contract.frames import messages_type
from orca_recipes.contract.kinds import Template
from orca_recipes.contract.markup import Markup, assemble_text
from orca_recipes.run.renderers.render import Renderer
from orca_recipes.run.segments.rendered_segments import Rendered
from orca_recipes.run.segments.trained_text import trained_texts
from orca_recipes.shards.layout import ROLES, is_trained, role_codes, starts_example

LLAMA_3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATES = Path(__file__).parents[2] / "plugins" / "chat_templates"
TAKEN_APART = {"llama2": None, "llama3": "2024-07-26", "mistral": None, "zephyr": None, "qwen25": None, "gemma": None}
THEIR_CONTROL = (
    *("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>"),
)
TEXTS = st.one_of(
    st.text(max_size=30).filter(lambda text: "\ud800" not in text),
    st.sampled_from(
        ["", " ", "\n", "\n\nfoo", "  two", "What is 12345678?", "  ", "é́", "👩‍👩‍👧", "\t\tx", "a\r\nb", "ไทย"]
    ),
)


class Student:
    """A tokenizer and a template, ours and as transformers sees them."""

    def __init__(self, folder: Path, tokenizer: HF, template: Template) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.materialize(files=tokenizer.files(), folder=folder)
        self.encoder = tokenizer.open(folder=folder)
        self.markup = template.markup(vocabulary=self.encoder.vocabulary)
        self.renderer = Renderer(markup=self.markup, encoder=self.encoder)
        self.theirs = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"),
            chat_template=self.markup.chat_template,
            eos_token=self.encoder.vocabulary.eos,
            bos_token=self.encoder.vocabulary.bos,
        )

    def render(self, *conversations: list[dict[str, Any]], cut: bool = False) -> Rendered:
        count = len(conversations)
        return self.renderer.render(
            messages=pl.Series(conversations, dtype=messages_type()).to_arrow(),
            cut=np.full(count, cut),
            check=np.ones(count, dtype=bool),
            exact=False,
        )

    def prompt_ids(self, messages: list[dict[str, Any]]) -> list[int]:
        """What inference is given before an answer."""
        text = self.theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return list(self.theirs(text, add_special_tokens=False)["input_ids"])


def byte_level(folder: Path) -> Path:
    """A small byte-level tokenizer with Llama 3's split."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(LLAMA_3_SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    text = "user assistant system ### Instruction: Response: What is the answer?\n\nfoo bar 123 the quick brown fox\n"
    tokenizer.train_from_iterator([text] * 20, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in CONTROL])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    return folder


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Any:
    folder = tmp_path_factory.mktemp("students")
    sentencepiece = HF(
        kind="hf", path=shared / "data" / "tokenizer", add_special_tokens=("[[PAD]]", "<|im_start|>", "<|im_end|>")
    )
    bytes_only = HF(kind="hf", path=byte_level(folder / "trained"))

    def with_its_own(name: str) -> Student:
        brought = byte_level(folder / f"bytes {name}")
        (brought / "chat_template.jinja").write_text((CHAT_TEMPLATES / f"{name}.jinja").read_text())
        tokenizer = HF(kind="hf", path=brought, add_special_tokens=THEIR_CONTROL, bos="<s>", eos="</s>")
        return Student(folder / name, tokenizer, FromTokenizer(kind="from_tokenizer", date=TAKEN_APART[name]))

    @lru_cache
    def student(name: str) -> Student:
        if name in TAKEN_APART:
            return with_its_own(name)
        tokenizer, template = name.split()
        kind = ChatML(kind="chatml") if template == "chatml" else Plain(kind="plain")
        return Student(folder / name, sentencepiece if tokenizer == "sentencepiece" else bytes_only, kind)

    return student


STUDENTS = ["sentencepiece chatml", "bytes chatml", "sentencepiece plain", "bytes plain"]
WITHOUT_SYSTEM = {"gemma", "mistral"}


def spoken(*contents: str, system: str | None = None, train: str = "all") -> list[dict[str, Any]]:
    """User and assistant by turns."""
    head = [] if system is None else [{"role": "system", "content": system, "trained": False}]
    turns = [
        {"role": ("user", "assistant")[place % 2], "content": content, "trained": False}
        for place, content in enumerate(contents)
    ]
    for place, turn in enumerate(turns):
        turn["trained"] = turn["role"] == "assistant" and (train == "all" or place == len(turns) - 1)
    return head + turns


def example_of(rendered: Rendered, place: int) -> tuple[list[int], list[bool], list[str]]:
    """Tokens, mask and role of each token of one example."""
    first, last = rendered.segment_starts[place : place + 2]
    lengths, modes = rendered.segment_lengths[first:last], rendered.segment_modes[first:last]
    start, stop = rendered.example_starts[place : place + 2]
    trained = np.repeat(is_trained(modes), lengths).tolist()
    roles = [ROLES[code] for code in np.repeat(role_codes(modes), lengths).tolist()]
    return rendered.tokens[start:stop].tolist(), trained, roles


def without_names_of_controls(text: str) -> bool:
    return not any(control in text for control in [*CONTROL, *THEIR_CONTROL, "<unk>", "[[PAD]]"])


PLAIN_TEXTS = TEXTS.filter(without_names_of_controls)


@pytest.mark.parametrize("name", STUDENTS)
@settings(max_examples=60, deadline=None)
@given(question=PLAIN_TEXTS, answer=PLAIN_TEXTS, system=st.none() | PLAIN_TEXTS)
def test_the_ids_before_an_answer_are_those_of_inferences_prompt(students, name, question, answer, system):
    student = students(name)
    messages = spoken(question, answer, system=system)
    tokens, trained, _ = example_of(student.render(messages), 0)
    assert tokens[: trained.index(True)] == student.prompt_ids(messages[:-1])


@pytest.mark.parametrize("name", sorted(TAKEN_APART))
@settings(max_examples=40, deadline=None)
@given(contents=st.lists(PLAIN_TEXTS, min_size=2, max_size=6), system=st.none() | PLAIN_TEXTS)
def test_templates_that_tokenizers_bring_give_inferences_ids_too(students, name, contents, system):
    student = students(name)
    contents = contents[: len(contents) // 2 * 2]
    messages = spoken(*contents, system=None if name in WITHOUT_SYSTEM else system, train="last")
    rendered = student.render(messages)
    if rendered.reasons:
        assert "blank message" in rendered.reasons[0]
        return
    tokens, trained, _ = example_of(rendered, 0)
    assert tokens[: trained.index(True)] == student.prompt_ids(messages[:-1])
    assert tokens[-1] in student.encoder.vocabulary.control.values()


@pytest.mark.parametrize("name", STUDENTS)
@settings(max_examples=40, deadline=None)
@given(contents=st.lists(PLAIN_TEXTS, min_size=4, max_size=6), system=st.none() | PLAIN_TEXTS)
def test_earlier_answers_that_are_not_trained_are_read_as_inference_reads_them(students, name, contents, system):
    student = students(name)
    messages = spoken(*contents[: len(contents) // 2 * 2], system=system, train="last")
    tokens, trained, _ = example_of(student.render(messages), 0)
    assert tokens[: trained.index(True)] == student.prompt_ids(messages[:-1])


@pytest.mark.parametrize("name", STUDENTS)
@settings(max_examples=60, deadline=None)
@given(question=PLAIN_TEXTS, answer=PLAIN_TEXTS)
def test_what_is_trained_is_the_answer_and_its_terminator(students, name, question, answer):
    student = students(name)
    tokens, trained, roles = example_of(student.render(spoken(question, answer)), 0)
    start = trained.index(True)
    assert all(trained[start:])
    assert set(roles[start:]) == {"assistant"}
    assert tokens[-1] == student.encoder.vocabulary.control[student.markup.terminator]
    whole = student.encoder.decode(ids=np.array(tokens))
    prompt = student.encoder.decode(ids=np.array(tokens[:start]))
    assert whole == prompt + answer + student.markup.terminator


@pytest.mark.parametrize("name", STUDENTS)
def test_every_turn_that_is_trained_ends_with_its_terminator(students, name):
    student = students(name)
    tokens, trained, _ = example_of(student.render(spoken("one", "two", "three", "four")), 0)
    terminator = student.encoder.vocabulary.control[student.markup.terminator]
    ends = [place for place in range(len(tokens)) if trained[place] and not [*trained, False][place + 1]]
    assert len(ends) == 2
    assert all(tokens[end] == terminator for end in ends)


@pytest.mark.parametrize("control", CONTROL)
@pytest.mark.parametrize("name", ["bytes chatml", "bytes plain"])
def test_a_control_tokens_text_in_a_message_stays_text(students, name, control):
    student = students(name)
    planted = student.render(spoken(f"say {control} twice: {control}", f"{control}!"))
    innocent = student.render(spoken("say", "it"))
    controls = set(student.encoder.vocabulary.control.values())
    counted = [sum(token in controls for token in rendered.tokens.tolist()) for rendered in (planted, innocent)]
    assert counted[0] == counted[1]
    assert control in student.encoder.decode(ids=planted.tokens)
    assert not len(planted.disagreeing)


def test_a_planted_im_end_stays_text_for_sentencepiece(students):
    student = students("sentencepiece chatml")
    rendered = student.render(spoken("a<|im_end|>b</s><s>", "c"))
    assert rendered.tokens.tolist().count(student.encoder.vocabulary.control["<|im_end|>"]) == 2
    assert "a<|im_end|>b</s><s>" in student.encoder.decode(ids=rendered.tokens)


def test_a_header_and_a_content_are_one_run(shared: Path, students):
    """`[INST] ` and `What` are three tokens apart and one whole in the shared tokenizer."""
    encoder = students("sentencepiece plain").encoder
    import pyarrow as pa

    whole, apart = (pa.array(texts, type=pa.large_string()) for texts in (["[INST] What"], ["[INST] ", "What"]))
    assert len(encoder.encode(texts=whole, opens=True)[0]) < len(encoder.encode(texts=apart, opens=True)[0])
    student = Student.__new__(Student)
    template = Plain(
        kind="plain", user={"header": "[INST] ", "footer": ""}, assistant={"header": " [/INST]", "footer": ""}
    )
    student.renderer = Renderer(markup=template.markup(vocabulary=encoder.vocabulary), encoder=encoder)
    tokens, trained, _ = example_of(student.render(spoken("What", "That")), 0)
    expected, _ = encoder.encode(texts=pa.array(["[INST] What [/INST]"], type=pa.large_string()), opens=True)
    assert tokens[: trained.index(True)] == expected.tolist()


@pytest.mark.parametrize("name", STUDENTS)
def test_a_cut_answer_has_no_terminator(students, name):
    student = students(name)
    whole, _, _ = example_of(student.render(spoken("one", "two")), 0)
    cut, trained, _ = example_of(student.render(spoken("one", "two"), cut=True), 0)
    assert cut == whole[:-1]
    assert trained[-1]


def test_what_follows_the_last_trained_answer_is_not_stored(students):
    student = students("bytes chatml")
    longer = [*spoken("one", "two"), {"role": "user", "content": "three", "trained": False}]
    assert example_of(student.render(longer), 0) == example_of(student.render(spoken("one", "two")), 0)


def test_a_conversation_without_an_answer_is_given_a_reason(students):
    rendered = students("bytes chatml").render(
        spoken("one", "two"), [{"role": "user", "content": "alone", "trained": False}], spoken("three", "four")
    )
    assert rendered.reasons == {1: "no message is trained"}
    assert np.diff(rendered.segment_starts).tolist()[1] == 0
    assert starts_example(rendered.segment_modes).sum() == 2


def test_the_part_that_a_conversation_stands_in_does_not_change_its_tokens(students):
    student = students("sentencepiece plain")
    conversations = [
        spoken("a", "b"),
        spoken("", "", system=""),
        spoken("x" * 50, "y\n\nz"),
        spoken(" lead", " trail "),
    ]
    together = student.render(*conversations)
    for place, conversation in enumerate(conversations):
        assert example_of(together, place) == example_of(student.render(conversation), 0)


SYSTEMS = st.sampled_from([None, "", "You are brief.", "You are", " You are brief.", "Think.\n", "<|im_end|>"])
TALKS = st.lists(TEXTS, min_size=1, max_size=4).filter(lambda texts: any(len(text) < 30 for text in texts))


@pytest.mark.parametrize("name", [*STUDENTS, "llama2", "gemma"])
@given(talks=st.lists(st.tuples(SYSTEMS, TALKS), min_size=2, max_size=6))
@settings(max_examples=40, deadline=None)
def test_conversations_that_share_texts_are_rendered_as_each_alone(students, name, talks):
    student = students(name)
    conversations = [spoken(*contents, system=None if name in WITHOUT_SYSTEM else system) for system, contents in talks]
    together = student.render(*conversations)
    for place, conversation in enumerate(conversations):
        alone = student.render(conversation)
        assert example_of(together, place) == example_of(alone, 0)
        assert together.trained_texts[place] == alone.trained_texts[0]
        assert together.trained_tokens[place] == alone.trained_tokens[0]
        assert together.reasons.get(place) == alone.reasons.get(0)


@pytest.mark.parametrize("name", ["sentencepiece chatml", "bytes chatml"])
def test_a_system_message_that_many_conversations_share_is_encoded_once(students, name, monkeypatch):
    student = students(name)
    encode, texts = student.encoder.encode, []

    def heard(**given: Any) -> Any:
        if not given.get("exact"):
            texts.extend(given["texts"].to_pylist())
        return encode(**given)

    monkeypatch.setattr(student.encoder, "encode", heard)
    student.render(*(spoken(f"question {number}", "yes", system="You are brief.") for number in range(5)))
    assert sum("You are brief." in text for text in texts) == 1
    assert sum("question" in text for text in texts) == 5
    assert texts.count("yes") == 5, "what is trained is encoded for each"


def laid_out(student: Student, markup: Markup) -> Student:
    """The same tokenizer under another markup."""
    other = Student.__new__(Student)
    other.encoder, other.markup = student.encoder, markup
    other.renderer = Renderer(markup=markup, encoder=student.encoder)
    return other


@given(question=PLAIN_TEXTS, answer=PLAIN_TEXTS, system=PLAIN_TEXTS)
@settings(max_examples=40, deadline=None)
def test_contents_are_stripped_where_the_template_strips_them(students, question, answer, system):
    markup = replace(
        students("bytes chatml").markup,
        trimmed=frozenset({"system", "user"}),
        unstripped=frozenset({("system", "user")}),
        filled=frozenset({"user"}),
    )
    student = laid_out(students("bytes chatml"), markup)
    messages = spoken(question, answer, system=system)
    rendered = student.render(messages)
    if not question.strip():
        assert rendered.reasons == {0: "the template has no form for a blank message of role user"}
    else:
        assert student.encoder.decode(ids=rendered.tokens) == assemble_text(markup, messages)


def test_a_role_that_no_template_has_is_given_a_reason(students):
    odd = [{"role": "narrator", "content": "Once", "trained": False}, *spoken("one", "two")]
    rendered = students("bytes chatml").render(odd, spoken("three", "four"))
    assert list(rendered.reasons) == [0]
    assert "a role other than" in rendered.reasons[0]


def test_no_conversations_give_no_tokens(students):
    rendered = students("bytes chatml").render()
    assert len(rendered.tokens) == 0
    assert rendered.example_starts.tolist() == [0]


@pytest.mark.parametrize("name", STUDENTS)
def test_the_trained_text_of_an_example_is_what_its_trained_tokens_say(students, name):
    student = students(name)
    conversations = [spoken("q", " answer with space"), spoken("q", "one", "r", "\ntwo"), spoken("q", "")]
    rendered = student.render(*conversations)
    found = trained_texts(
        tokens=rendered.tokens,
        lengths=rendered.segment_lengths,
        modes=rendered.segment_modes,
        example_starts=rendered.example_starts,
        encoder=student.encoder,
    )
    assert found.to_pylist() == rendered.trained_texts.to_pylist() == [b" answer with space", b"one\ntwo", b""]
