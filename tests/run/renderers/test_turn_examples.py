"""Examples in spans: each piece of text belongs to the message that it opens, says or closes."""

import json
import re
from typing import Any

from orca_recipes.contract.templates.turn_texts import TurnText
from orca_recipes.run.renderers.turn_examples import TurnExample, spans_of
from orca_recipes.shards.layout import ROLES
from orca_recipes.shards.records import ALL_TURNS

CONTROL = re.compile(r"<\|im_start\|>|<\|im_end\|>|<\|user\|>|<\|assistant\|>|<\|tool\|>")


def spans(messages: list[dict[str, Any]], prompt: str, answer: str) -> list[tuple[str, str]]:
    turn = TurnText(len(messages) - 1, 2, prompt, answer)
    found = spans_of(TurnExample(0, ALL_TURNS, [turn]), messages, CONTROL)
    joined: list[tuple[str, str]] = []
    for span in found:
        role = ROLES[span.role]
        before = joined.pop()[1] if joined and joined[-1][0] == role else ""
        joined.append((role, before + span.text))
    return joined


def test_a_message_that_only_calls_a_tool_is_the_assistants() -> None:
    call = {"function": {"name": "look", "arguments": {"what": 'the "sky"', "how": 2}}}
    messages = [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": "", "tool_calls": json.dumps([call])},
        {"role": "tool", "content": "blue"},
        {"role": "assistant", "content": "Blue."},
    ]
    called = f"<|im_start|>assistant\n{json.dumps(call['function'])}<|im_end|>\n"
    asked, replied = "<|im_start|>user\nLook<|im_end|>\n", "<|im_start|>tool\nblue<|im_end|>\n"
    found = spans(messages, f"{asked}{called}{replied}<|im_start|>assistant\n", "Blue.<|im_end|>")
    assert found == [
        ("user", asked),
        ("assistant", called),
        ("tool", replied),
        ("assistant", "<|im_start|>assistant\nBlue.<|im_end|>"),
    ]


def test_what_closes_a_call_is_not_the_replys_where_one_control_token_begins_each_message() -> None:
    """In the manner of GLM: nothing but the next header ends a message."""
    call = {"function": {"name": "look", "arguments": {"what": "sky"}}}
    messages = [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": "", "tool_calls": json.dumps([call])},
        {"role": "tool", "content": "blue"},
        {"role": "assistant", "content": "Blue."},
    ]
    called = "<|assistant|>\n<think></think>\n<call>look\n<key>what</key><value>sky</value>\n</call>"
    replied = "<|tool|>\n<reply>\nblue\n</reply>"
    found = spans(messages, f"<|user|>\nLook{called}{replied}<|assistant|>\n", "Blue.<|user|>")
    assert found == [
        ("user", "<|user|>\nLook"),
        ("assistant", called),
        ("tool", replied),
        ("assistant", "<|assistant|>\nBlue.<|user|>"),
    ]
