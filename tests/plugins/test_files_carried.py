"""What rows hold beside texts is carried: thoughts, calls, names, tools, variables of the template, in every format."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from orca_plugins.sources.files.kind import Files
from tests.plugins.rows_in_files import FORMATS, read

ASKED = {"role": "user", "content": "2+2?"}
TOOL = {"type": "function", "function": {"name": "add"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"b": 2, "a": [2, 5]}}}


def spelt(call: dict[str, Any]) -> dict[str, Any]:
    return {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}


def turns(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a row, without what is null."""
    return [{key: value for key, value in turn.items() if value is not None} for turn in row["messages"]]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("call", [CALL, spelt(CALL), {"id": "c1", **CALL["function"]}], ids=["object", "text", "flat"])
def test_calls_are_read_whatever_their_spelling(call: dict[str, Any], name: str):
    reply = {"role": "tool", "content": "4", "tool_call_id": "c1", "name": "add"}
    talk = [ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}, reply]
    (row,), rejected = read([{"messages": talk, "tools": [TOOL]}], name)
    assert not rejected
    _, said, replied = turns(row)
    assert (said["content"], said["trained"]) == ("", True)
    assert said["tool_calls"] == json.dumps([CALL])
    assert replied == {**reply, "trained": False}
    assert row["tools"] == json.dumps([TOOL])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking", "think"])
def test_thoughts_are_read_under_their_several_names(key: str, name: str):
    (row,), rejected = read([{"messages": [ASKED, {"role": "assistant", "content": "4", key: " two\n"}]}], name)
    assert (turns(row)[1]["reasoning"], rejected) == (" two\n", [])
    (plain,), _ = read(
        [{"messages": [ASKED, {"role": "assistant", "content": "4", key: "t"}]}], name, ignore_keys=(key,)
    )
    assert "reasoning" not in turns(plain)[1]


@pytest.mark.parametrize("name", FORMATS)
def test_thoughts_and_calls_of_others_would_be_lost(name: str):
    rows = [
        {"messages": [{**ASKED, "thinking": "hm"}]},
        {"messages": [{**ASKED, "tool_call_id": "c"}]},
        {"messages": [{**ASKED, "function_call": {"name": "f"}}]},
        {"messages": [{"role": "assistant", "content": "4", "thinking": "a", "reasoning": "b"}]},
    ]
    reasons = [why for row in rows for _, why in read([row], name)[1]]
    keys = ("thinking", "tool_call_id", "function_call")
    lost = [f'messages: "{key}" would be lost; ignore_keys = ["{key}"] reads such rows without it' for key in keys]
    assert reasons == [*lost, 'messages: "reasoning" and "thinking" of a message differ']


@pytest.mark.parametrize("name", FORMATS)
def test_a_function_call_of_old_and_who_speaks_are_carried(name: str):
    talk = [
        {**ASKED, "name": "bob"},
        {"role": "assistant", "content": "", "function_call": {"name": "add", "arguments": '{"a": 1}'}},
        {"role": "function", "content": "4", "name": "add"},
    ]
    (row,), rejected = read([{"messages": talk, "functions": [{"name": "add"}]}], name)
    assert not rejected
    asked, said, replied = turns(row)
    assert asked["name"] == "bob"
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    assert said["tool_calls"] == json.dumps([call])
    assert (replied["role"], replied["name"]) == ("tool", "add")
    assert row["tools"] == json.dumps([TOOL])


@pytest.mark.parametrize("name", FORMATS)
def test_sharegpt_with_functions_is_read(name: str):
    talk = [
        {"from": "human", "value": "time?"},
        {"from": "function_call", "value": '{"name": "now", "arguments": {}}'},
        {"from": "observation", "value": "12:00"},
        {"from": "gpt", "value": "Noon."},
    ]
    row = {"conversations": talk, "tools": '[{"name": "now"}]'}
    (row,), rejected = read([row], name, columns={"messages": "conversations"})
    assert not rejected
    assert [(turn["role"], turn["content"], turn["trained"]) for turn in turns(row)] == [
        ("user", "time?", False),
        ("assistant", "", True),
        ("tool", "12:00", False),
        ("assistant", "Noon.", True),
    ]
    (call,) = json.loads(turns(row)[1]["tool_calls"])
    assert call["function"] == {"name": "now", "arguments": {}}


@pytest.mark.parametrize("name", FORMATS)
def test_roles_are_known_whatever_their_case_and_a_recipe_says_what_others_are(name: str):
    names = ["Developer", "USER", "Model", "ipython", "model"]
    rows = [{"messages": [{"role": role, "content": role} for role in names]}, {"messages": [{**ASKED, "role": "npc"}]}]
    (row,), rejected = read(rows, name)
    assert [turn["role"] for turn in turns(row)] == ["system", "user", "assistant", "tool", "assistant"]
    ((place, sentence),) = rejected
    assert place == 2
    assert sentence.endswith(
        '"npc" is none of system, user, assistant, tool; roles = { "npc" = "..." } says which it is'
    )
    kept, rejected = read(rows, name, roles={"npc": "user", "ipython": "user"})
    assert not rejected
    assert [[turn["role"] for turn in turns(row)] for row in kept] == [
        ["system", "user", "assistant", "user", "assistant"],
        ["user"],
    ]


def test_a_role_is_none_but_ours():
    with pytest.raises(ValidationError, match='"npc" is "player", which is none of system, user'):
        Files(path=Path("x.jsonl"), roles={"npc": "player"})


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_of_tools_may_have_any_name_and_what_is_twice_there_must_agree(name: str):
    rows = [{"question": "q", "my_tools": '[{"name": "add"}]'}, {"question": "q", "my_tools": "[]"}]
    kept, rejected = read(rows, name, columns={"question": "question", "tools": "my_tools"})
    assert ([row["tools"] for row in kept], rejected) == ([json.dumps([TOOL]), None], [])
    rows = [{"messages": [ASKED], "tools": '[{"name": "a"}]', "functions": '[{"name": "b"}]'}]
    assert read(rows, name) == ([], [(1, "tools: the row has them twice, and they differ")])


@pytest.mark.parametrize("name", FORMATS)
def test_variables_of_the_template_are_read_beside_messages(name: str):
    rows = [{"messages": [ASKED], "chat_template_kwargs": {"enable_thinking": False}}, {"messages": [ASKED]}]
    kept, rejected = read(rows, name)
    assert [row["template_kwargs"] for row in kept] == ['{"enable_thinking": false}', None]
    assert not rejected


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("value", ["", [], " "])
def test_an_empty_value_of_a_variable_is_a_value(name: str, value: object):
    kept, rejected = read([{"messages": [ASKED], "chat_template_kwargs": {"x": value}}], name)
    assert ([json.loads(row["template_kwargs"]) for row in kept], rejected) == ([{"x": value}], [])


def test_fields_of_structs_that_are_null_are_no_arguments(tmp_path: Path):
    calls = [{"name": "f", "arguments": {"a": 1, "b": None}}, {"name": "g", "arguments": {"a": None, "b": "x"}}]
    talk = [{"role": "assistant", "content": None, "tool_calls": calls}]
    pq.write_table(pa.table({"messages": [[ASKED, {**talk[0], "content": ""}]]}), tmp_path / "rows.parquet")
    source = Files(path=tmp_path / "rows.parquet")
    (reading,) = [found for piece in source.slices(slice_bytes=1 << 20) for found in source.read(slice=piece)]
    said = json.loads(turns(reading.rows.to_dicts()[0])[1]["tool_calls"])
    assert [call["function"]["arguments"] for call in said] == [{"a": 1}, {"b": "x"}]


def test_rows_that_hold_more_do_not_slow_the_others_down_into_another_order(tmp_path: Path):
    plain = {"messages": [ASKED, {"role": "assistant", "content": "4"}]}
    more = {"messages": [ASKED, {"role": "assistant", "content": "4", "tool_calls": [CALL]}], "tools": [TOOL]}
    rows = [more if place % 7 == 0 else plain for place in range(100)]
    kept, rejected = read(rows)
    assert (kept, rejected) == read(rows, "rows.json")
    assert [row["tools"] is not None for row in kept] == [place % 7 == 0 for place in range(100)]
