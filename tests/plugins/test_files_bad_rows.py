"""Source `files`: rows that cannot be read are rejected with their place and a reason, and all others are read."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orca_plugins.sources.files import csv_tsv as _files_delimited
from orca_plugins.sources.files.kind import Files
from orca_recipes.errors import SourceError

GOOD = b'{"question": "fine"}'
TEXT_COLUMNS = ("question", "task", "id", "system", "answer", "category")

BAD_LINES = {
    b'["question", "a"]': "a row that is not an object",
    b'"question"': "a row that is not an object",
    b"null": "a row that is not an object",
    b"12": "a row that is not an object",
    b'{"question": "\xff"}': "invalid UTF-8",
    b'{"question": "a", "other": "\xc3\x28"}': "invalid UTF-8",
    b"\xff\xfe": "invalid UTF-8",
    b'{"question": "\\ud800"}': "question: half of a surrogate pair",
    b'{"question": "a", "answer": "\\udc00 b"}': "answer: half of a surrogate pair",
    b'{"question": "a"': "bad JSON",
    b'{"question": "a"}}': "a line that goes on after its object",
    b'{"question": a}': "bad JSON",
    b"{'question': 'a'}": "bad JSON",
    b'{"question": "a",}': "bad JSON",
    b'{"question": "a\tb"}': "bad JSON",
    b'{"question": "a\x00b"}': "bad JSON",
    b'{"question": "a"}\x00': "a line that goes on after its object",
    b'{"question": "a", "x": Inf}': "bad JSON",
    b'{"question": "a", "x": -NaN}': "bad JSON",
    b'{"question": Inf}': "bad JSON",
    b'{"question": "a", "id": -NaN}': "bad JSON",
    b'{"question": "a", "id": -Inf}': "bad JSON",
    b'{"question": "a", "reference": [Inf]}': "bad JSON",
    b'{"messages": [{"role": "user", "content": -NaN}]}': "bad JSON",
    b'{"messages": Inf }': "bad JSON",
    b'{"question": "a", "id": 01}': "bad JSON",
    b'{"question": "\\x"}': "bad JSON",
    b'\xef\xbb\xbf{"question": "a"}': "bad JSON",
    b'\xe2\x80\xa8{"question": "a"}': "bad JSON",
    b"{}{}": "a line that goes on after its object",
    b'{"question": "a"} {"question": "b"}': "a line that goes on after its object",
    b'{"question": "a"}, {"question": "b"}': "a line that goes on after its object",
    b'{"question": "a", "question": "b"}': "question: a key given twice",
    b'{"question": null, "question": "b"}': "question: a key given twice",
    b'{"question": "a", "id": 1, "id": 1}': "id: a key given twice",
    b'{"question": 1.5}': "question: a number with a fraction or exponent",
    b'{"question": "a", "id": 1e3}': "id: a number with a fraction or exponent",
    b'{"question": NaN}': "question: NaN or Infinity, which JSON does not know",
    b'{"question": "a", "id": -Infinity}': "id: NaN or Infinity, which JSON does not know",
    b'{"question": "a", "reference": ["x", null]}': "reference: a list that holds null",
    b'{"question": "a", "reference": ["x", true]}': "reference: a list that holds a boolean",
    b'{"question": "a", "reference": 1e999}': "reference: a number that is too large",
    b'{"question": "a", "reference": ["x", ["y"]]}': "reference: a list that holds a list",
    b'{"question": "a", "reference": {"x": "y"}}': "reference: an object where text should be",
    b'{"question": "a", "reference": false}': "reference: a boolean where text should be",
    b'{"messages": {"role": "user", "content": "a"}}': "messages: an object where a list should be",
    b'{"messages": "a"}': "messages: text that spells no list of messages in JSON",
    b'{"messages": "{}"}': "messages: text that spells no list of messages in JSON",
    b'{"messages": 5}': "messages: a number where a list should be",
    b'{"messages": ["a", {}]}': "messages: a message that is not an object",
    b'{"messages": [null]}': "messages: a message that is not an object",
    b'{"messages": [{"role": "alien", "content": "a"}]}': (
        'messages: the role "alien" is none of system, user, assistant, tool; '
        'roles = { "alien" = "..." } says which it is'
    ),
    b'{"messages": [{"role": "mixed", "content": "a"}]}': (
        'messages: the role "mixed" is none of system, user, assistant, tool; '
        'roles = { "mixed" = "..." } says which it is'
    ),
    b'{"messages": [{"content": "a"}]}': "messages: a message without a role",
    b'{"messages": [{"role": 1, "content": "a"}]}': "messages: a message without a role",
    b'{"messages": [{"role": "user"}]}': "messages: a message without text content",
    b'{"messages": [{"role": "user", "content": null}]}': "messages: a message without text content",
    b'{"messages": [{"role": "user", "content": 5}]}': "messages: a message without text content",
    b'{"messages": [{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": "{a"}]}]}': (
        'messages: tool_calls: the arguments of "f": text that is no JSON ({a)'
    ),
    b'{"messages": [{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": "[]"}]}]}': (
        'messages: tool_calls: the arguments of "f" are no object'
    ),
    b'{"messages": [{"role": "gpt", "tool_calls": [{"name": "f", "arguments": {"a": 1}, "parameters": {"a": 2}}]}]}': (
        'messages: tool_calls: the arguments of "f" stand there twice, and differ'
    ),
    b'{"messages": [{"role": "gpt", "tool_calls": [{"name": "g", "function": {"name": "f", "arguments": {}}}]}]}': (
        'messages: tool_calls: a call of "f" that has another name beside it'
    ),
    b'{"messages": [{"role": "assistant", "content": "", "tool_calls": [{"arguments": {"a": 1}}]}]}': (
        "messages: tool_calls: a call without a name"
    ),
    b'{"messages": [{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "type": "custom"}]}]}': (
        'messages: tool_calls: a call of type "custom", and only functions are read'
    ),
    b'{"messages": [{"role": "tool", "content": "4", "tool_call_id": "c"}]}': (
        'messages: a tool answers call "c", which no message before it makes'
    ),
    b'{"messages": [{"role": "function_call", "content": "call it"}]}': (
        "messages: tool_calls: text that is no JSON (call it)"
    ),
    b'{"messages": [{"role": "user", "content": "q"}], "tools": "hammer"}': "tools: text that is no JSON (hammer)",
    b'{"messages": [{"role": "user", "content": "q"}], "tools": [{}, {"type": "x"}]}': "tools: a tool without a name",
    b'{"messages": [{"role": "user", "content": "q"}], "chat_template_kwargs": [1]}': (
        "chat_template_kwargs: no object"
    ),
    b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}': (
        'messages: content has a part "image_url", and only text is read'
    ),
    b'{"messages": [{"role": "user", "role": "tool", "content": "a"}]}': "messages: a key given twice",
    b'{"messages": [{"role": "user", "content": "\\ud800"}]}': "messages: half of a surrogate pair",
    b'{"question": ' + b"[" * 5000 + b"]" * 5000 + b"}": "brackets nested more than 100 deep",
    b'{"question": "a", "x": ' + b'{"y":' * 5000 + b"1" + b"}" * 5000 + b"}": "brackets nested more than 100 deep",
    b'{"messages": [{"role": "user", "content": ' + b"[" * 5000 + b"]" * 5000 + b"}]}": (
        "brackets nested more than 100 deep"
    ),
    b"[" * 100_000: "brackets nested more than 100 deep",
}
WRONG_TYPES = {b"true": "a boolean", b'["x"]': "a list", b'{"x": "y"}': "an object"}
BAD_LINES |= {
    b'{"%s": %s}' % (ours.encode(), value): f"{ours}: {called} where text should be"
    for ours in TEXT_COLUMNS
    for value, called in WRONG_TYPES.items()
}


def read(
    path: Path, *, slice_bytes: int = 1 << 20, **options: Any
) -> tuple[list[tuple[int, Any]], list[tuple[int, str]]]:
    """Place and question (or messages) of the rows, place and reason of rejections."""
    source = Files(path=path, **options)
    readings = [reading for piece in source.slices(slice_bytes=slice_bytes) for reading in source.read(slice=piece)]
    rows = [row for reading in readings for row in reading.rows.to_dicts()]
    rejected = [row for reading in readings for row in reading.rejected.rows()]
    return [(row["place"], row["question"] or row["messages"]) for row in rows], rejected


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: ascii(line[:60]))
def test_a_bad_line_is_rejected_with_a_reason_and_the_others_are_read(tmp_path: Path, line: bytes):
    path = written(tmp_path / "rows.jsonl", GOOD + b"\n" + line + b"\n" + GOOD)
    assert read(path) == ([(1, "fine"), (3, "fine")], [(2, BAD_LINES[line])])


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: ascii(line[:60]))
def test_a_bad_line_alone_in_its_slice_meets_the_same_end(tmp_path: Path, line: bytes):
    path = written(tmp_path / "rows.jsonl", GOOD + b"\n" + line + b"\n" + GOOD)
    assert read(path, slice_bytes=1) == ([(1, "fine"), (3, "fine")], [(2, BAD_LINES[line])])


def test_a_bad_line_does_not_hide_among_many(tmp_path: Path):
    lines = [json.dumps({"question": f"row {number}", "id": number}).encode() for number in range(1, 3001)]
    lines[1234], lines[2999] = b'{"question": 1.5}', b"{"
    rows, rejected = read(written(tmp_path / "rows.jsonl", b"\n".join(lines)))
    assert rows == [(number, f"row {number}") for number in range(1, 3001) if number not in (1235, 3000)]
    assert rejected == [(1235, "question: a number with a fraction or exponent"), (3000, "bad JSON")]


def test_columns_that_nobody_asked_for_may_begin_in_any_row(tmp_path: Path):
    lines = [json.dumps({"question": f"row {number}"}).encode() for number in range(1, 1001)]
    lines[600:] = [line[:-1] + b', "other": [-1, "{"]}' for line in lines[600:]]
    lines[700], lines[800] = b'{"question": "a", "other": Inf}', b'{"question": "a", "other": -NaN}'
    rows, rejected = read(written(tmp_path / "rows.jsonl", b"\n".join(lines)))
    assert rows == [(number, f"row {number}") for number in range(1, 1001) if number not in (701, 801)]
    assert rejected == [(701, "bad JSON"), (801, "bad JSON")]


def test_an_object_over_two_lines_beside_two_on_one_line_is_no_two_rows(tmp_path: Path):
    content = b'{"question": "a"} {"question": "b"}\n{"question":\n"c"}\n' + GOOD
    rows, rejected = read(written(tmp_path / "rows.jsonl", content))
    assert rows == [(4, "fine")]
    goes_on = "a line that goes on after its object"
    assert rejected == [(1, goes_on), (2, "bad JSON"), (3, goes_on)]


@pytest.mark.parametrize(
    "line",
    [
        b'{"question": "a", "other": {"x": [1.5, true, null, {}]}}',
        b'{"question": "a", "other": "\\ud800"}',
        b'{"question": "a", "other": 1, "other": 2}',
        b'{"question": "a", "other": [NaN, Infinity, -Infinity, 1e999]}',
        b'{"question": "a", "other": ' + b"[" * 99 + b"]" * 99 + b"}",
        b'{"question": "a", "other": "' + b"[" * 99999 + b'"}',
        b'{"question": "a", "other": "Inf, -NaN"}',
        b' \t{"question": "a"} \r',
        b'{"qu\\u0065stion": "a", "id": null, "messages": null}',
    ],
    ids=lambda line: ascii(line[:60]),
)
def test_what_is_odd_in_columns_that_nobody_asked_for_does_no_harm(tmp_path: Path, line: bytes):
    assert read(written(tmp_path / "rows.jsonl", GOOD + b"\n" + line)) == ([(1, "fine"), (2, "a")], [])
    assert read(written(tmp_path / "more.jsonl", line + b"\n{")) == ([(1, "a")], [(2, "bad JSON")])


def test_nul_and_other_controls_that_are_escaped_are_text(tmp_path: Path):
    line = json.dumps({"question": "a\0b\x1b[31m\x7f"}).encode()
    assert read(written(tmp_path / "rows.jsonl", line))[0] == [(1, "a\0b\x1b[31m\x7f")]


def test_a_nested_name_that_leads_through_no_object_is_rejected(tmp_path: Path):
    path = written(tmp_path / "rows.jsonl", b'{"question": "a", "meta": "x"}\n{"question": "b", "meta": {"task": "t"}}')
    rows, rejected = read(path, columns={"question": "question", "task": "meta.task"})
    assert rows == [(2, "b")]
    assert rejected == [(1, "task: meta is not an object")]


def test_bad_elements_of_a_list_are_rejected_by_their_row(tmp_path: Path):
    elements = {
        b'{"question": "a"}': None,
        b"5": "a row that is not an object",
        b'{"question": "\xff"}': "invalid UTF-8",
        b'{"question": "\\ud800"}': "question: half of a surrogate pair",
        b'{"question": "a" "b", "x": [1, {"y": "]}"}]}': "bad JSON",
        b"": "bad JSON",
        b'{"question": "a"} {"question": "b"}': "bad JSON",
        b'{"question": "a"}}': "bad JSON",
        b'{"question": "a", "question": "b"}': "question: a key given twice",
        b'{"question": ' + b"[" * 9999 + b"]" * 9999 + b"}": "brackets nested more than 100 deep",
        b'{"question": ' + b"[" * 200 + b"]" * 200 + b"}": "brackets nested more than 100 deep",
        b'{"question": Infinity}': "question: NaN or Infinity, which JSON does not know",
        b'{"question": "\xc3\xa9, ] }"}': None,
    }
    path = written(tmp_path / "rows.json", b"\xef\xbb\xbf [" + b",\n".join(elements) + b"\n] \n")
    rows, rejected = read(path)
    assert rejected == [(place, reason) for place, reason in enumerate(elements.values(), start=1) if reason]
    assert rows == [(1, "a"), (13, "é, ] }")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'[{"question": "a"}, {"question": "b"', "does not end"),
        (b'[{"question": "a"},\n', "the row that begins on line 2 does not end"),
        (b"[", "does not end"),
        (b'[{"question": "a"}]\n{"question": "b"}', "line 2 goes on"),
        (b'{\n"question": "a"\n}\n{\n"question": "b"\n}', "neither a list of rows nor one object a line"),
        (b"question", "neither a list of rows nor one object a line"),
    ],
)
def test_json_that_is_no_list_of_rows_is_a_sentence(tmp_path: Path, content: bytes, sentence: str):
    with pytest.raises(SourceError, match=sentence):
        read(written(tmp_path / "rows.json", content))


def test_ragged_rows_are_rejected(tmp_path: Path):
    path = written(tmp_path / "rows.csv", b"question,answer\nfine,x\na\nb,y,z\n\nfine,z\n")
    rows, rejected = read(path)
    assert rows == [(2, "fine"), (6, "fine")]
    assert rejected == [(3, "fewer fields than the first row"), (4, "more fields than the first row")]


def test_ragged_rows_of_a_file_without_a_header_are_held_against_its_first_row(tmp_path: Path):
    path = written(tmp_path / "rows.tsv", b"\nfine\tx\na\n")
    rows, rejected = read(path, header=False, columns={"question": "1"})
    assert (rows, rejected) == ([(2, "fine")], [(3, "fewer fields than the first row")])


def test_each_line_of_a_record_with_broken_quotes_is_rejected(tmp_path: Path):
    path = written(tmp_path / "rows.csv", b'question,answer\nfine,x\n"open,x\nb,y\nsaid "so",z\nfine,z\n')
    reason = "quotes that are not closed, or text after a closing quote"
    rows, rejected = read(path)
    assert rows == [(2, "fine"), (6, "fine")]
    assert rejected == [(place, reason) for place in (3, 4, 5)]


def test_a_quote_that_is_never_closed_rejects_every_line_to_the_end(tmp_path: Path):
    path = written(tmp_path / "rows.csv", b'question,answer\nfine,x\n"open,x\n' + b"lost,y\n" * 500)
    rows, rejected = read(path)
    assert rows == [(2, "fine")]
    assert [place for place, _ in rejected] == list(range(3, 504))


def test_broken_quotes_in_the_first_row_of_a_file_without_a_header_are_rejected(tmp_path: Path):
    path = written(tmp_path / "rows.csv", b'"a"b,x\nfine,y\n')
    rows, rejected = read(path, header=False, columns={"question": "1"})
    assert rows == [(2, "fine")]
    assert rejected == [(1, "quotes that are not closed, or text after a closing quote")]


def test_a_file_of_nothing_but_bad_rows_loses_none(tmp_path: Path):
    path = written(tmp_path / "rows.csv", b'"a"b\n"c')
    rows, rejected = read(path, header=False, columns={"question": "1"})
    assert (rows, [place for place, _ in rejected]) == ([], [1, 2])


def test_a_bare_carriage_return_ends_no_line(tmp_path: Path):
    assert read(written(tmp_path / "rows.csv", b"question\na\rb\nfine\n")) == (
        [(3, "fine")],
        [(2, "a carriage return outside of quotes")],
    )
    assert read(written(tmp_path / "rows.tsv", b"question\na\rb\nfine\n"))[0] == [(2, "a\rb"), (3, "fine")]
    assert read(written(tmp_path / "more.csv", b'question\n"a\rb"\n'))[0] == [(2, "a\rb")]


def test_text_that_is_not_utf8_rejects_its_csv_row(tmp_path: Path):
    path = written(tmp_path / "rows.csv", b"question,x\nfine,\xc3\xa9\n\xff,y\nb,\xe9\nfine,\xe6\xb1\x89\n")
    rows, rejected = read(path)
    assert rows == [(2, "fine"), (5, "fine")]
    assert rejected == [(3, "invalid UTF-8"), (4, "invalid UTF-8")]


@pytest.fixture
def short_fields(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fields of at most 1000 characters."""
    before = csv.field_size_limit(1000)
    monkeypatch.setattr(_files_delimited, "FIELD_CHARS", 1000)
    yield
    csv.field_size_limit(before)


@pytest.mark.usefixtures("short_fields")
def test_a_field_past_the_limit_is_rejected_and_reading_goes_on(tmp_path: Path):
    path = written(tmp_path / "rows.csv", b"question\n" + b"x" * 1001 + b"\nfine\n")
    rows, rejected = read(path)
    assert rows == [(3, "fine")]
    assert [place for place, _ in rejected] == [2]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"question,answer,question\n", 'two columns are called "question"'),
        (b'"question"x,answer\n', "the header on line 1 cannot be read"),
        (b"question,\xff\n", "the names of the columns are not UTF-8"),
        (b"\xff\xfeq\0u\0", "this text is UTF-16"),
    ],
)
def test_a_header_that_cannot_be_used_is_a_sentence(tmp_path: Path, content: bytes, sentence: str):
    with pytest.raises(SourceError, match=sentence):
        read(written(tmp_path / "rows.csv", content))


def test_unnamed_columns_may_be_many(tmp_path: Path):
    assert read(written(tmp_path / "rows.csv", b",question,,\n1,fine,,\n"))[0] == [(2, "fine")]


def invalid(values: list[bytes], kind: pa.DataType) -> pa.Array:
    """Text of any bytes, as careless writers store it."""
    binary = pa.array(values, pa.large_binary())
    return pa.Array.from_buffers(kind, len(binary), binary.buffers())


def test_text_in_parquet_that_is_not_utf8_rejects_its_row(tmp_path: Path):
    texts = [b"fine" if number % 7 else b"\xff" for number in range(5000)]
    table = pa.table({"question": invalid(texts, pa.large_string())})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=1000)
    rows, rejected = read(tmp_path / "rows.parquet", slice_bytes=1)
    assert [place for place, _ in rows] == [number + 1 for number in range(5000) if number % 7]
    assert rejected == [(number + 1, "invalid UTF-8") for number in range(5000) if not number % 7]


def test_a_system_message_that_is_not_utf8_rejects_its_row_where_a_shape_looks_for_tools_in_it(tmp_path: Path):
    systems = invalid([b"SYSTEM: s", b"SYSTEM: \xff"], pa.large_string())
    chat = "USER: When?\n\n\nASSISTANT: Noon."
    pq.write_table(pa.table({"system": systems, "chat": [chat, chat]}), tmp_path / "rows.parquet")
    rows, rejected = read(tmp_path / "rows.parquet", shape="glaive")
    assert [place for place, _ in rows] == [1]
    assert rejected == [(2, "invalid UTF-8")]


def test_text_inside_of_parquet_lists_that_is_not_utf8_rejects_its_row(tmp_path: Path):
    content = invalid([b"a", b"b", b"\xff", b"d"], pa.large_string())
    turn = pa.StructArray.from_arrays([pa.array(["user"] * 4, pa.large_string()), content], ["role", "content"])
    turns = pa.LargeListArray.from_arrays(pa.array([0, 2, 3, 4], pa.int64()), turn)
    references = pa.LargeListArray.from_arrays(
        pa.array([0, 1, 2, 3], pa.int64()), invalid([b"a", b"b", b"\xfe"], pa.large_string())
    )
    pq.write_table(pa.table({"messages": turns, "reference": references}), tmp_path / "rows.parquet")
    rows, rejected = read(tmp_path / "rows.parquet")
    assert [place for place, _ in rows] == [1]
    assert rejected == [(2, "invalid UTF-8"), (3, "invalid UTF-8")]


def test_bad_messages_in_parquet_are_rejected_for_the_same_reasons(tmp_path: Path):
    values = [[{"role": "user", "content": "a"}], [{"role": "alien", "content": "a"}], [{"role": "user"}], [None], None]
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    pq.write_table(pa.table({"messages": pa.array(values, kind)}), tmp_path / "rows.parquet")
    rows, rejected = read(tmp_path / "rows.parquet")
    assert [place for place, _ in rows] == [1, 5]
    assert rejected == [
        (
            2,
            'messages: the role "alien" is none of system, user, assistant, tool; '
            'roles = { "alien" = "..." } says which it is',
        ),
        (3, "messages: a message without text content"),
        (4, "messages: a message that is not an object"),
    ]


@pytest.mark.parametrize(
    ("name", "column", "sentence"),
    [
        ("question", pa.array([1.5]), 'column "question" has type double; question wants text'),
        ("question", pa.array([True]), 'column "question" has type bool; question wants text'),
        ("question", pa.array([b"a"]), 'column "question" has type binary; question wants text'),
        ("id", pa.array([["a"]]), 'column "id" has type list<.*>; id wants text'),
        ("reference", pa.array([[True]]), "reference wants text, or a list of texts"),
        ("messages", pa.array([1]), "messages wants a list of {role, content}"),
        ("messages", pa.array([[{"from": "a"}]]), "messages wants a list of {role, content}"),
        ("messages", pa.array([[{"role": "user", "content": 5}]]), "messages wants a list of {role, content}"),
    ],
)
def test_a_parquet_column_of_a_wrong_type_is_a_sentence(tmp_path: Path, name: str, column: pa.Array, sentence: str):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"question": ["a"]} | {name: column}), path)
    with pytest.raises(SourceError, match=sentence) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_parquet_columns_of_one_name_are_a_sentence(tmp_path: Path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["question", "question"])
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(SourceError, match='two columns are called "question"'):
        read(tmp_path / "rows.parquet")


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"not parquet at all"])
def test_broken_parquet_is_a_sentence(tmp_path: Path, damage: bytes):
    path = written(tmp_path / "rows.parquet", damage)
    for use in (read, lambda path: Files(path=path).declared_rows()):
        with pytest.raises(SourceError, match=r"rows\.parquet: this is broken Parquet"):
            use(path)


def test_parquet_columns_whose_names_are_not_utf8_are_a_sentence(tmp_path: Path):
    pq.write_table(pa.table({"question": ["a"]}), tmp_path / "rows.parquet", store_schema=False)
    content = (tmp_path / "rows.parquet").read_bytes().replace(b"question", b"\xff\xfeestion")
    with pytest.raises(SourceError, match="this is broken Parquet"):
        read(written(tmp_path / "rows.parquet", content))


def test_a_damaged_page_of_parquet_is_a_sentence(tmp_path: Path):
    table = pa.table({"question": [f"question number {number}" for number in range(1000)]})
    pq.write_table(table, tmp_path / "rows.parquet", compression="none", write_page_checksum=True, use_dictionary=False)
    content = bytearray((tmp_path / "rows.parquet").read_bytes())
    content[content.index(b"question number 500")] ^= 1
    with pytest.raises(SourceError, match="this is broken Parquet"):
        read(written(tmp_path / "rows.parquet", bytes(content)))
