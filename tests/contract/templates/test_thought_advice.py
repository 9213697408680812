"""What is advised for a thought behind a prompt that closes it was tried: the row is trained so."""

from typing import Any

import pytest

from orca_recipes.contract.encoder import Vocabulary
from orca_recipes.contract.templates.chat_template import ChatTemplate
from orca_recipes.contract.templates.dialogues import Dialogue
from orca_recipes.contract.templates.template_ends import rendering_of
from orca_recipes.contract.templates.thought_advice import ThoughtAdvice
from orca_recipes.contract.templates.turn_texts import Closed, TurnWriter
from tests.contract.templates.test_turn_texts import CONTROL, QWEN3, talk

CLOSING = QWEN3.replace("enable_thinking is defined and enable_thinking is false", "not enable_thinking")
UNDER_A_KEY = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{{ '<think>' + (m.reasoning_content or '' if thinking else '') + '</think>' }}{% endif %}"
    "{{ m.content.split('</think>')[-1] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n<think>' + ('' if thinking else '</think>') }}{% endif %}"
)
"""In the manner of DeepSeek V3.2's: a thought has a key only where thinking is on."""
NEVER = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content.split('</think>')[-1] }}"
NEVER += "{{ ('!' if enable_thinking else '') + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
NEVER += "{{ '<|im_start|>assistant\n' + ('x' if enable_thinking else '<think></think>') }}{% endif %}"
"""A variable leaves the thought open, and the answer is printed otherwise then."""


def advice(template: str, **variables: Any) -> str:
    vocabulary = Vocabulary(
        size=100,
        control={text: place for place, text in enumerate(CONTROL)},
        other_added={},
        eats_space=frozenset(),
        bos=None,
        eos="</s>",
        pad=None,
        chat_template=template,
    )
    made = ChatTemplate(template, {}, None)
    rendering = rendering_of(made, vocabulary)
    messages = talk("user: One?", "assistant: 1")
    messages[1]["reasoning"] = "I count."
    dialogue = Dialogue(messages, variables=variables)
    with pytest.raises(Closed):
        TurnWriter(made, rendering, CONTROL, None).turns(dialogue)
    return ThoughtAdvice(made, rendering, vocabulary).advice(dialogue)


@pytest.mark.parametrize(("template", "name"), [(CLOSING, "enable_thinking"), (UNDER_A_KEY, "thinking")])
def test_the_variable_that_leaves_the_thought_open_is_named(template: str, name: str) -> None:
    assert advice(template) == f"; set variables = {{ {name} = true }} in [template]"


def test_a_variable_that_does_not_help_is_not_advised() -> None:
    assert advice(NEVER) == ""


def test_a_row_that_closes_its_own_thought_is_told_so() -> None:
    said = "; its chat_template_kwargs say enable_thinking = false"
    assert advice(QWEN3, enable_thinking=False) == said
