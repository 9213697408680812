"""Chat templates that tokenizers bring, in the manner of well-known ones: taken apart, or refused with a case."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from orca_plugins.templates.from_tokenizer.joints import joints_of
from orca_plugins.templates.from_tokenizer.kind import FromTokenizer
from orca_plugins.templates.from_tokenizer.probe_renders import Probes
from orca_recipes.contract.kinds import Vocabulary
from orca_recipes.contract.markup import START, Markup, assemble_text
from orca_recipes.contract.templates.chat_template import ChatTemplate
from orca_recipes.errors import TemplateError

Messages = Sequence[Mapping[str, str]]
TEMPLATES = Path(__file__).parent / "chat_templates"
CONTROL = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
]
DATE = {"date": "2024-07-26"}
TAKEN: dict[str, dict[str, Any]] = {
    "llama2": {},
    "llama3": DATE,
    "mistral": {},
    "zephyr": {},
    "qwen25": {},
    "gemma": {},
}
SAY = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CONTENTS = st.text(max_size=8) | st.sampled_from(["</think>", " a ", "\n", "{{ x }}", "<|im_end|>", "[/INST]"])


def vocabulary(template: str | None, **changes: Any) -> Vocabulary:
    whole = Vocabulary(
        size=100,
        control={text: place for place, text in enumerate(CONTROL)},
        other_added={},
        eats_space=frozenset(),
        bos="<s>",
        eos="</s>",
        pad=None,
        chat_template=template,
    )
    return replace(whole, **changes)


def source(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


def taken(name: str) -> Markup:
    return FromTokenizer(**TAKEN[name]).markup(vocabulary=vocabulary(source(name)))


@pytest.fixture(scope="module")
def markups() -> dict[str, Markup]:
    return {name: taken(name) for name in TAKEN}


@pytest.fixture(scope="module")
def inference() -> Any:
    """transformers, with a tokenizer of no account: only its templates are used."""
    load: Any = PreTrainedTokenizerFast
    return load(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>")


def loops(body: str) -> str:
    return "{% for m in messages %}" + body + "{% endfor %}" + ASK


def refusal(template: str, **options: Any) -> str:
    with pytest.raises(TemplateError) as caught:
        FromTokenizer(**options).markup(vocabulary=vocabulary(template))
    return str(caught.value)


def obstacle(template: str, **variables: Any) -> str:
    """Why a template is no table of joints; it is rendered whole instead, where it prints a dialogue at all."""
    known = vocabulary(template)
    probes = Probes(ChatTemplate(template, {"bos_token": "<s>", "eos_token": "</s>", **variables}, None))
    with pytest.raises(TemplateError) as caught:
        joints_of(probes, known)
    try:
        whole = FromTokenizer(variables=variables).markup(vocabulary=known)
    except TemplateError as refused:
        assert "no row can be rendered" in str(refused) or "template.terminator" in str(refused)  # noqa: PT017
    else:
        assert not whole.joints
        assert whole.rendering is not None
    return str(caught.value)


def talk(*turns: str) -> list[dict[str, str]]:
    return [dict(zip(("role", "content"), turn.split(": ", 1), strict=True)) for turn in turns]


@pytest.mark.parametrize("name", TAKEN)
@settings(max_examples=40, deadline=None)
@given(contents=st.lists(CONTENTS, min_size=1, max_size=5), system=st.none() | CONTENTS)
def test_the_parts_give_what_transformers_prints(
    markups: dict[str, Markup], inference: Any, name: str, contents: list[str], system: str | None
) -> None:
    markup = markups[name]
    messages = [] if system is None or name in ("mistral", "gemma") else [{"role": "system", "content": system}]
    messages += [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(contents)]
    if any(message["role"] in markup.filled and not message["content"].strip() for message in messages):
        return
    inference.chat_template = markup.chat_template
    answered = messages[-1]["role"] == "assistant"
    ours = assemble_text(markup, messages, generation_prompt=not answered)
    theirs = inference.apply_chat_template(messages, tokenize=False, add_generation_prompt=not answered)
    assert theirs[: len(ours)] == ours
    assert answered or theirs == ours


def test_what_is_shipped_prints_the_pinned_day_and_variables(markups: dict[str, Markup], inference: Any) -> None:
    inference.chat_template = markups["llama3"].chat_template
    text = inference.apply_chat_template(talk("user: Hi"), tokenize=False)
    assert "Today Date: 26 Jul 2024\n" in text
    named = FromTokenizer(variables={"date_string": '1 "May" 2025'}).markup(vocabulary=vocabulary(source("llama3")))
    inference.chat_template = named.chat_template
    assert 'Today Date: 1 "May" 2025\n' in inference.apply_chat_template(talk("user: Hi"), tokenize=False)


def test_a_template_with_a_clock_needs_a_date() -> None:
    assert "prints the date" in refusal(source("llama3"))
    assert 'set date = "2024-07-26"' in refusal(source("llama3"))
    with pytest.raises(ValidationError, match="Invalid isoformat"):
        FromTokenizer(date="26 July")


def test_variables_of_a_template_are_set_by_the_recipe() -> None:
    template = loops(
        "{% if loud is defined and loud %}"
        + SAY.replace("m.content", "m.content + '!'")
        + "{% else %}"
        + SAY
        + "{% endif %}"
    )
    plain = FromTokenizer().markup(vocabulary=vocabulary(template))
    loud = FromTokenizer(variables={"loud": True}).markup(vocabulary=vocabulary(template))
    assert (plain.terminator, loud.terminator) == ("<|im_end|>", "!<|im_end|>")
    pinned = "{%- if loud is not defined %}{%- set loud = true %}{%- endif %}\n"
    assert loud.chat_template == pinned + template
    with pytest.raises(ValidationError, match="messages is no name"):
        FromTokenizer(variables={"messages": []})


def test_a_template_that_sets_a_pinned_variable_anew_is_as_it_is() -> None:
    template = "{% set mood = 'calm' %}" + loops(SAY)
    markup = FromTokenizer(variables={"mood": "wild"}).markup(vocabulary=vocabulary(template))
    assert assemble_text(markup, talk("user: Hi")) == "<|im_start|>user\nHi"


def test_the_prompt_for_an_answer_is_the_header_of_answers(markups: dict[str, Markup]) -> None:
    assert markups["qwen25"].joints["user", "assistant"].header == "<|im_start|>assistant\n"
    assert markups["gemma"].joints["user", "assistant"].header == "<start_of_turn>model\n"
    assert markups["llama2"].joints["user", "assistant"].header == ""


def test_what_stands_before_every_answer_but_not_in_the_prompt_is_trained(markups: dict[str, Markup]) -> None:
    assert markups["llama2"].answer_prefix == " "
    body = SAY.replace("m.content", "('<note>' if m.role == 'assistant' else '') + m.content")
    assert FromTokenizer().markup(vocabulary=vocabulary(loops(body))).answer_prefix == "<note>"


def test_an_answer_ends_with_the_first_control_token_after_it(markups: dict[str, Markup]) -> None:
    ends = {name: markup.terminator for name, markup in markups.items()}
    assert ends == {
        "llama2": " </s>",
        "llama3": "<|eot_id|>",
        "mistral": "</s>",
        "zephyr": "</s>",
        "qwen25": "<|im_end|>",
        "gemma": "<end_of_turn>",
    }


def test_a_default_system_message_is_found(markups: dict[str, Markup]) -> None:
    assert markups["qwen25"].default_system == "You are Qwen, a helpful assistant."
    assert (START, "user") not in markups["qwen25"].joints
    assert [name for name, markup in markups.items() if markup.default_system is not None] == ["qwen25"]


def test_a_default_with_control_tokens_stays_what_stands_at_the_start() -> None:
    start = "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\na</s>b<|im_end|>\n' }}{% endif %}"
    markup = FromTokenizer().markup(vocabulary=vocabulary(start + loops(SAY)))
    assert markup.default_system is None
    assert markup.joints[START, "user"].header == "<|im_start|>system\na</s>b<|im_end|>\n<|im_start|>user\n"


def test_roles_that_a_template_strips_are_found(markups: dict[str, Markup]) -> None:
    assert markups["llama3"].trimmed == {"system", "user", "assistant"}
    assert markups["mistral"].trimmed == set()
    assert markups["llama2"].trimmed == {"user", "assistant"}
    assert markups["llama2"].unstripped == {("system", "user")}


def test_a_role_that_cannot_be_blank_is_found(markups: dict[str, Markup]) -> None:
    assert markups["llama2"].filled == {"user"}
    body = "{% if m.role == 'system' and not m.content %}{% else %}" + SAY + "{% endif %}"
    assert FromTokenizer().markup(vocabulary=vocabulary(loops(body))).filled == {"system"}


def test_pairs_that_a_template_refuses_are_missing(markups: dict[str, Markup]) -> None:
    for name in ("mistral", "gemma", "llama2"):
        assert ("user", "user") not in markups[name].joints
    assert (START, "system") not in markups["gemma"].joints
    assert ("user", "user") in markups["zephyr"].joints


def test_tool_messages_are_taken_where_they_are_printed_word_for_word(markups: dict[str, Markup]) -> None:
    tools = talk("user: Now?", "assistant: Wait.", "tool: 12", "tool: 13", "assistant: Noon.")
    assert assemble_text(markups["qwen25"], tools).count("<tool_response>") == 2
    assert not any("tool" in pair for pair in markups["llama3"].joints)  # it writes them as JSON


def test_generation_tags_and_loop_controls_are_known() -> None:
    body = "{% if m.role == 'tool' %}{% continue %}{% endif %}{% generation %}" + SAY + "{% endgeneration %}"
    assert FromTokenizer().markup(vocabulary=vocabulary(loops(body))).terminator == "<|im_end|>"


@pytest.mark.parametrize("variables", [{}, {"enable_thinking": False}])
def test_a_template_that_prints_the_last_turn_in_its_own_way_is_no_table(variables: dict[str, bool]) -> None:
    sentence = obstacle(source("qwen3"), **variables)
    assert "For the conversation user 'ok', assistant 'ok', user 'ok' it prints" in sentence
    assert "<think>" in sentence


THOUGHTS = (
    "{% set last = namespace(at=-1) %}{% for m in messages %}{% if m.role == ROLE %}{% set last.at = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{% if m.role == 'assistant' and loop.index0 < last.at %}"
    "{{ '<|im_start|>assistant\n' + m.content.split('</think>')[-1] + '<|im_end|>\n' }}{% else %}"
    + SAY
    + "{% endif %}{% endfor %}"
    + ASK
)
"""Takes thoughts out of answers that stand before the last message of a role."""


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_template_that_takes_thoughts_out_of_earlier_turns_alone_is_no_table(role: str) -> None:
    assert "</think>" in obstacle(THOUGHTS.replace("ROLE", repr(role)))


def test_a_template_that_takes_thoughts_out_two_turns_before_the_last_is_no_table() -> None:
    far = THOUGHTS.replace("ROLE", "'assistant'").replace("loop.index0 < last.at", "loop.index0 < last.at - 2")
    assert "</think>" in obstacle(far)


@pytest.mark.parametrize("place", ["system", 0, 1, 2, 3, 4])
@pytest.mark.parametrize(
    "done", ["m.content.lstrip('\\n')", "m.content | replace('[note]', '')", "m.content.split('</think>')[-1]"]
)
def test_odd_content_is_tried_in_every_place_of_a_dialogue(place: str | int, done: str) -> None:
    here = f"loop.index0 - (1 if messages[0].role == 'system' else 0) == {place}"
    if place == "system":
        here = "m.role == 'system'"
    body = f"{{% if {here} %}}" + SAY.replace("m.content", f"({done})") + "{% else %}" + SAY + "{% endif %}"
    assert "cannot be taken apart" in obstacle(loops(body))


def test_a_template_that_moves_the_system_message_to_the_last_turn_is_no_table() -> None:
    merge = (
        "{{ bos_token }}{% set system = messages[0].content if messages[0].role == 'system' else '' %}"
        "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}"
        "{{ '[INST] ' + (system + '\n\n' if loop.last and system else '') + m.content + '[/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    )
    assert "For the conversation system 'ok', user 'ok', assistant 'ok'" in obstacle(merge)


@pytest.mark.parametrize(
    ("template", "case"),
    [
        (loops(SAY).replace("in messages", "in messages | reverse"), "once each, in their order"),
        (loops(SAY.replace("m.content", "m.content | upper")), "once each, in their order"),
        (loops(SAY).replace("in messages", "in messages[-2:]"), "depends on more than the messages beside it"),
        (loops(SAY.replace("m.content", "m.content.lstrip()")), "strips the system's messages at one end only"),
        (loops(SAY.replace("m.content", "m.content.split('</think>')[-1]")), "</think>"),
        (loops(SAY.replace("m.content", "m.content.replace('<', '&lt;')")), "&lt;"),
        (loops("{{ m.role + ': ' + m.content + '\n' }}"), "holds no control token"),
        (loops("{{ m.role + ': ' + m.content + (eos_token if loop.last else '\n') }}"), "would learn two ends"),
        (loops("{{ '<s>' + m.role + m.content + '</s>' }}"), "asks for an answer by '</s><|im_start|>assistant\\n'"),
        ("{{ raise_exception('not today') }}", "refuses a question with its answer (not today)"),
        ("{{ messages.nothing.more }}", "refuses a question with its answer"),
    ],
)
def test_what_cannot_be_taken_apart_is_told_with_the_case(template: str, case: str) -> None:
    assert case in obstacle(template)


@pytest.mark.parametrize(
    ("template", "case"),
    [
        ("{% for m in %}", "is not valid jinja"),
        ("{{ raise_exception('not today') }}", "no row can be rendered"),
        (loops(SAY).replace("in messages", "in messages[:0]"), "it prints the answer 0 times"),
        (loops("{{ m.role + ': ' + m.content + '[END]' }}"), "add it by `add_special_tokens` in [tokenizer]"),
    ],
)
def test_a_template_that_prints_no_dialogue_with_an_end_is_refused_with_the_case(template: str, case: str) -> None:
    assert case in refusal(template)


def test_a_template_whose_token_swallows_white_space_is_refused() -> None:
    eats = vocabulary(loops(SAY), eats_space=frozenset({"<|im_end|>"}))
    with pytest.raises(TemplateError, match=r"it uses <\|im_end\|>, which swallows white space"):
        FromTokenizer().markup(vocabulary=eats)


def test_a_tokenizer_without_a_template_is_told_in_a_sentence() -> None:
    with pytest.raises(TemplateError, match="brings no chat template; use the template kind chatml or plain"):
        FromTokenizer().markup(vocabulary=vocabulary(None))


def test_a_template_that_asks_for_a_plain_word_is_no_table() -> None:
    template = "{% if 'Briefly' in messages[0].content %}Short.{% endif %}{% for m in messages %}" + SAY
    template += "{% endfor %}" + ASK
    with pytest.raises(TemplateError, match="depends on more"):
        joints_of(Probes(ChatTemplate(template, {}, None)), vocabulary(template))
