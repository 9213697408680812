"""Kinds of things that a template never prints are named, with what to do, before anything else is said of a row."""

import json
from typing import Any

import pytest

from orca_recipes.contract.templates.chat_template import ChatTemplate
from orca_recipes.contract.templates.dialogues import Dialogue
from orca_recipes.contract.templates.left_out import LeftOut
from orca_recipes.contract.templates.template_ends import rendering_of
from tests.contract.templates.test_template_ends import VOCABULARY

PLAIN = "{% for m in messages %}{{ m.role + ' ' + m.content + '<|end|>' }}{% endfor %}"
TOOLED = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}" + PLAIN
USERS = PLAIN.replace("in messages", "in messages if m.role in ['user', 'assistant']")
CALLED = "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
WHOLE = TOOLED.replace("m.content", "(m.thinking or '') + m.content").replace("{% endfor %}", CALLED + "{% endfor %}")
CALL = json.dumps([{"function": {"name": "look", "arguments": {"at": "it"}}}])
TOOLS = ({"function": {"name": "look"}},)


def reason(template: str, *messages: dict[str, Any], tools: Any = ()) -> str | None:
    made = ChatTemplate(template, {}, None)
    told = [{"role": "user", "content": "look"}, *messages]
    return LeftOut(made, rendering_of(made, VOCABULARY)).reason(told, Dialogue(told, tools))


def answer(**more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "", **more}


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (USERS, "reasoning, tools, tool_calls, role tool"),
        (PLAIN, "reasoning, tools, tool_calls"),
        (TOOLED, "reasoning, tool_calls"),
    ],
)
def test_all_that_a_template_never_prints_is_named_at_once(template: str, said: str) -> None:
    messages = (answer(reasoning="hm", tool_calls=CALL), {"role": "tool", "content": "look"})
    assert reason(template, *messages, tools=TOOLS) == f"{said}: the chat template prints none; use another one"
    assert reason(WHOLE, *messages, tools=TOOLS) is None


@pytest.mark.parametrize(("key", "more"), [("reasoning", {"reasoning": "hm"}), ("tools", {})])
def test_what_an_answer_can_do_without_may_be_left_out(key: str, more: dict[str, str]) -> None:
    said = reason(PLAIN, answer(**more), tools=() if more else TOOLS)
    assert said == f"{key}: the chat template prints none; use another one, or name the key in ignore_keys"


def test_a_call_is_lost_where_its_tool_alone_is_printed() -> None:
    """A call before the answer is found by name in the list of tools, though nothing of it is printed."""
    said = reason(TOOLED, answer(tool_calls=CALL), answer(content="It is."), tools=TOOLS)
    assert said == "tool_calls: the chat template prints none; use another one"


def test_a_template_that_refuses_such_rows_says_so_itself() -> None:
    raising = "{% if tools %}{{ raise_exception('no tools') }}{% endif %}" + PLAIN
    assert reason(raising, answer(content="It is."), tools=TOOLS) is None
