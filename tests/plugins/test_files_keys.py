"""Keys that nobody carries to the model reject their row by name, in every format; what is nothing is no loss."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orca_plugins.sources.files.kind import Files
from orca_recipes.errors import SourceError
from tests.plugins.rows_in_files import FORMATS, read

TALK = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
CALL = [{"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}]
NAMED = {"refusal": "no", "annotations": CALL, "audio": {"id": "a"}, "reasoning_details": [{"text": "two and two"}]}
OF_ROWS = {
    "images": [{"bytes": "x"}],
    "audio": "a.wav",
    "videos": ["v.mp4"],
    "tool_calls": CALL,
    "tool_call_id": "c",
    "function_call": {"name": "add", "arguments": "{}"},
    "reasoning_content": "two and two",
    "reasoning": "two and two",
    "thinking": "two and two",
}
NOTHING = [None, "", " \n", [], {}, "[]", [None], {"name": None}]


def lost(key: str) -> str:
    return f'messages: "{key}" would be lost; ignore_keys = ["{key}"] reads such rows without it'


def lost_of_row(key: str) -> str:
    return f'{key}: it would be lost; ignore_keys = ["{key}"] reads such rows without it'


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", NAMED)
def test_a_key_of_a_message_that_would_be_lost_rejects_the_row_by_name(key: str, name: str):
    rows = [{"messages": TALK}, {"messages": [TALK[0], {**TALK[1], key: NAMED[key]}]}, {"messages": TALK}]
    kept, rejected = read(rows, name)
    assert ([row["place"] for row in kept], rejected) == ([1, 3], [(2, lost(key))])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", OF_ROWS)
def test_a_column_beside_messages_that_would_be_lost_rejects_the_row_by_name(key: str, name: str):
    kept, rejected = read([{"messages": TALK}, {"messages": TALK, key: OF_ROWS[key]}], name)
    assert ([row["place"] for row in kept], rejected) == ([1], [(2, lost_of_row(key))])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("nothing", NOTHING, ids=str)
def test_what_is_null_or_empty_is_no_loss(nothing: Any, name: str):
    if nothing == {} and name.endswith("parquet"):
        pytest.skip("Parquet has no objects without fields")
    rows = [{"messages": [TALK[0], {**TALK[1], "tool_calls": nothing}], "tools": nothing}]
    kept, rejected = read(rows, name)
    assert not rejected
    assert [[turn["content"] for turn in row["messages"]] for row in kept] == [["2+2?", "4"]]


@pytest.mark.parametrize("name", FORMATS)
def test_a_key_that_nobody_knows_rejects_the_row_unless_the_recipe_leaves_it_out(name: str):
    rows = [
        {"messages": [{**TALK[0], "time": "noon", "mood": 3}, {**TALK[1], "id": "m2", "index": 1}], "images": ["x"]}
    ]
    sentence = 'messages: "mood" and "time" would be lost; ignore_keys = ["mood", "time"] reads such rows without them'
    assert read(rows, name) == ([], [(1, sentence)])
    more = 'images: it would be lost; ignore_keys = ["images", "mood", "time"] reads such rows without it'
    assert read(rows, name, ignore_keys=("time", "mood")) == ([], [(1, more)])
    (row,), rejected = read(rows, name, ignore_keys=("mood", "time", "images"))
    assert not rejected
    assert [turn["content"] for turn in row["messages"]] == ["2+2?", "4"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_that_the_recipe_asks_for_is_its_own_affair(name: str):
    rows = [{"messages": TALK, "tools": "hammer", "reasoning": "r"}]
    (row,), rejected = read(rows, name, columns={"messages": "messages", "reasoning": "reasoning"}, extra=("tools",))
    assert (row["reasoning"], row["extra"], rejected) == ("r", [{"name": "tools", "value": "hammer"}], [])


@pytest.mark.parametrize("name", [*FORMATS, "rows.csv"])
def test_a_question_without_what_was_to_be_seen_with_it_is_rejected(name: str):
    rows = [{"question": "q", "images": "cat.png", "reasoning": "r"}, {"question": "q", "images": "", "reasoning": ""}]
    if name.endswith("csv"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text("question,images,reasoning\nq,cat.png,r\nq,,r\n")
            (reading,) = Files(path=path).read(slice=Files(path=path).slices(slice_bytes=100)[0])
        places, rejected = reading.rows["place"].to_list(), reading.rejected.rows()
        assert (places, rejected) == ([3], [(2, lost_of_row("images"))])
        return
    kept, rejected = read(rows, name)
    assert ([row["place"] for row in kept], rejected) == ([2], [(1, lost_of_row("images"))])


@pytest.mark.parametrize("name", FORMATS)
def test_columns_beside_messages_that_lie_in_an_object_are_looked_at_too(name: str):
    rows = [{"data": {"messages": TALK, "images": CALL}}, {"data": {"messages": TALK, "images": None}}]
    kept, rejected = read(rows, name, columns={"messages": "data.messages"})
    sentence = 'data.images: it would be lost; ignore_keys = ["images"] reads such rows without it'
    assert ([row["place"] for row in kept], rejected) == ([2], [(1, sentence)])


@pytest.mark.parametrize("name", FORMATS)
def test_keys_of_other_lists_and_of_other_columns_are_nobodys_loss(name: str):
    choices = [{"text": "a", "thinking": "b", "messages": [{"mood": 1}]}]
    rows = [{"choices": choices, "meta": {"tool_calls": 1, "images": ["x"]}, "messages": TALK, "score": 0.5}] * 2
    kept, rejected = read(rows, name)
    assert ([row["place"] for row in kept], rejected) == ([1, 2], [])


@pytest.mark.parametrize("name", FORMATS)
def test_messages_may_mix_the_names_of_their_parts_and_nulls_are_absent(name: str):
    rows = [
        {"messages": [{"from": "human", "value": "q", "markdown": None}, {"from": "gpt", "value": "a", "text": None}]},
        {"messages": [{"role": "user", "value": "q"}, {"role": "assistant", "value": "a"}]},
        {"messages": [{"from": "human", "content": "q"}, {"from": "gpt", "content": "a"}]},
        {"messages": [{"role": "human", "content": "q"}, {"role": "gpt", "content": "a"}]},
        {"messages": [{"role": None, "from": "human", "content": None, "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"messages": [{"from": "human", "text": "q"}, {"from": "gpt", "text": "a"}]},
        {"messages": [{"role": "user", "from": "gpt", "value": "q"}]},
        {"messages": [{"role": "user", "content": "p", "value": "q"}]},
        {"messages": [{"role": "user", "from": "human", "content": "q", "value": "q"}]},
    ]
    kept, rejected = read(rows, name)
    talk = [("user", "q"), ("assistant", "a")]
    told = {row["place"]: [(turn["role"], turn["content"]) for turn in row["messages"]] for row in kept}
    assert told == {**dict.fromkeys(range(1, 6), talk), 9: talk[:1]}
    assert rejected == [
        (6, lost("text")),
        (7, 'messages: "role" and "from" of a message differ'),
        (8, 'messages: "content" and "value" of a message differ'),
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_parts_of_text_are_one_text_and_other_parts_are_named(name: str):
    contents = [
        [{"type": "text", "text": "q", "image": None}],
        [{"type": "image", "text": None, "image": "x.png"}],
        [{"type": "text", "text": "q", "image": None}, {"type": "text", "text": "r", "image": None}],
        [{"type": "text", "text": "q", "image": "x.png"}],
        [{"type": "text", "text": None, "image": None}],
    ]
    kept, rejected = read([{"messages": [{"role": "user", "content": parts}]} for parts in contents], name)
    assert [(row["place"], row["messages"][0]["content"]) for row in kept] == [(1, "q"), (3, "qr")]
    assert rejected == [
        (2, 'messages: content has a part "image", and only text is read'),
        (4, lost("image")),
        (5, "messages: a message without text content"),
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_columns_that_nobody_named_never_cost_a_conversation_its_own_answer(name: str):
    rows = [{"messages": TALK, "answer": 4.5}, {"messages": TALK, "answer": 0.25}]
    kept, rejected = read(rows, name)
    assert ([row["answer"] for row in kept], rejected) == ([None, None], [])
    rows = [{"messages": TALK, "answer": "five"}, {"messages": TALK[:1], "answer": "four"}]
    assert [row["answer"] for row in read(rows, name)[0]] == [None, "four"]
    named = {"messages": "messages", "answer": "answer"}
    assert [row["answer"] for row in read(rows, name, columns=named)[0]] == ["five", "four"]


@pytest.mark.parametrize("keys", [("role",), ("value",), ("a", "a"), ("",)])
def test_keys_that_cannot_be_left_out_are_refused(keys: tuple[str, ...]):
    with pytest.raises(ValidationError, match=r"what a message is read from|name each key to ignore once"):
        Files(path=Path("x.jsonl"), ignore_keys=keys)


KEYS = st.sampled_from(
    ["role", "from", "content", "value", "weight", "train", "id", "name", "messages", "type", 'a"b', "\\", "tool_calls"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 0.5, -0.0]) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)
TEXTS = st.one_of(
    st.text(max_size=6), st.sampled_from(["user", "assistant", "human", "gpt", '":', '{"role": [', "\\", '\\"', ", "])
)
TURNS = st.fixed_dictionaries(
    {"role": TEXTS, "content": TEXTS},
    optional={"weight": VALUES, "loss": VALUES, "id": VALUES, "name": VALUES, "thinking": VALUES | TEXTS},
) | st.dictionaries(KEYS, VALUES | TEXTS, max_size=5)
ROWS = st.dictionaries(
    st.sampled_from(["messages", "question", "tools", "thinking", "id", "meta", "answer"]),
    st.lists(TURNS, max_size=3) | VALUES | TEXTS,
    max_size=5,
)
STYLES = st.sampled_from([{}, {"separators": (",", ":")}, {"separators": (" , ", "\t :  ")}, {"ensure_ascii": False}])


@settings(deadline=None, max_examples=300)
@given(rows=st.lists(ROWS, max_size=5), style=STYLES, ignored=st.sampled_from([(), ("name",), ("weight", "tools")]))
def test_the_fast_reader_and_the_slow_one_agree_on_every_key(rows: list[Any], style: dict[str, Any], ignored: Any):
    rows = [{"messages": TALK, "x": 1}, *rows]  # the first block needs more than the strict look
    assert read(rows, "rows.jsonl", style=style, ignore_keys=ignored) == read(rows, "rows.json", ignore_keys=ignored)


@settings(deadline=None, max_examples=100)
@given(turns=st.lists(st.lists(TURNS, min_size=1, max_size=3), min_size=1, max_size=4))
def test_columns_of_arrow_and_values_of_json_say_the_same_of_every_message(turns: list[Any]):
    rows = [{"messages": talk} for talk in turns]
    try:
        kind = pa.array(turns).type.value_type
        found = read(rows, "rows.parquet")
    except (pa.ArrowException, TypeError, UnicodeEncodeError, SourceError):
        return  # no column holds values of several types, no Parquet an object without fields, no message a number
    names = {field.name for field in kind} if pa.types.is_struct(kind) else set()
    if names >= {"role", "content"}:
        assert found == read(rows, "rows.json")
