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


TOOLS = '# Tools\n{"name": "look"}'
ASKED = [{"role": "user", "content": "Look"}, {"role": "assistant", "content": "Blue."}]


def test_tools_before_the_first_message_are_the_systems() -> None:
    said, asked = f"<|im_start|>system\n{TOOLS}<|im_end|>\n", "<|im_start|>user\nLook<|im_end|>\n"
    answer = "<|im_start|>assistant\n", "Blue.<|im_end|>"
    assert spans(ASKED, said + asked + answer[0], answer[1]) == [
        ("system", said),
        ("user", asked),
        ("assistant", "".join(answer)),
    ]


def test_a_header_of_two_control_tokens_is_told_from_what_stands_before_it() -> None:
    control = re.compile(r"<\|(?:start|end)_header\|>|<\|eot\|>|<\|begin\|>")
    said = f"<|begin|><|start_header|>system<|end_header|>\n{TOOLS}<|eot|>"
    asked, header = "<|start_header|>user<|end_header|>\nLook<|eot|>", "<|start_header|>assistant<|end_header|>\n"
    turn = TurnText(1, 2, said + asked + header, "Blue.<|eot|>")
    found = [(ROLES[span.role], span.text) for span in spans_of(TurnExample(0, ALL_TURNS, [turn]), ASKED, control)]
    assert found[0] == ("system", said)
    assert "".join(text for role, text in found if role == "user") == asked


def test_a_header_without_the_answers_control_token_begins_at_the_last_one() -> None:
    said, answer = f"<|system|>\n{TOOLS}", "Blue.<|user|>"
    assert spans(ASKED, f"{said}<|user|>\nLook<|assistant|>\n", answer)[:2] == [
        ("system", said),
        ("user", "<|user|>\nLook"),
    ]


def test_control_tokens_alone_before_the_first_header_stay_with_it() -> None:
    begin = "<|im_end|><|im_start|>user\n"
    assert spans(ASKED, f"{begin}Look<|im_end|>\n<|im_start|>assistant\n", "Blue.<|im_end|>")[0] == (
        "user",
        f"{begin}Look<|im_end|>\n",
    )


def test_an_earlier_answer_is_found_without_the_thought_that_history_leaves_out() -> None:
    said = {"role": "assistant", "content": "<think>\nThe sky.\n</think>\n\nBlue."}
    messages = [ASKED[0], said, {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "Red."}]
    earlier = "<|user|>Look", "<|assistant|>\n<think></think>\nBlue.", "<|user|>And now?"
    assert spans(messages, "".join(earlier) + "<|assistant|>\n", "Red.<|user|>") == [
        ("user", earlier[0]),
        ("assistant", earlier[1]),
        ("user", earlier[2]),
        ("assistant", "<|assistant|>\nRed.<|user|>"),
    ]


def test_a_system_message_in_the_last_question_hides_no_message_before_it() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        *ASKED,
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "Red."},
    ]
    earlier = "<|user|>Look", "<|assistant|>Blue.", "<|user|>Be brief.\n\nAnd now?"
    assert spans(messages, "".join(earlier) + "<|assistant|>", "Red.<|user|>")[:3] == [
        ("user", earlier[0]),
        ("assistant", earlier[1]),
        ("user", earlier[2]),
    ]
