"""Trajectories of agents, and chats that spell their calls, as people's files hold them."""

import json
from pathlib import Path

import pytest

from orca_plugins.sources.files.kind import Files
from orca_plugins.sources.files.shapes import equally_fitting
from tests.plugins.rows_in_files import FORMATS, read

CALL = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls -a"}'}}
TOOL = {
    "type": "function",
    "function": {"name": "bash", "parameters": {"type": "object", "properties": {"command": {"type": "string"}}}},
}
ASK, LOOK, SEEN, DONE = "List the files", "I look.", "a.txt\n", "There is a.txt."


def said(row: dict) -> list[tuple]:
    """Role, text, whether it is trained, and the names and arguments of calls."""
    found = []
    for message in row["messages"]:
        calls = [one["function"] for one in json.loads(message["tool_calls"] or "[]")]
        found.append(
            (
                message["role"],
                message["content"],
                message["trained"],
                [(one["name"], one["arguments"]) for one in calls],
            )
        )
    return found


def usual(name: str, arguments: dict, *, look: str = LOOK) -> list[tuple]:
    """What all trajectories here come to."""
    return [
        ("user", ASK, False, []),
        ("assistant", look, True, [(name, arguments)]),
        ("tool", SEEN, False, []),
        ("assistant", DONE, True, []),
    ]


OPENAI = {
    "messages": [
        {"role": "user", "content": ASK},
        {"role": "assistant", "content": None, "reasoning_content": "Use ls.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "name": "bash", "content": SEEN},
        {"role": "assistant", "content": DONE},
    ],
    "tools": [TOOL],
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("as_text", [False, True])
def test_messages_of_openai_bring_calls_thoughts_and_tools(format: str, as_text: bool):
    row = {name: json.dumps(value) for name, value in OPENAI.items()} if as_text else OPENAI
    assert equally_fitting([row]) == ["openai"]
    (found,), rejected = read([row], format, shape="openai")
    assert rejected == []
    assert said(found) == usual("bash", {"command": "ls -a"}, look="")
    assert found["messages"][1]["reasoning"] == "Use ls."
    assert json.loads(found["tools"]) == [TOOL]


def test_turns_of_functions_in_sharegpt_are_calls_and_replies():
    row = {
        "conversations": [
            {"from": "human", "value": ASK},
            {"from": "function_call", "value": '{"name": "bash", "arguments": {"command": "ls"}}'},
            {"from": "observation", "value": SEEN},
            {"from": "gpt", "value": DONE},
        ],
        "tools": json.dumps([TOOL["function"]]),
    }
    assert equally_fitting([row]) == ["sharegpt"]
    (found,), _ = read([row], shape="sharegpt")
    assert said(found) == usual("bash", {"command": "ls"}, look="")
    assert json.loads(found["tools"]) == [TOOL]


GLAIVE_TOOLS = """SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -
{
    "name": "bash",
    "parameters": {"type": "object", "properties": {}}
}
{
    "name": "now"
}
"""


def glaive(call: str) -> dict:
    chat = f"USER: {ASK}\n\n\nASSISTANT: {call} <|endoftext|>\n\n\nFUNCTION RESPONSE: a.txt\n\n\nASSISTANT: {DONE}"
    return {"system": GLAIVE_TOOLS, "chat": chat + " <|endoftext|>\n\n\n"}


@pytest.mark.parametrize("format", FORMATS)
def test_calls_and_tools_that_glaive_spells_are_calls_and_tools(format: str):
    quoted = """<functioncall> {"name": "bash", "arguments": '{"command": "echo \\'a\\'"}'}"""
    (found,), rejected = read([glaive(quoted)], format, shape="glaive")
    assert rejected == []
    assert found["system"] == "You are a helpful assistant"
    assert [tool["function"]["name"] for tool in json.loads(found["tools"])] == ["bash", "now"]
    assert said(found)[1:3] == [
        ("assistant", "", True, [("bash", {"command": "echo 'a'"})]),
        ("tool", "a.txt", False, []),
    ]
    (found,), _ = read([glaive('So: <functioncall> {"name": "bash", "arguments": {"command": "ls"}}')], shape="glaive")
    assert said(found)[1] == ("assistant", "So:", True, [("bash", {"command": "ls"})])


@pytest.mark.parametrize(
    ("chat", "why"),
    [
        ("USER: a\n\n\nASSISTANT: b:\nUSER: c <|endoftext|>\n\n\nUSER: d", "USER: in an answer that did not end with"),
        ("USER: a ASSISTANT: b: ASSISTANT: c <|endoftext|>", "ASSISTANT: in an answer that did not end with"),
        ("USER: a\nUSER: b\nASSISTANT: c", "USER: inside of a user's turn"),
        ("USER: a\nASSISTANT: b ASSISTANT: c <|endoftext|> USER: d", "a turn goes on behind"),
    ],
)
def test_marks_of_glaive_that_may_be_text_are_rejected_by_name(chat: str, why: str):
    _, ((place, reason),) = read([{"chat": chat}], shape="glaive")
    assert place == 1
    assert why in reason


def test_where_marks_of_glaive_begin_lines_others_are_text():
    chat = "USER: What is the USER: field?\n\n\nASSISTANT: It stands before ASSISTANT: here. <|endoftext|>"
    (found,), rejected = read([{"chat": chat}], shape="glaive")
    assert rejected == []
    assert [(one[0], one[1]) for one in said(found)] == [
        ("user", "What is the USER: field?"),
        ("assistant", "It stands before ASSISTANT: here."),
    ]


def test_a_reply_to_several_calls_is_rejected_by_name():
    history = [*HISTORY[:5], {**HISTORY[5], "tool_call_ids": ["c1", "c2"]}, *HISTORY[6:]]
    for shape, row in {"swe_agent": {"history": history}, "swe_smith": {"messages": history}}.items():
        _, rejected = read([{**SWE_AGENT, **row} if shape == "swe_agent" else {**SWE_SMITH, **row}], shape=shape)
        assert rejected == [(1, "messages: an item's tool_call_ids.0 is one of 2, and the others would be lost")]


def test_what_glaive_spells_and_is_no_json_is_told():
    _, rejected = read(
        [glaive("<functioncall> bash ls"), {**glaive("x"), "system": GLAIVE_TOOLS + "{"}], shape="glaive"
    )
    assert [place for place, _ in rejected] == [1, 2]
    assert rejected[0][1].startswith("messages: tool_calls: text that is no JSON")
    assert rejected[1][1] == "tools: the system message spells them as text that is no JSON"


ADP = {
    "schema_version": "1.5.0",
    "id": "a-1",
    "content": [
        {"class_": "text_observation", "content": ASK, "name": None, "source": "user"},
        {
            "class_": "code_action",
            "language": "bash",
            "content": "ls -a",
            "description": LOOK,
            "tool_call_id": "call_000001",
            "reasoning_content": "Use ls.",
            "reward": 0.5,
        },
        {"class_": "text_observation", "content": SEEN, "source": "environment", "tool_call_id": "call_000001"},
        {"class_": "message_action", "content": DONE, "description": None},
    ],
    "details": {"dataset": "mine"},
}
ATIF = {
    "schema_version": "ATIF-v1.6",
    "session_id": "s-1",
    "agent": {"name": "a", "version": "1", "model_name": "m", "tool_definitions": [TOOL]},
    "steps": [
        {"step_id": 1, "timestamp": "2026-01-01T00:00:00Z", "source": "user", "message": ASK},
        {
            "step_id": 2,
            "source": "agent",
            "model_name": "m",
            "message": LOOK,
            "reasoning_content": "Use ls.",
            "tool_calls": [{"tool_call_id": "c1", "function_name": "bash", "arguments": {"command": "ls -a"}}],
            "observation": {"results": [{"source_call_id": "c1", "content": SEEN}]},
            "metrics": {"prompt_tokens": 12, "cost_usd": 0.1},
        },
        {"step_id": 3, "source": "agent", "message": [{"type": "text", "text": DONE}]},
    ],
    "final_metrics": {"total_steps": 3},
}


def openhands_call(content: str) -> dict:
    message = {"role": "assistant", "content": content, "tool_calls": [{**CALL, "index": 0}]}
    response = {"id": "r1", "created": 1, "choices": [{"finish_reason": "tool_calls", "index": 0, "message": message}]}
    return {"function_name": "bash", "tool_call_id": "c1", "model_response": response, "total_calls_in_response": 1}


OPENHANDS = {
    "instance_id": "a-1",
    "history": [
        {
            "id": 0,
            "timestamp": "2026-01-01T00:00:00",
            "source": "agent",
            "message": "You are",
            "action": "system",
            "args": {"content": "You are OpenHands.", "tools": [TOOL], "agent_class": "CodeActAgent"},
        },
        {
            "id": 1,
            "source": "user",
            "message": ASK,
            "action": "message",
            "args": {"content": ASK, "image_urls": None, "wait_for_response": False},
        },
        {"id": 2, "source": "environment", "message": "", "observation": "agent_state_changed", "content": ""},
        {
            "id": 3,
            "source": "agent",
            "message": "Running command: ls -a",
            "action": "run",
            "args": {"command": "ls -a", "thought": LOOK},
            "tool_call_metadata": openhands_call(LOOK),
        },
        {
            "id": 4,
            "source": "agent",
            "message": "Command executed",
            "cause": 3,
            "observation": "run",
            "content": SEEN,
            "extras": {"metadata": {"exit_code": 0}},
            "success": True,
            "tool_call_metadata": openhands_call(LOOK),
        },
        {"id": 5, "source": "agent", "message": DONE, "action": "message", "args": {"content": DONE}},
        {"id": 6, "source": "user", "message": "go on", "action": "message", "args": {"content": "go on"}},
    ],
}
SDK = {
    "instance_id": "a-1",
    "history": [
        {
            "kind": "SystemPromptEvent",
            "id": "e0",
            "source": "agent",
            "system_prompt": {"cache_prompt": False, "type": "text", "text": "You are OpenHands."},
            "tools": [TOOL],
        },
        {
            "kind": "MessageEvent",
            "id": "e1",
            "source": "user",
            "llm_message": {"role": "user", "content": [{"cache_prompt": False, "type": "text", "text": ASK}]},
        },
        {
            "kind": "ActionEvent",
            "id": "e2",
            "source": "agent",
            "thought": [{"type": "text", "text": LOOK}],
            "action": {"kind": "TerminalAction", "command": "ls -a"},
            "tool_name": "bash",
            "tool_call_id": "c1",
            "tool_call": {"id": "c1", "name": "bash", "arguments": '{"command": "ls -a"}', "origin": "completion"},
            "llm_response_id": "r1",
            "security_risk": "LOW",
        },
        {
            "kind": "ObservationEvent",
            "id": "e3",
            "source": "environment",
            "tool_name": "bash",
            "tool_call_id": "c1",
            "action_id": "e2",
            "observation": {"kind": "TerminalObservation", "content": [{"type": "text", "text": SEEN}], "exit_code": 0},
        },
        {
            "kind": "MessageEvent",
            "id": "e4",
            "source": "agent",
            "llm_message": {"role": "assistant", "content": [{"type": "text", "text": DONE}]},
        },
    ],
}
HISTORY = [
    {"role": "system", "content": "You are an agent.", "agent": "main", "message_type": "system_prompt"},
    {"role": "user", "content": "A demonstration", "agent": "main", "is_demo": True},
    {"role": "assistant", "content": "I submit.", "agent": "main", "is_demo": True},
    {"role": "user", "content": [{"type": "text", "text": ASK}], "agent": "main", "message_type": "observation"},
    {
        "role": "assistant",
        "content": LOOK,
        "thought": LOOK,
        "action": "ls -a",
        "agent": "main",
        "message_type": "action",
        "tool_calls": [CALL],
    },
    {
        "role": "tool",
        "content": [{"type": "text", "text": SEEN, "cache_control": {"type": "ephemeral"}}],
        "agent": "main",
        "message_type": "observation",
        "tool_call_ids": ["c1"],
    },
    {"role": "assistant", "content": DONE, "thought": DONE, "action": "", "agent": "main", "message_type": "action"},
    {"role": "tool", "content": "submitted", "agent": "main", "message_type": "observation"},
]
SWE_AGENT = {
    "trajectory": [{"action": "ls -a", "observation": SEEN, "response": LOOK, "thought": LOOK, "state": {"cwd": "/"}}],
    "history": HISTORY,
    "info": {"exit_status": "submitted"},
    "environment": "swe_main",
}
SWE_SMITH = {
    "messages": json.dumps(HISTORY),
    "instance_id": "a-1",
    "traj_id": "a-1.x",
    "resolved": True,
    "model": "m",
    "patch": "diff",
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("shape", "row", "name", "before"),
    [
        ("adp", ADP, "execute_bash", 0),
        ("atif", ATIF, "bash", 0),
        ("openhands", OPENHANDS, "bash", 1),
        ("openhands_sdk", SDK, "bash", 1),
        ("swe_agent", SWE_AGENT, "bash", 3),
        ("swe_smith", SWE_SMITH, "bash", 3),
    ],
)
def test_a_trajectory_is_the_messages_that_the_model_saw(shape: str, row: dict, name: str, before: int, format: str):
    mixed = {"atif": "steps", "swe_agent": "history"}.get(shape)
    if mixed is not None and format.endswith("parquet"):
        row = {**row, mixed: json.dumps(row[mixed])}  # Parquet holds no lists beside texts in one column
    assert equally_fitting([row]) == [shape]
    (found,), rejected = read([row], format, shape=shape)
    assert rejected == []
    assert said(found)[before:] == usual(name, {"command": "ls -a"})
    assert not any(trained for _, _, trained, _ in said(found)[:before])
    assert found["messages"][before + 2]["tool_call_id"] in ("c1", "call_000001")
    if shape in ("atif", "openhands", "openhands_sdk"):
        assert json.loads(found["tools"]) == [TOOL]
    if shape in ("adp", "atif"):
        assert found["messages"][1]["reasoning"] == "Use ls."


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        ({"class_": "text_observation", "content": SEEN, "source": "web"}, SEEN),
        ({"class_": "text_observation", "content": SEEN, "source": "user"}, SEEN),
        (
            {
                "class_": "web_observation",
                "url": "http://a",
                "axtree": "[1] link",
                "html": "<p>",
                "viewport_size": [2, 1],
            },
            "http://a\n\n[1] link",
        ),
        ({"class_": "web_observation", "url": None, "axtree": None, "html": "<p>", "image_observation": None}, "<p>"),
        (
            {"class_": "json_observation", "content": {"b": 1, "a": [None, 2.5]}, "source": "environment"},
            '{"b": 1, "a": [null, 2.5]}',
        ),
    ],
)
def test_what_an_agent_sees_of_the_web_is_read_as_text(seen: dict, text: str):
    items = [*ADP["content"][:2], {**seen, "tool_call_id": "call_000001"}, ADP["content"][3]]
    (found,), rejected = read([{**ADP, "content": items}], shape="adp")
    assert rejected == []
    reply = found["messages"][2]
    assert (reply["role"], reply["content"], reply["tool_call_id"]) == ("tool", text, "call_000001")


def test_a_page_without_its_picture_is_read_where_the_recipe_says_so():
    page = {"class_": "web_observation", "axtree": "[1] link", "image_observation": {"content": "a.png"}}
    items = [*ADP["content"][:3], page, ADP["content"][3]]
    (found,), _ = read([{**ADP, "content": items}], shape="adp", ignore_keys=("image_observation",))
    assert found["messages"][3]["content"] == "[1] link"


def test_a_text_that_stands_under_two_keys_is_said_once():
    last = {"class_": "message_action", "description": "There is a.txt.", "content": " There is a.txt.\n"}
    (found,), _ = read([{**ADP, "content": [*ADP["content"][:3], last]}], shape="adp")
    assert found["messages"][-1]["content"] == "There is a.txt."
    finish = {"source": "agent", "message": "", "action": "finish"}
    for args, text in (
        ({"thought": "Done.", "final_thought": "Done.", "outputs": {}, "task_completed": "true"}, "Done."),
        ({"thought": "I end.", "final_thought": "Done."}, "I end.\n\nDone."),
    ):
        (found,), _ = read([{"history": [*OPENHANDS["history"], {**finish, "args": args}]}], shape="openhands")
        assert found["messages"][-1]["content"] == text


def test_a_null_among_the_arguments_of_a_call_is_carried_from_json():
    action = {"class_": "api_action", "function": "look", "kwargs": {"at": None, "of": [None]}, "tool_call_id": "c1"}
    (found,), _ = read([{**ADP, "content": [ADP["content"][0], action, ADP["content"][3]]}], shape="adp")
    assert said(found)[1][3] == [("look", {"at": None, "of": [None]})]


def test_calls_of_one_response_are_one_message():
    second = {"id": "c2", "name": "bash", "arguments": "{}"}
    action = SDK["history"][2] | {"thought": [], "tool_call_id": "c2", "tool_call": second}
    rows, _ = read([{"history": [*SDK["history"][:3], action, *SDK["history"][3:]]}], shape="openhands_sdk")
    assert [calls for *_, calls in said(rows[0])] == [[], [], [("bash", {"command": "ls -a"}), ("bash", {})], [], []]
    twice = openhands_call(LOOK) | {"tool_call_id": "c2"}
    again = OPENHANDS["history"][3] | {"tool_call_metadata": twice}
    rows, _ = read([{"history": [*OPENHANDS["history"][:5], again, *OPENHANDS["history"][5:]]}], shape="openhands")
    assert [role for role, *_ in said(rows[0])] == ["system", "user", "assistant", "tool", "assistant"]


def test_turns_of_text_say_by_their_mask_what_is_trained():
    turns = [
        {"role": "system", "system_prompt": "Be brief.", "text": None, "mask": False, "cutoff_date": "01.01.2023"},
        {"role": "user", "text": ASK, "system_prompt": None, "mask": False, "cutoff_date": None},
        {"role": "ai", "text": LOOK, "system_prompt": None, "mask": False, "cutoff_date": None},
        {"role": "user", "text": SEEN, "system_prompt": None, "mask": False, "cutoff_date": None},
        {"role": "ai", "text": DONE, "system_prompt": None, "mask": True, "cutoff_date": None},
    ]
    row = {"instance_id": "a-1", "model_name": "m", "target": True, "trajectory": turns, "exit_status": "submitted"}
    assert equally_fitting([row]) == ["swe_agent_text"]
    for format in FORMATS:
        (found,), _ = read([row], format, shape="swe_agent_text", where={"target": True})
        assert [trained for _, _, trained, _ in said(found)] == [False, False, False, False, True]
        assert found["messages"][0]["content"] == "Be brief."


@pytest.mark.parametrize(
    ("shape", "row", "item", "why"),
    [
        (
            "adp",
            ADP,
            {"class_": "audio_observation", "content": "a.wav"},
            "item 5 is none that this shape knows (class_ = audio",
        ),
        ("adp", ADP, {"class_": "image_observation", "content": "a.png"}, "item 5 is a picture, and only text is read"),
        (
            "adp",
            ADP,
            {"class_": "web_observation", "html": None, "url": "u", "image_observation": {"content": "a.png"}},
            "item 5 is a page of which there is but a picture, and only text is read",
        ),
        (
            "adp",
            ADP,
            {"class_": "web_observation", "axtree": "[1] link", "image_observation": {"content": "a.png"}},
            '"image_observation" would be lost; ignore_keys = ["image_observation"] reads such rows without it',
        ),
        ("atif", ATIF, {"step_id": 4, "source": "agent", "message": "x", "plan": "y"}, '"plan" would be lost'),
        (
            "atif",
            ATIF,
            {"source": "agent", "observation": {"results": [{"content": "x", "subagent_trajectory_ref": [{"a": 1}]}]}},
            '"subagent_trajectory_ref" would be lost; ignore_keys = ["subagent_trajectory_ref"] reads',
        ),
        (
            "openhands",
            OPENHANDS,
            {"source": "agent", "message": "", "action": "system"},
            "(action = system, source = ag",
        ),
        (
            "openhands",
            OPENHANDS,
            {
                "source": "agent",
                "message": "",
                "action": "finish",
                "args": {"thought": "t", "outputs": {"content": "x"}},
            },
            '"outputs" would be lost; ignore_keys = ["outputs"] reads such rows without it',
        ),
        (
            "openhands",
            OPENHANDS,
            {"source": "user", "message": "", "action": "message", "args": {"content": "t", "file_urls": ["a.txt"]}},
            '"file_urls" would be lost',
        ),
        ("atif", ATIF, "a text", "an item that is not an object"),
    ],
)
def test_an_item_that_nobody_knows_rejects_its_row_by_name(shape: str, row: dict, item: object, why: str):
    column = {"adp": "content", "atif": "steps", "openhands": "history"}[shape]
    _, rejected = read([{**row, column: [*row[column], item]}], shape=shape)
    assert why in rejected[0][1]


def test_a_second_thought_of_a_step_is_not_lost_in_silence():
    thoughts = [{"type": "thinking", "thinking": text} for text in ("One.", "Two.")]
    for blocks, reasons in ((thoughts[:1], []), (thoughts, ["thinking_blocks.0.thinking is one of 2, and the others"])):
        history = [*HISTORY[:6], HISTORY[6] | {"thinking_blocks": blocks}]
        _, rejected = read([{**SWE_AGENT, "history": history}], shape="swe_agent")
        assert len(rejected) == len(reasons)
        assert all(reason in told for reason, (_, told) in zip(reasons, rejected, strict=True))


def test_a_trajectory_without_an_answer_is_rejected():
    assert read([{**ATIF, "steps": ATIF["steps"][:1]}], shape="atif")[1] == [
        (1, "messages: no item of the trajectory is an answer")
    ]


def node(parent: int | None, role: str, content: str, *, sampled: bool = False, **more: object) -> dict:
    return {
        "parent": parent,
        "message": {"role": role, "content": content, **more},
        "sampled": sampled,
        "token_ids": [],
    }


TRACE = {
    "id": "t1",
    "tools": [{"name": "bash", "description": "run", "parameters": {}}],
    "nodes": [
        node(None, "system", "Be brief."),
        node(0, "user", ASK),
        node(1, "assistant", "", sampled=True, tool_calls=[{"id": "c1", "name": "bash", "arguments": "{}"}]),
        node(2, "tool", SEEN, tool_call_id="c1"),
        node(3, "assistant", DONE, sampled=True),
        node(1, "assistant", "No.", sampled=True),
        node(4, "user", "Thanks"),
    ],
    "rewards": {"right": {"score": 1, "weight": 0.5}, "short": {"score": 0.5, "weight": 1.0}, "late": None},
    "metrics": {"turns": 2.0},
    "stop_condition": "agent_completed",
    "ok": True,
}
EPISODE = {
    "id": "e1",
    "env": {"id": "files"},
    "task": {"type": "Task", "data": {}},
    "ok": True,
    "traces": [TRACE, TRACE],
}


def test_each_branch_of_a_trace_is_a_row_and_an_answer_is_trained_once():
    rows, rejected = read([EPISODE], shape="verifiers")
    assert rejected == []
    assert len(rows) == 4
    assert [(role, trained) for role, _, trained, _ in said(rows[0])][2:] == [("assistant", True)]
    assert [message["content"] for message in rows[0]["messages"]] == ["Be brief.", ASK, "No."]
    assert [message["content"] for message in rows[1]["messages"]] == ["Be brief.", ASK, "", SEEN, DONE]
    assert json.loads(rows[1]["tools"])[0]["function"]["name"] == "bash"
    assert read([TRACE], shape="verifiers_trace")[0] == rows[:2]


def test_branches_are_chosen_by_reward_and_stop_condition():
    other = {**TRACE, "rewards": {"right": {"score": 0.0, "weight": 1.0}}, "stop_condition": "max_turns"}
    episode = {**EPISODE, "traces": [TRACE, other]}
    assert len(read([episode], shape="verifiers", where={"reward": {"ge": 1.0}})[0]) == 2
    assert len(read([episode], shape="verifiers", where={"stop_condition": "max_turns", "branch": 0})[0]) == 1
    assert len(read([episode], shape="verifiers", where={"metrics.turns": {"lt": 2}})[0]) == 0


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({**EPISODE, "traces": []}, "verifiers"),
        ({**EPISODE, "traces": [{**TRACE, "nodes": []}]}, "verifiers"),
        ({**TRACE, "nodes": []}, "verifiers_trace"),
    ],
)
def test_traces_without_messages_are_counted(tmp_path: Path, row: dict, shape: str):
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps(row) + "\n")
    source = Files(path=path, shape=shape)
    (reading,) = [one for piece in source.slices(slice_bytes=99) for one in source.read(slice=piece)]
    assert (len(reading.rows), len(reading.rejected)) == (0, 0)
    assert reading.passed_over == {"traces: no message in a trace, or no trace in a row": 1}


def test_what_no_model_said_is_context_in_a_branch():
    first = {**TRACE, "nodes": [node(None, "user", ASK), node(0, "assistant", "Hm."), *TRACE["nodes"][:0]]}
    first["nodes"] += [node(1, "user", "So?"), node(2, "assistant", DONE, sampled=True)]
    (row,), _ = read([first], shape="verifiers_trace")
    assert [trained for _, _, trained, _ in said(row)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node(0, "user", ASK)], "traces: the parent of node 0 is no earlier node"),
        ([node(None, "user", ASK)], "traces: a branch without an answer"),
        ([{"parent": None, "sampled": True}], "traces: a node without a message"),
        ("none", "traces: nodes is no list of objects"),
    ],
)
def test_a_graph_that_is_none_is_rejected(nodes: object, why: str):
    assert read([{**TRACE, "nodes": nodes}], shape="verifiers_trace")[1] == [(1, why)]


def test_a_file_that_is_one_object_over_many_lines_is_a_row(tmp_path: Path):
    path = tmp_path / "trajectory.json"
    path.write_text(json.dumps(ATIF, indent=2))
    for shape in ("atif", "auto"):
        source = Files(path=path, shape=shape).settled(files=[], versions={}, insist=False)
        (piece,) = source.slices(slice_bytes=1 << 20)
        (reading,) = source.read(slice=piece)
        assert reading.rejected.rows() == []
        assert said(reading.rows.to_dicts()[0]) == usual("bash", {"command": "ls -a"})
    assert Files(path=path, shape="auto").suggested() == {}


def test_a_call_that_joins_others_brings_no_text_of_its_own():
    calls = [
        {"kind": "ActionEvent", "thought": LOOK, "tool_call": {"id": key, "name": "bash"}, "llm_response_id": "r1"}
        for key in ("c1", "c2")
    ]
    asked = {"kind": "MessageEvent", "source": "user", "llm_message": {"content": ASK}}
    (row,), _ = read([{"history": [asked, *calls]}], shape="openhands_sdk")
    assert [one["content"] for one in row["messages"]] == [ASK, LOOK]
    for key in ("thought", "reasoning_content"):
        _, rejected = read([{"history": [asked, calls[0], {**calls[1], key: "more"}]}], shape="openhands_sdk")
        assert rejected == [(1, "messages: item 3 holds a text of its own, and only its calls join the others")]


def test_a_call_has_its_arguments_wherever_they_stand():
    for call in (
        {"name": "f", "arguments": {}, "parameters": {"a": 1}},
        {"type": "function", "function": {"name": "f"}, "arguments": '{"a": 1}'},
        {"name": "f", "function": {"name": "f", "arguments": {"a": 1}}},
    ):
        row = {"messages": [{"role": "user", "content": ASK}, {"role": "assistant", "tool_calls": [call]}]}
        assert said(read([row], shape="openai")[0][0])[1] == ("assistant", "", True, [("f", {"a": 1})])


def test_what_stands_beside_the_results_of_an_observation_is_refused_by_name():
    first, second, third = ATIF["steps"]
    for observation in ({"text": SEEN}, {**second["observation"], "note": "slow"}):
        row = {**ATIF, "steps": [first, {**second, "observation": observation}, third]}
        (key,) = {*observation} - {"results"}
        assert f'"{key}" would be lost' in read([row], shape="atif")[1][0][1]


def test_a_users_message_with_pictures_is_refused():
    system, user, *others = OPENHANDS["history"]
    pictured = {**user, "args": {**user["args"], "image_urls": ["data:image/png;base64,AA"]}}
    _, rejected = read([{**OPENHANDS, "history": [system, pictured, *others]}], shape="openhands")
    assert rejected == [(1, "messages: item 2 is a message with pictures, and only text is read")]


@pytest.mark.parametrize("text", [None, "Use ls."])
def test_thoughts_in_blocks_and_calls_beside_an_answer_are_read(text: str | None):
    system, user, act, seen, done = SDK["history"]
    blocks = [{"type": "thinking", "thinking": "Use ls.", "signature": "s"}]
    thought = {"thinking_blocks": blocks, "reasoning_content": text}
    spoken = {**done["llm_message"], "tool_calls": [act["tool_call"]], **thought}
    history = [system, user, {**act, **thought}, seen, {**done, "llm_message": spoken}]
    (row,), rejected = read([{**SDK, "history": history}], shape="openhands_sdk")
    assert rejected == []
    assert [turn["reasoning"] for turn in row["messages"] if turn["role"] == "assistant"] == ["Use ls."] * 2
    assert said(row)[-1][3] == [("bash", {"command": "ls -a"})]


def read_openhands(*events: dict) -> tuple[list[dict], list]:
    """Read a history of OpenHands' with these events before the agent's last message."""
    *before, done, _ = OPENHANDS["history"]
    return read([{**OPENHANDS, "history": [*before, *events, done]}], shape="openhands")


@pytest.mark.parametrize(
    "event",
    [
        {"action": "loop_recovery", "source": "user", "message": "", "args": {"option": 1}},
        {"action": "condensation_request", "source": "agent", "message": "", "args": {}},
        {"observation": "loop_detection", "source": "agent", "message": "", "content": "The agent is in a loop."},
        {"action": "run", "source": "environment", "message": "", "args": {"command": "env", "hidden": True}},
        {"observation": "run", "source": "environment", "message": "", "content": "A=1", "extras": {"hidden": True}},
        {"observation": "recall", "source": "environment", "message": "", "content": "", "extras": {"date": "today"}},
    ],
)
def test_an_event_of_openhands_that_no_model_sees_is_left_out(event: dict):
    assert read_openhands(event) == read_openhands()


@pytest.mark.parametrize(
    "told",
    [
        "microagent_knowledge",
        "repo_instructions",
        "conversation_instructions",
        "additional_agent_instructions",
        "custom_secrets_descriptions",
    ],
)
def test_what_openhands_told_a_model_of_the_workspace_is_not_lost_in_silence(told: str):
    extras = {"recall_type": "workspace_context", told: "Use tabs.", "hidden": False}
    recall = {"observation": "recall", "source": "environment", "message": "", "content": "", "extras": extras}
    ((_, why),) = read_openhands(recall)[1]
    assert why.startswith("messages: item 6 is instructions or knowledge that OpenHands told the model, and the events")


def test_the_answer_of_another_agent_is_what_the_model_saw_of_it():
    seen = OPENHANDS["history"][4]
    answer = {**seen, "observation": "delegate", "content": "", "extras": {"outputs": {"content": "Found it."}}}
    *before, _, done, _ = OPENHANDS["history"]
    (row,), rejected = read([{**OPENHANDS, "history": [*before, answer, done]}], shape="openhands")
    assert rejected == []
    assert [turn["content"] for turn in row["messages"] if turn["role"] == "tool"] == ["Found it."]


def test_a_reply_with_pictures_is_refused():
    seen = {**OPENHANDS["history"][4], "extras": {"code": "plot()", "image_urls": ["data:image/png;base64,AA"]}}
    assert read_openhands(seen)[1] == [(1, "messages: item 6 is a reply with pictures, and only text is read")]


@pytest.mark.parametrize(
    "kind", ["InterruptEvent", "StreamingDeltaEvent", "ConversationErrorEvent", "HookExecutionEvent"]
)
def test_an_event_of_the_sdk_that_no_model_sees_is_left_out(kind: str):
    *before, done = SDK["history"]
    event = {"kind": kind, "id": "e9", "source": "environment", "content": "Th", "code": "x", "detail": "y"}
    judged = {**done, "critic_result": {"score": 0.5, "message": None}}
    plain = read([SDK], shape="openhands_sdk")
    assert read([{**SDK, "history": [*before, event, judged]}], shape="openhands_sdk") == plain
