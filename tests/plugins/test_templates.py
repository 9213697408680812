"""Templates that a recipe writes: ChatML and plain texts, as a markup and as the jinja that is shipped."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from orca_plugins.templates.chatml import ChatML
from orca_plugins.templates.from_tokenizer.sandbox import ChatTemplate
from orca_plugins.templates.jinja_text import literal, quoted
from orca_plugins.templates.plain import Plain
from orca_plugins.templates.turns import Turn
from orca_recipes.contract.kinds import Vocabulary
from orca_recipes.contract.markup import Markup, assemble_text, markup_from_json
from orca_recipes.errors import TemplateError

Messages = Sequence[Mapping[str, str]]
CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
VOCABULARY = Vocabulary(
    size=len(CONTROL),
    control={text: place for place, text in enumerate(CONTROL)},
    other_added={},
    eats_space=frozenset(),
    bos="<s>",
    eos="</s>",
    pad=None,
    chat_template=None,
)
KINDS = [
    ChatML(),
    ChatML(bos=True, default_system='Be "brief",\nplease {{ now }}.'),
    Plain(),
    Plain(bos=True, terminator="<|im_end|>", tool=Turn(header="Tool: ", footer="\n")),
    Plain(user=Turn(header="{{ 'q' }}: \\ \"", footer="\r\n"), assistant=Turn(header="{% endif %}\t", footer="")),
]
ROLES = st.sampled_from(["system", "user", "assistant"])
TALKS = st.lists(st.fixed_dictionaries({"role": ROLES, "content": st.text(max_size=20)}), min_size=1, max_size=6)


def talk(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def as_transformers(markup: Markup, messages: Messages, *, prompt: bool) -> str:
    """What transformers makes of the jinja text that is shipped."""
    load: Any = PreTrainedTokenizerFast
    tokenizer = load(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = markup.chat_template
    text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt)
    return text


QUESTION = talk(("system", "Be kind."), ("user", "2 + 2?"))


def test_chatml_names_each_role_between_its_two_tokens() -> None:
    markup = ChatML().markup(vocabulary=VOCABULARY)
    assert assemble_text(markup, QUESTION, generation_prompt=True) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert assemble_text(markup, [*QUESTION, *talk(("assistant", "4"))]).endswith("<|im_start|>assistant\n4<|im_end|>")
    assert markup.terminator == "<|im_end|>"


def test_plain_puts_the_texts_of_the_recipe_around_messages() -> None:
    markup = Plain().markup(vocabulary=VOCABULARY)
    more = [*QUESTION, *talk(("assistant", "4"), ("user", "Sure?"))]
    assert assemble_text(markup, more, generation_prompt=True) == (
        "Be kind.\n\n### Instruction:\n2 + 2?\n\n### Response:\n4</s>\n\n### Instruction:\nSure?\n\n### Response:\n"
    )
    assert markup.terminator == "</s>"


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(messages=TALKS)
def test_the_jinja_that_is_shipped_prints_what_the_markup_says(kind: ChatML | Plain, messages: Messages) -> None:
    markup = kind.markup(vocabulary=VOCABULARY)
    shipped = ChatTemplate(markup.chat_template, {}, None)
    ours = assemble_text(markup, messages, generation_prompt=True)
    assert shipped.render(messages, generation_prompt=True) == ours
    if messages[-1]["role"] == "assistant":
        assert shipped.render(messages).startswith(assemble_text(markup, messages))


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_prints_the_shipped_jinja_alike(kind: ChatML | Plain) -> None:
    markup = kind.markup(vocabulary=VOCABULARY)
    for messages in (QUESTION, QUESTION[1:], talk(("user", " a\n"), ("assistant", "{{ b }}"), ("user", ""))):
        ours = assemble_text(markup, messages, generation_prompt=True)
        assert as_transformers(markup, messages, prompt=True) == ours


def test_a_default_system_message_stands_where_a_conversation_has_none() -> None:
    markup = ChatML(default_system="Be brief.").markup(vocabulary=VOCABULARY)
    assert assemble_text(markup, QUESTION[1:]) == assemble_text(markup, [*talk(("system", "Be brief.")), QUESTION[1]])
    assert "Be brief." not in assemble_text(markup, QUESTION)


def test_a_conversation_begins_with_bos_once() -> None:
    for kind in (ChatML(bos=True), Plain(bos=True), ChatML(bos=True, default_system="x")):
        text = assemble_text(kind.markup(vocabulary=VOCABULARY), QUESTION)
        assert text.startswith("<s>")
        assert text.count("<s>") == 1


def test_plain_has_tool_messages_where_the_recipe_gives_their_texts() -> None:
    tool = talk(("user", "Now?"), ("tool", "12:00"))
    with pytest.raises(TemplateError, match="cannot print a message of role tool after one of role user"):
        assemble_text(Plain().markup(vocabulary=VOCABULARY), tool)
    markup = Plain(tool=Turn(header="Clock: ", footer="\n")).markup(vocabulary=VOCABULARY)
    assert assemble_text(markup, tool, generation_prompt=True).endswith("\n\nClock: 12:00\n### Response:\n")


def test_tokens_that_the_tokenizer_lacks_are_told_with_the_way_out() -> None:
    bare = replace(VOCABULARY, control={}, bos=None, eos=None)
    with pytest.raises(TemplateError, match=r"template\.start: <\|im_start\|> is no control token.*add_special_tokens"):
        ChatML().markup(vocabulary=bare)
    with pytest.raises(TemplateError, match=r"template\.terminator: the tokenizer names no token that ends a text"):
        Plain().markup(vocabulary=bare)
    with pytest.raises(TemplateError, match=r"template\.bos: the tokenizer names no token that begins a text"):
        ChatML(bos=True).markup(vocabulary=replace(VOCABULARY, bos=None))
    with pytest.raises(TemplateError, match=r"template\.terminator: <end> is no control token"):
        Plain(terminator="<end>").markup(vocabulary=VOCABULARY)


def test_a_token_that_swallows_white_space_is_refused() -> None:
    eats = replace(VOCABULARY, eats_space=frozenset({"<|im_end|>", "</s>"}))
    with pytest.raises(TemplateError, match=r"template\.end: the tokenizer's <\|im_end\|> swallows white space"):
        ChatML().markup(vocabulary=eats)
    with pytest.raises(TemplateError, match="swallows white space"):
        Plain(terminator="<s>", user=Turn(header="</s>")).markup(vocabulary=eats)


def test_a_start_that_is_also_the_end_is_a_fault_of_the_recipe() -> None:
    with pytest.raises(ValidationError, match="must be two tokens"):
        ChatML(start="<s>", end="<s>")


@given(text=st.text(st.characters(codec="utf-8")))
def test_any_text_stands_in_a_jinja_string_as_it_is(text: str) -> None:
    assert ChatTemplate("{{- " + quoted(text) + " -}}", {}, date(2024, 7, 26)).render([]) == text


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_any_json_value_stands_in_jinja_as_it_is(value: Any) -> None:
    table = {"value": value, "more": [1.5, {"a": "é\n"}]}
    printed = ChatTemplate("{{ table | tojson }}|{{ " + literal(table) + " | tojson }}", {"table": table}, None).render(
        []
    )
    assert printed[: len(printed) // 2] == printed[len(printed) // 2 + 1 :]


def test_a_markup_is_kept_as_json_and_read_back() -> None:
    for kind in KINDS:
        markup = kind.markup(vocabulary=VOCABULARY)
        assert markup_from_json(markup.as_json()) == markup
    odd = replace(markup, trimmed=frozenset({"user"}), unstripped=frozenset({("", "user")}), filled=frozenset({"user"}))
    assert markup_from_json(odd.as_json()) == odd


def test_contents_are_stripped_where_a_markup_says_so() -> None:
    markup = replace(Plain().markup(vocabulary=VOCABULARY), trimmed=frozenset({"user"}), filled=frozenset({"user"}))
    assert assemble_text(markup, talk(("user", "\u00a0 a \x1c"))) == "### Instruction:\na"
    left = replace(markup, unstripped=frozenset({("system", "user")}))
    assert assemble_text(left, talk(("system", "s"), ("user", " a "))) == "s\n\n### Instruction:\n a"
    with pytest.raises(TemplateError, match="cannot print a blank message of role user"):
        assemble_text(markup, talk(("user", " ")))
