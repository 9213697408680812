"""Calls and replies of tools that texts hold between tags, as Hermes and Qwen write them."""

import json

import pytest

from orca_plugins.sources.files.shapes import equally_fitting, fitting
from tests.plugins.rows_in_files import FORMATS, read

TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]
HERMES = (
    "You are a function calling AI model. You are provided with function signatures within <tools> </tools> XML tags. "
    "You may call one or more functions to assist with the user query. Don't make assumptions about what values to "
    "plug into functions.\n<tools>\n{tools}\n</tools>\nFor each function call return a json object with function name "
    "and arguments within <tool_call> </tool_call> tags with the following schema:\n<tool_call>\n"
    "{'arguments': <args-dict>, 'name': <function-name>}\n</tool_call>\n"
)
PYDANTIC = (
    "Be kind. You are provided with function signatures within <tools></tools> XML tags. You may call one or more "
    "functions to assist with the user query. Don't make assumptions about what values to plug into functions. Here "
    "are the available tools: <tools> {tools} </tools> Use the following pydantic model json schema for each tool call "
    'you will make: {"properties": {"name": {"type": "string"}}, "type": "object"} For each function call return a '
    "json object with function name and arguments within <tool_call></tool_call> XML tags as follows:\n<tool_call>\n"
    '{"arguments": <args-dict>, "name": <function-name>}\n</tool_call> Today is Monday.'
)
QWEN = (
    "Be kind.\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with "
    "function signatures within <tools></tools> XML tags:\n<tools>\n{tools}\n</tools>\n\nFor each function call, "
    "return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


def talk(*turns: tuple[str, str]) -> list[dict]:
    return [{"from": who, "value": text} for who, text in turns]


def chat(*turns: tuple[str, str]) -> list[dict]:
    roles = {"human": "user", "gpt": "assistant"}
    return [{"role": roles.get(who, who), "content": text} for who, text in turns]


def said(row: dict) -> list[tuple]:
    """Role, text, and name and arguments of the calls of each message."""
    return [
        (
            message["role"],
            message["content"],
            [
                (call["function"]["name"], call["function"]["arguments"])
                for call in json.loads(message["tool_calls"] or "[]")
            ],
        )
        for message in row["messages"]
    ]


CALL = "I look.\n<tool_call>\n{'arguments': {'zone': \"it's UTC\", 'is_dst': False}, 'name': 'now'}\n</tool_call>\n"
TWO = '<tool_call>{"name": "now", "arguments": {"zone": null}}</tool_call>\n<tool_call>\n{"name": "now"}\n</tool_call>'
TURNS = (
    ("human", "What time is it? <tool_call> is a tag."),
    ("gpt", CALL),
    ("tool", '<tool_response>\n{"name": "now", "content": "12:00"}\n</tool_response>'),
    ("gpt", TWO),
    ("human", "<tool_response>\n  1\n</tool_response>\n<tool_response>\n2\n</tool_response>"),
    ("gpt", "Noon."),
)
READ = [
    ("user", "What time is it? <tool_call> is a tag.", []),
    ("assistant", "I look.", [("now", {"zone": "it's UTC", "is_dst": False})]),
    ("tool", '{"name": "now", "content": "12:00"}', []),
    ("assistant", "", [("now", {"zone": None}), ("now", {})]),
    ("tool", "  1", []),
    ("tool", "2", []),
    ("assistant", "Noon.", []),
]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("system", "left"),
    [
        (HERMES, "You are a function calling AI model."),
        (PYDANTIC, "Be kind.\n\nToday is Monday."),
        (QWEN, "Be kind."),
        ("Use these: <tools>{tools}</tools> Or none.", "Use these:\n\nOr none."),
    ],
)
@pytest.mark.parametrize("spelt", ["list", "lines", "python"])
def test_calls_replies_and_tools_are_read_out_of_the_texts(format: str, system: str, left: str, spelt: str):
    tools = {"list": json.dumps(TOOLS), "lines": "\n".join(map(json.dumps, TOOLS)), "python": repr(TOOLS)}[spelt]
    row = {"conversations": talk(("system", system.replace("{tools}", tools)), *TURNS), "tools": json.dumps(TOOLS)}
    assert equally_fitting([row]) == ["hermes"]
    (found,), rejected = read([row], format, shape="hermes")
    assert rejected == []
    assert said(found) == [("system", left, []), *READ]
    assert json.loads(found["tools"]) == TOOLS
    assert [message["trained"] for message in found["messages"]] == [role == "assistant" for role, *_ in said(found)]


def test_messages_of_openai_with_tags_are_told_apart_from_those_without():
    row = {"messages": chat(*TURNS)}
    assert equally_fitting([row]) == ["hermes_messages"]
    (found,), _ = read([row], shape="hermes_messages")
    assert (said(found), found["tools"]) == (READ, None)
    plain = {"messages": chat(("human", "What is XML?"), ("gpt", "A format."))}
    assert equally_fitting([plain]) == ["openai"]
    assert "hermes_messages" in fitting([plain, row])
    for text in ("<tool_call>now</tool_call>", "Write <tool_call> before a call and </tool_call> behind."):
        assert equally_fitting([{"conversations": talk(("human", "Time?"), ("gpt", text))}]) == ["sharegpt"]
    assert [said(one) for one in read([plain, row], shape="hermes_messages")[0]] == [
        [("user", "What is XML?", []), ("assistant", "A format.", [])],
        READ,
    ]


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ((("gpt", "<tool_call>{'name': now}</tool_call>"),), "message 2: a call that is no JSON ({'name': now})"),
        ((("gpt", '<tool_call>{"name": "now"}'),), "message 2: a <tool_call> that does not end"),
        ((("gpt", '{"name": "now"}</tool_call>'),), "message 2: a </tool_call> that closes nothing"),
        ((("gpt", "<tool_call>[1]</tool_call>"),), "message 2: a call that is no object"),
        (
            (("gpt", "<tool_response>1</tool_response>"),),
            "message 2: a <tool_response> in an answer, which would train",
        ),
        ((("gpt", '<tool_call>{"name": "now"}</tool_call> Wait.'),), "message 2: words behind a <tool_call>"),
        (
            (("gpt", "Hm."), ("human", "<tool_response>1</tool_response> And?"), ("gpt", "1")),
            "message 3: words beside a <tool_response>, and a tool's turn is its reply alone",
        ),
        ((("gpt", '<tool_call>{"arguments": {}}</tool_call>'),), "message 2: a call without a name"),
        ((("gpt", '<tool_call>{"arguments": {"a": 1}}</tool_call>'),), "messages: tool_calls: a call without a name"),
    ],
)
def test_what_cannot_be_read_rejects_its_row_with_the_message(turns: tuple, why: str):
    row = {"conversations": talk(("human", "What time is it?"), *turns)}
    good = {"conversations": talk(*TURNS)}
    rows, rejected = read([good, row], shape="hermes")
    assert len(rows) == 1
    assert rejected[0][0] == 2
    assert why in rejected[0][1]


def test_tools_that_differ_from_those_beside_are_told():
    system = HERMES.replace("{tools}", json.dumps(TOOLS))
    other = [{**TOOLS[0], "function": {"name": "then"}}]
    row = {"conversations": talk(("system", system), *TURNS), "tools": json.dumps(other)}
    assert read([row], shape="hermes")[1] == [(1, "tools: the row has them twice, and they differ")]
    broken = {"conversations": talk(("system", HERMES.replace("{tools}", "[{'name': now}]")), *TURNS)}
    assert read([broken], shape="hermes")[1] == [(1, "tools: the system message spells them as text that is no JSON")]
