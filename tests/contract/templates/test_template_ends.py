"""What is found out of a template: its ends, its names for reasoning, how it wants calls and contents."""

from dataclasses import replace
from typing import Any

import pytest

from orca_recipes.contract.encoder import Vocabulary
from orca_recipes.contract.rendering import Rendering, rendering_from_json
from orca_recipes.contract.templates.chat_template import ChatTemplate
from orca_recipes.contract.templates.template_ends import rendering_of
from orca_recipes.errors import TemplateError

ASK = "{% if add_generation_prompt %}<|A|>{% endif %}"
HEAD = "{{ '<|A|>' if m.role == 'assistant' else '<|U|>' }}"
VOCABULARY = Vocabulary(
    size=10,
    control={text: place for place, text in enumerate(("<|A|>", "<|U|>", "<|end|>", "<|call|>", "</s>", "<s>"))},
    other_added={},
    eats_space=frozenset(),
    bos="<s>",
    eos="</s>",
    pad=None,
    chat_template=None,
)


def found(body: str, vocabulary: Vocabulary = VOCABULARY, **options: Any) -> Rendering:
    text = "{% for m in messages %}" + HEAD + body + "{% endfor %}" + ASK
    return rendering_of(ChatTemplate(text, {}, None), vocabulary, **options)


def test_an_end_that_is_printed_alike_everywhere_is_the_end() -> None:
    known = found("{{ m.content + ' <|end|>\n' }}")
    assert (known.ends, known.is_printed, known.lead, known.extra) == (("<|end|>",), True, " ", "\n")


def test_what_a_last_answer_ends_with_is_the_end_where_history_has_another() -> None:
    assert found("{{ m.content + ('<|call|>' if loop.last else '<|end|>') }}").ends == ("<|call|>",)


def test_an_end_of_the_whole_conversation_is_no_part_of_an_answer() -> None:
    known = found("{{ m.content + '<|end|>' + ('</s>' if loop.last and not add_generation_prompt else '') }}")
    assert (known.ends, known.extra) == (("<|end|>",), "</s>")


def test_a_header_that_is_printed_behind_an_answer_is_no_end() -> None:
    known = found("{{ m.content + '<|end|>' + ('<|U|>' if loop.last and m.role == 'assistant' else '') }}")
    assert known.ends == ("<|end|>",)


def test_calls_may_have_an_end_of_their_own() -> None:
    call = "{{ m.tool_calls[0].function | tojson }}<|call|>"
    body = "{{ m.content }}{% if m.tool_calls %}" + call + "{% else %}<|end|>{% endif %}"
    assert found(body).ends == ("<|end|>", "<|call|>")


def test_an_end_that_only_history_shows_is_put_behind_each_answer() -> None:
    known = found("{{ m.content + ('' if loop.last else '\n<|end|>') }}")
    assert (known.ends, known.is_printed, known.lead) == (("<|end|>",), False, "\n")


def test_the_tokenizers_end_stands_in_where_none_is_printed_and_the_recipe_may_name_another() -> None:
    assert found("{{ m.content }}").ends == ("</s>",)
    assert found("{{ m.content }}", terminator="<|U|>").ends == ("<|U|>",)
    with pytest.raises(TemplateError, match=r"template.terminator: .* names none that ends a text"):
        found("{{ m.content }}", replace(VOCABULARY, eos=None))
    with pytest.raises(TemplateError, match=r"template.terminator: \[END\] is no control token"):
        found("{{ m.content }}", terminator="[END]")
    with pytest.raises(TemplateError, match=r"itself ends an answer by <\|end\|>; leave `terminator` out"):
        found("{{ m.content + '<|end|>' }}", terminator="</s>")
    with pytest.raises(TemplateError, match=r"prints '\[END\]' after an answer, which holds no control token"):
        found("{{ m.content + '[END]' }}")


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_the_key_of_reasoning_is_found(key: str) -> None:
    assert found("{{ m." + key + " or '' }}{{ m.content }}").reasoning == key


def test_reasoning_stands_in_the_content_where_a_template_knows_its_marks_alone() -> None:
    assert found("{{ m.content if '</think>' in m.content else m.content }}").reasoning == "content"
    known = found("{{ m.content.split('</think>')[-1] }}{# <think> #}")
    assert (known.reasoning, known.marks) == ("prompt", ("<think>", "</think>"))
    assert found("{{ m.content }}").reasoning == ""
    assert found("{{ m.reasoning }}{{ '[THINK][/THINK]' + m.content }}").marks == ("[THINK]", "[/THINK]")


def test_arguments_are_given_as_an_object_or_as_text() -> None:
    call = "{{ m.content }}{% for c in m.tool_calls or [] %}{{ ARGUMENTS }}{% endfor %}"
    assert found(call.replace("ARGUMENTS", "c.function.arguments | tojson")).arguments == "object"
    assert found(call.replace("ARGUMENTS", "'a' + c.function.arguments")).arguments == "text"
    assert found(call.replace("ARGUMENTS", "c.function.arguments")).arguments == "text"


def test_contents_are_given_as_parts_where_a_template_reads_parts() -> None:
    assert found("{% for p in m.content %}{{ p.text }}{% endfor %}").contents == "parts"
    assert found("{{ m.content }}").contents == "text"


def test_a_template_that_needs_tools_is_known_by_them() -> None:
    assert found("{% for t in tools %}{{ t.function.name }}{% endfor %}{{ m.content + '<|end|>' }}").ends == (
        "<|end|>",
    )


def test_a_template_that_prints_no_dialogue_is_refused_with_the_case() -> None:
    with pytest.raises(TemplateError, match=r"no row can be rendered .* assistant 'answer_words' it says 'no'"):
        found("{{ raise_exception('no') }}")
    with pytest.raises(TemplateError, match="it prints the answer 2 times"):
        found("{{ m.content + m.content }}")


def test_bos_is_known_from_the_prompt() -> None:
    assert found("{{ ('<s>' if loop.first else '') + m.content + '<|end|>' }}").opens is False
    text = "<s>{% for m in messages %}{{ m.content + '<|end|>' }}{% endfor %}"
    assert rendering_of(ChatTemplate(text, {}, None), VOCABULARY).opens


def test_marks_that_a_template_puts_together_are_known_from_its_prompt() -> None:
    pieces = "{% set of = ':opensource>' %}{% for m in messages %}{{ m.content + '<|end|>' }}{% endfor %}"
    pieces += "{% if add_generation_prompt %}{{ '<think' + of + '</think' + of }}{% endif %}"
    marks = rendering_of(ChatTemplate(pieces, {}, None), VOCABULARY).marks
    assert marks == ("<think:opensource>", "</think:opensource>")


def test_a_rendering_is_read_back_from_json() -> None:
    known = found("{{ m.content + '<|end|>' }}", history="last", empty_thought="reject")
    assert rendering_from_json(known.as_json()) == known
