"""What was said before a question, in a column of its own, as LLaMA-Factory's Alpaca files have it."""

import json
from pathlib import Path

import pytest

from orca_plugins.sources.files.kind import Files
from tests.plugins.rows_in_files import FORMATS, read

ROW = {"instruction": "And then?", "input": "Be brief.", "output": "Noon.", "history": [["Hi", "Hello."]]}
BARE = {**ROW, "history": []}
SAID = [("user", "Hi"), ("assistant", "Hello."), ("user", "And then?\n\nBe brief.")]


def said(row: dict) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in row["messages"]]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("spell", [lambda history: history, json.dumps], ids=["list", "text"])
def test_the_question_follows_what_was_said_before_it(name: str, spell):
    rows = [{**row, "history": spell(row["history"])} for row in (ROW, BARE)]
    (first, second), rejected = read(rows, name, shape="alpaca")
    assert rejected == []
    assert (said(first), first["question"], first["answer"]) == (SAID, None, "Noon.")
    assert (second["messages"], second["question"]) == (None, "And then?\n\nBe brief.")


@pytest.mark.parametrize("name", FORMATS)
def test_history_of_messages_is_read_too(name: str):
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    (row,), _ = read([{**ROW, "history": history}], name, shape="alpaca")
    assert said(row) == SAID


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("nothing", [None, ""])
def test_a_row_without_history_is_a_question_alone(name: str, nothing):
    (row,), rejected = read([{**ROW, "history": nothing}], name, shape="alpaca")
    assert (row["messages"], row["question"], rejected) == (None, "And then?\n\nBe brief.", [])


@pytest.mark.parametrize(
    ("history", "why"),
    [
        ([["Hi"]], "messages: history that is neither pairs of question and answer nor messages"),
        (7, "messages: neither a list nor a text that spells one"),
    ],
)
@pytest.mark.parametrize("name", FORMATS)
def test_history_that_cannot_be_read_rejects_its_row(name: str, history, why: str):
    assert read([{**ROW, "history": history}], name, shape="alpaca") == ([], [(1, why)])


def test_history_may_be_ignored_by_name():
    (row,), _ = read([ROW], shape="alpaca", ignore_keys=("history",))
    assert (row["messages"], row["question"]) == (None, "And then?\n\nBe brief.")


def test_history_in_a_table_is_text_of_json(tmp_path: Path):
    path = tmp_path / "rows.csv"
    path.write_text('instruction,input,output,history\na,b,c,[]\nd,e,f,"[[""q"", ""a""]]"\ng,h,i,before\n')
    source = Files(path=path, shape="alpaca")
    (reading,) = [one for piece in source.slices(slice_bytes=99) for one in source.read(slice=piece)]
    first, second = reading.rows.to_dicts()
    assert (first["question"], first["messages"]) == ("a\n\nb", None)
    assert said(second) == [("user", "q"), ("assistant", "a"), ("user", "d\n\ne")]
    assert reading.rejected.rows() == [(4, "messages: text that spells no list of messages in JSON")]
