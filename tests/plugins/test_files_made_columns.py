"""Columns that are made: of several, of lists, of texts that spell conversations, of answers that are messages."""

import csv
import json

import pytest
from pydantic import ValidationError

from orca_plugins.sources.files.kind import Files
from tests.plugins.rows_in_files import FORMATS, read

MADE = {"question": ["head", "tail"], "answer": "out"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_question_is_made_of_several_columns_and_empty_ones_leave_no_trace(name: str):
    rows = [
        {"head": "a", "tail": "b", "out": "1"},
        {"head": "a", "tail": "", "out": "2"},
        {"head": "a", "tail": None, "out": "3"},
        {"head": "a", "tail": " \n", "out": "4"},
        {"head": None, "tail": "b", "out": "5"},
        {"head": " a\n", "tail": "b", "out": "6"},
        {"head": None, "tail": "", "out": "7"},
    ]
    kept, rejected = read(rows, name, columns=MADE)
    assert [row["question"] for row in kept] == ["a\n\nb", "a", "a", "a", "b", " a\n\n\nb", None]
    assert rejected == []


def test_csv_and_json_make_the_same_question(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("head,tail,out\na,b,1\na,,2\n")
    source = Files(path=path, columns=MADE)
    (reading,) = [one for piece in source.slices(slice_bytes=99) for one in source.read(slice=piece)]
    assert reading.rows["question"].to_list() == ["a\n\nb", "a"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"question": ["a", "a"]}, "name each of its columns once"),
        ({"question": []}, "name a column of the file"),
        (
            {"question": "q", "task": ["a", "b"]},
            "task is one column; question and system and answer are made",
        ),
    ],
)
def test_columns_that_nothing_can_be_made_of_are_refused(columns, said, tmp_path):
    with pytest.raises(ValidationError, match=said):
        Files(path=tmp_path, columns=columns)


@pytest.mark.parametrize("name", FORMATS)
def test_an_index_leads_to_an_item_of_a_list(name: str):
    rows = [{"m": {"x": [{"c": "a"}, {"c": "b"}]}}, {"m": {"x": [{"c": "d"}]}}]
    kept, rejected = read(rows, name, columns={"question": "m.x.0.c", "answer": "m.x.1.c"})
    assert [(row["question"], row["answer"]) for row in kept] == [("a", "b"), ("d", None)]
    assert rejected == []


def test_a_key_of_digits_is_a_key_where_there_is_an_object():
    kept, _ = read([{"m": {"0": "a"}, "r": "b"}], columns={"question": "m.0", "answer": "r"})
    assert [row["question"] for row in kept] == ["a"]


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_are_answers_as_they_are_told_in_every_format(name: str):
    rows = [{"q": "a", "a": number} for number in (4.5, -0.25, 1e22, 3.0)]
    kept, rejected = read(rows, name, columns={"question": "q", "answer": "a"})
    assert [row["answer"] for row in kept] == ["4.5", "-0.25", "1e+22", "3.0"]
    assert rejected == []


TURN = {"role": "assistant", "content": "new"}
OLD = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "old"}, {"role": "user", "content": "y"}]


@pytest.mark.parametrize("name", FORMATS)
def test_an_answer_that_is_messages_ends_the_conversation_and_is_alone_trained(name: str):
    columns = {"messages": "prompt", "answer": "completion"}
    (row,), rejected = read([{"prompt": OLD, "completion": [TURN]}], name, columns=columns)
    assert [(one["content"], one["trained"]) for one in row["messages"]] == [
        ("x", False),
        ("old", False),
        ("y", False),
        ("new", True),
    ]
    assert (row["answer"], rejected) == (None, [])


def test_where_the_recipe_trains_history_old_answers_are_trained_beside_a_completion():
    columns = {"messages": "prompt", "answer": "completion"}
    (row,), _ = read([{"prompt": OLD, "completion": [TURN]}], columns=columns, train_on="all")
    assert [one["content"] for one in row["messages"] if one["trained"]] == ["old", "new"]


@pytest.mark.parametrize("name", FORMATS)
def test_texts_are_a_users_and_an_assistants_in_turn(name: str):
    (row,), _ = read([{"c": ["a", "b", "c", "d"]}], name, columns={"messages": "c"})
    assert [one["role"] for one in row["messages"]] == ["user", "assistant"] * 2


@pytest.mark.parametrize("name", FORMATS)
def test_text_that_spells_messages_is_read_and_other_text_rejected(name: str):
    rows = [{"messages": '[{"role": "user", "content": "a"}, {"from": "gpt", "value": "b"}]'}, {"messages": "[{"}]
    kept, rejected = read(rows, name)
    assert [[one["content"] for one in row["messages"]] for row in kept] == [["a", "b"]]
    assert rejected == [(2, "messages: text that spells no list of messages in JSON")]


def test_a_delimiter_parts_fields(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('question;answer\n"a;b";c,d\n')
    source = Files(path=path, delimiter=";")
    (reading,) = [one for piece in source.slices(slice_bytes=99) for one in source.read(slice=piece)]
    assert reading.rows.select("question", "answer").rows() == [("a;b", "c,d")]
    with pytest.raises(ValidationError, match="a delimiter is one character of ASCII"):
        Files(path=path, delimiter=";;")


@pytest.mark.parametrize("name", FORMATS)
def test_an_answer_that_spells_messages_in_json_is_messages(name: str):
    row = {"prompt": json.dumps(OLD), "completion": json.dumps([TURN])}
    (one, other), rejected = read([row, {**row, "completion": "[1]"}], name, shape="prompt_completion_messages")
    assert [(turn["content"], turn["trained"]) for turn in one["messages"]][-2:] == [("y", False), ("new", True)]
    assert (one["answer"], other["answer"], rejected) == (None, "[1]", [])


def test_a_part_of_a_text_that_is_no_text_is_named_as_the_file_names_it():
    rows = [{"instruction": "a", "input": ["b"], "output": "c"}]
    assert read(rows, shape="alpaca")[1] == [(1, "input: a list where text should be")]


def test_messages_in_a_table_are_text_of_json(tmp_path):
    path = tmp_path / "rows.csv"
    talk = [{"role": "user", "content": "x"}, TURN]
    rows = [
        [json.dumps(talk), "", json.dumps([{"name": "f"}])],
        [json.dumps(talk), "hm", ""],
        ["[{'role': 'user'}]", "", ""],
        ["", "hm", ""],
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["messages", "reasoning", "tools"], *rows])
    source = Files(path=path, shape="auto").settled(files=[], versions={"shape": "openai"}, insist=False)
    (reading,) = [one for piece in source.slices(slice_bytes=99) for one in source.read(slice=piece)]
    first, last = reading.rows.to_dicts()
    assert ([one["content"] for one in first["messages"]], last["messages"]) == (["x", "new"], None)
    assert json.loads(first["tools"])[0]["function"]["name"] == "f"
    assert reading.rejected.rows() == [
        (3, 'reasoning: it would be lost; ignore_keys = ["reasoning"] reads such rows without it'),
        (4, "messages: text that spells no list of messages in JSON"),
    ]
