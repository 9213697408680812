"""What lies in files of types is read as JSON would say it, row by row, and what is lost is said."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orca_plugins.sources.files.kind import Files
from tests.plugins.rows_in_files import FORMATS, read

NAN, INFINITE = float("nan"), float("inf")
ASKED, SAID = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}
NO_NUMBER = "NaN or Infinity, which JSON does not know"
NOT_COMPARED = 'where: "s" is not a number, which it is compared with'


def turns(row: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(one["content"], one["trained"]) for one in row["messages"]]


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_number_is_no_answer(name: str):
    rows = [{"question": "a", "answer": answer} for answer in (1.5, NAN, INFINITE)]
    kept, rejected = read(rows, name)
    assert [row["answer"] for row in kept] == ["1.5"]
    assert rejected == [(2, f"answer: {NO_NUMBER}"), (3, f"answer: {NO_NUMBER}")]
    _, rejected = read([{"question": "a", "reference": [1.5, NAN]}], name)
    assert rejected == [(1, f"reference: a list that holds {NO_NUMBER}")]
    kept, rejected = read([{"messages": [ASKED, SAID], "answer": NAN, "reference": NAN}], name)
    assert (kept[0]["answer"], kept[0]["references"], rejected) == (None, None, [])


def test_a_narrow_fraction_is_what_it_is_in_text(tmp_path):
    path = tmp_path / "rows.parquet"
    answers = {"h": pa.array([0.1], pa.float16()), "f": pa.array([0.1], pa.float32())}
    pq.write_table(pa.table({"question": ["a"], **answers}), path)
    for column in answers:
        source = Files(path=path, columns={"question": "question", "answer": column}, where={"f": {"ge": 0.1}})
        (reading,) = [one for piece in source.slices(slice_bytes=1 << 20) for one in source.read(slice=piece)]
        assert reading.rows["answer"].to_list() == ["0.1"]


@pytest.mark.parametrize("name", [*FORMATS, "rows.csv"])
@pytest.mark.parametrize("first", [0.9, NAN])
def test_nothing_is_compared_with_what_is_no_number(name: str, first: float, tmp_path):
    scores = [first, NAN, 0.1]
    if name.endswith("csv"):
        (tmp_path / name).write_text("question,s\n" + "".join(f"q,{score}\n" for score in scores))
        source = Files(path=tmp_path / name, where={"s": {"ge": 0.5}})
        (reading,) = [one for piece in source.slices(slice_bytes=1 << 20) for one in source.read(slice=piece)]
        kept, rejected = reading.rows.to_dicts(), [(place - 1, why) for place, why in reading.rejected.rows()]
    else:
        kept, rejected = read([{"question": "q", "s": score} for score in scores], name, where={"s": {"ge": 0.5}})
    assert len(kept) == (first == 0.9)
    assert rejected == [(place, NOT_COMPARED) for place in (1, 2)[first == 0.9 :]]


@pytest.mark.parametrize("name", FORMATS)
def test_an_answer_of_messages_is_read_wherever_it_is_the_only_answer(name: str):
    other = [{"role": "assistant", "content": "Other"}]
    kept, rejected = read([{"messages": [ASKED, SAID], "answer": other}, {"messages": [ASKED], "answer": other}], name)
    assert ([turns(row) for row in kept], rejected) == (
        [[("Hi", False), ("Ho", True)], [("Hi", False), ("Other", True)]],
        [],
    )
    columns = {"question": "q", "answer": "a"}
    kept, rejected = read([{"q": "Hi", "a": other}], name, columns=columns)
    assert ([turns(row) for row in kept], rejected) == ([[("Hi", False), ("Other", True)]], [])


def test_an_answer_of_texts_is_no_conversation():
    named = {"messages": "messages", "answer": "answer"}
    _, rejected = read([{"messages": [ASKED], "answer": ["Ho"]}], columns=named)
    assert rejected == [(1, "answer: a list where text should be")]
    kept, rejected = read([{"q": "a", "a": "b"}, {"q": "Hi", "a": [SAID]}], columns={"question": "q", "answer": "a"})
    assert ([row["answer"] for row in kept], turns(kept[1]), rejected) == (
        ["b", None],
        [("Hi", False), ("Ho", True)],
        [],
    )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("value", "said"),
    [({"t": "x"}, "answer: an object where text should be"), (True, "answer: a boolean where text should be")],
)
def test_an_answer_that_is_no_text_is_lost_by_name(name: str, value: Any, said: str):
    kept, rejected = read([{"messages": [ASKED], "answer": value}, {"messages": [ASKED, SAID], "answer": value}], name)
    assert ([row["place"] for row in kept], rejected) == ([2], [(1, said)])


def test_messages_under_a_name_that_is_spelt_with_escapes_keep_their_flags(tmp_path):
    rows = [{"对话": [ASKED, {**SAID, "weight": 0}, ASKED, SAID], "x": 1}] * 3
    kept, rejected = read(rows, columns={"messages": "对话"})
    assert ([row["messages"][1]["trained"] for row in kept], rejected) == ([False] * 3, [])
    path = tmp_path / "rows.jsonl"
    odd = '{"\\u006Dessages": [{"role": "user", "content": "a", "images": ["b"]}], "x": 1}'
    path.write_text('{"messages": [{"role": "user", "content": "a"}], "x": 1}\n' + odd + "\n")
    source = Files(path=path)
    (reading,) = [one for piece in source.slices(slice_bytes=1 << 20) for one in source.read(slice=piece)]
    assert [place for place, _ in reading.rejected.rows()] == [2]


@pytest.mark.parametrize("name", FORMATS)
def test_trees_are_read_as_json_says_them(name: str):
    tools = [
        {"type": "function", "function": {"name": key, "parameters": {"properties": {key: {"type": "string"}}}}}
        for key in ("a", "b")
    ]
    calls = [{"id": key, "function": {"name": key, "arguments": {key: "1"}}} for key in ("a", "b")]
    nodes = [
        {"parent": None, "message": ASKED, "sampled": False},
        {"parent": 0, "message": {"role": "assistant", "content": "", "tool_calls": calls}, "sampled": True},
    ]
    (row,), _ = read([{"id": "t", "tools": tools, "nodes": nodes}], name, shape="verifiers_trace")
    assert "null" not in row["tools"] + row["messages"][1]["tool_calls"]
    ranks = {"b": NAN, "c": 1.0, "d": 0.0}
    tree = [{"message_id": "a", "parent_id": None, "text": "Q", "role": "prompter", "rank": NAN}]
    tree += [
        {"message_id": key, "parent_id": "a", "text": key, "role": "assistant", "rank": rank}
        for key, rank in ranks.items()
    ]
    (row,), _ = read(tree, name, shape="oasst", paths="best")
    assert turns(row) == [("Q", False), ("d", True)]


@pytest.mark.parametrize("name", FORMATS)
def test_flags_of_a_pair_are_those_of_its_answer(name: str):
    pairs = [{"input": "a", "output": "b", "weight": 0}, {"input": "c", "output": "d", "weight": 1}]
    (row,), rejected = read([{"conversation": pairs}], name, shape="capybara")
    assert (turns(row), rejected) == ([("a", False), ("b", False), ("c", False), ("d", True)], [])


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ("oasst", '{"message_id": "a", "parent_id": null, "text": "x", "text": "Q", "role": "assistant"}'),
        ("oasst_tree", '{"prompt": {"text": "Q", "text": "R", "role": "assistant"}}'),
        ("capybara", '{"conversation": [{"input": "a", "input": "b", "output": "c"}]}'),
        ("atif", '{"steps": [{"source": "agent", "message": "a", "message": "b"}]}'),
        ("verifiers_trace", '{"nodes": [{"message": {"role": "assistant", "role": "user", "content": "b"}}]}'),
        (None, '{"question": "a", "answer": "b", "images": ["x"], "images": []}'),
        (None, '{"messages": [{"role": "user", "content": "a", "images": ["x"], "images": []}]}'),
    ],
)
def test_of_a_key_that_is_given_twice_nothing_is_lost_in_silence(shape: str | None, line: str, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(line)
    source = Files(path=path, shape=shape)
    (reading,) = [one for piece in source.slices(slice_bytes=1 << 20) for one in source.read(slice=piece)]
    assert (reading.rows.height, reading.rejected.height) == (0, 1)


def test_tools_beside_a_question_are_read_from_csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('question,answer,tools,functions\na,b,"[{""name"":""f""}]",\nc,d,,\ne,f,[1],\n')
    source = Files(path=path)
    (reading,) = [one for piece in source.slices(slice_bytes=1 << 20) for one in source.read(slice=piece)]
    assert reading.rows["tools"].to_list() == ['[{"type": "function", "function": {"name": "f"}}]', None]
    assert reading.rejected.rows() == [(4, "tools: a tool that is no object")]
