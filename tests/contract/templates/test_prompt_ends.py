"""What stands between a prompt and its answer: white space that no history has, and thoughts that are closed."""

import json

import pytest

from tests.contract.templates.test_turn_texts import talk, turns

STRAY = (
    "{% for m in messages %}\n    {{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}\n{% endfor %}\n"
    "{% if add_generation_prompt %}\n    {{ '<|im_start|>assistant\n' }}\n{% endif %}"
)
"""Written for people, with a line and spaces around what it prints."""

CHANNEL = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ '<|A|>' + m.content + '<|U|>' }}{% else %}"
    "{% if m.role == 'user' or loop.previtem.role == 'user' %}{{ '<|im_start|>' + m.role + '\n' }}{% endif %}"
    "{% if m.reasoning %}{{ '<|channel>thought\n' + m.reasoning + '\n<channel|>' }}{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function | tojson + '<|call|>' }}{% endfor %}"
    "{% if not m.tool_calls %}{{ '<|im_end|>\n' }}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{% if messages[-1].role == 'tool' %}OPENED{% else %}{{ '<|im_start|>assistant\n' }}"
    "{% if not (enable_thinking | default(true)) %}{{ '<|channel>thought\n<channel|>' }}{% endif %}"
    "{% endif %}{% endif %}"
)
"""In the manner of Gemma 4: behind a tool's reply the same turn goes on."""
SWITCHED = CHANNEL.replace("OPENED", "{% if enable_thinking | default(true) %}{{ '<|channel>thought\n' }}{% endif %}")
ALWAYS = CHANNEL.replace("OPENED", "{{ '<|channel>thought\n' }}")
CONTROL = ("<|im_start|>", "<|im_end|>", "<|A|>", "<|U|>", "<|call|>", "<|channel>", "<channel|>", "</s>")


def test_an_answer_stands_behind_the_white_space_of_its_own_prompt() -> None:
    first, second = turns(STRAY, talk("user: One?", "assistant: 1", "user: Two?", "assistant: 2"))
    assert first.prompt.endswith("<|im_start|>assistant\n\n")
    assert (first.answer, second.answer) == ("1<|im_end|>", "2<|im_end|>")
    assert "<|im_start|>assistant\n1<|im_end|>" in second.prompt


@pytest.mark.parametrize(
    ("template", "prompt"), [(SWITCHED, "4 C<|U|>"), (ALWAYS, "4 C<|U|><|channel>thought\n\n<channel|>")]
)
def test_behind_a_reply_a_thought_is_closed_as_the_template_closes_one(template: str, prompt: str) -> None:
    call = [{"id": "a", "type": "function", "function": {"name": "get", "arguments": {"city": "Oslo"}}}]
    messages = talk("user: Cold?", "assistant: ", "tool: 4 C", "assistant: Yes.")
    messages[1] |= {"tool_calls": json.dumps(call), "trained": False}
    messages[2] |= {"tool_call_id": "a"}
    (turn,) = turns(template, messages, control=CONTROL)
    assert turn.prompt.endswith(prompt)
    assert turn.answer == "Yes.<|im_end|>"
    messages[3]["reasoning"] = "It is 4."
    (turn,) = turns(template, messages, control=CONTROL)
    assert turn.prompt.endswith("4 C<|U|><|channel>thought\n")
    assert turn.answer == "It is 4.\n<channel|>Yes.<|im_end|>"


def test_the_thought_that_a_prompt_closes_is_the_templates_own_whatever_its_text_names() -> None:
    template = "{% set other = '<think></think>' %}" + CHANNEL.replace(
        "(enable_thinking | default(true))", "enable_thinking"
    )
    (turn,) = turns(template, talk("user: One?", "assistant: 1"), control=CONTROL)
    assert turn.prompt.endswith("<|im_start|>assistant\n<|channel>thought\n<channel|>")
    assert turn.answer == "1<|im_end|>"
