"""Source `files`: which columns are read from which format, and that a row is the same in every one of them."""

import csv
import gzip
import io
import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from orca_plugins.sources.files.kind import Files
from orca_recipes.contract.frames import BESIDE_CONTENT, rejected_rows_schema, rows_schema
from orca_recipes.errors import SourceError

ROWS = [
    {
        "question": "What is 2 + 3?",
        "reference": "5",
        "task": "sum",
        "id": "a",
        "system": "Be brief.",
        "answer": "Five.",
    },
    {"question": 'Une phrase, « avec » "guillemets"\nsur deux lignes\r\n', "reference": "d'accord", "task": "mot"},
    {"question": "汉字\u2028и кириллица 😀", "category": "langue", "id": "c"},
    {"question": "", "answer": "tab\there"},
]
MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "See you."},
    {"role": "tool", "content": "{}"},
]


def read(
    path: Path, *, slice_bytes: int = 1 << 20, **options: Any
) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """Rows without their nulls, and place and reason of rejections."""
    source = Files(path=path, **options)
    readings = [reading for piece in source.slices(slice_bytes=slice_bytes) for reading in source.read(slice=piece)]
    rows = [row for reading in readings for row in reading.rows.to_dicts()]
    rejected = [row for reading in readings for row in reading.rejected.rows()]
    return [{name: value for name, value in row.items() if value is not None} for row in rows], rejected


def expected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as our columns, without places."""
    renamed = [{**row, "references": [row["reference"]]} if "reference" in row else row for row in rows]
    return [{name: value for name, value in row.items() if name != "reference"} for row in renamed]


def without_places(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "place"} for row in rows]


def jsonl(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def delimited(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, delimiter=delimiter, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), sink)
    return sink.getvalue()


def zstd(plain: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(plain)
    return sink.getvalue().to_pybytes()


FORMATS = {
    "jsonl": lambda: jsonl(ROWS),
    "ndjson": lambda: jsonl(ROWS),
    "json": lambda: json.dumps(ROWS, indent=1).encode(),
    "lines.json": lambda: jsonl(ROWS),
    "csv": lambda: delimited(ROWS),
    "parquet": lambda: parquet(ROWS),
}


@pytest.mark.parametrize("compress", [lambda plain: plain, gzip.compress, zstd], ids=["plain", "gz", "zst"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_rows_are_the_same_in_every_format(tmp_path: Path, name: str, compress: Any):
    suffix = {gzip.compress: ".gz", zstd: ".zst"}.get(compress, "")
    path = tmp_path / f"rows.{name}{suffix}"
    path.write_bytes(compress(FORMATS[name]()))
    rows, rejected = read(path)
    assert without_places(rows) == expected(ROWS)
    assert rejected == []


def test_tsv_gives_the_same_rows_where_no_field_holds_a_tab(tmp_path: Path):
    rows = [{"question": 'He said "no".', "reference": "5"}, {"question": "'", "reference": '"'}]
    text = "question\treference\r\n" + "".join(f"{row['question']}\t{row['reference']}\r\n" for row in rows)
    (tmp_path / "rows.tsv").write_bytes(text.encode())
    assert without_places(read(tmp_path / "rows.tsv")[0]) == expected(rows)


@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "parquet"])
def test_integers_become_their_digits(tmp_path: Path, name: str):
    numbers = [{"question": 12, "reference": -5, "id": 0, "task": 7, "category": 3, "answer": 2**63 - 1, "system": 1}]
    form = {"jsonl": jsonl, "json": lambda rows: json.dumps(rows).encode(), "csv": delimited, "parquet": parquet}[name]
    (tmp_path / f"rows.{name}").write_bytes(form(numbers))
    digits = {name: str(value) for name, value in numbers[0].items()}
    assert without_places(read(tmp_path / f"rows.{name}")[0]) == expected([digits])


def test_integers_past_64_bits_are_exact(tmp_path: Path):
    digits = "123456789" * 600
    (tmp_path / "rows.jsonl").write_text(f'{{"question": "a", "id": {digits}}}\n{{"question": "b", "id": -0}}\n')
    (tmp_path / "list.json").write_text(f'[{{"question": "a", "id": {digits}}}]')
    assert [row["id"] for row in read(tmp_path / "rows.jsonl")[0]] == [digits, "0"]
    assert read(tmp_path / "list.json")[0][0]["id"] == digits


def test_a_parquet_decimal_without_a_scale_is_an_integer(tmp_path: Path):
    table = pa.table({"question": ["a"], "id": pa.array([10**30], pa.decimal128(38, 0))})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet")[0][0]["id"] == str(10**30)


def test_a_column_may_hold_integers_and_text(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(jsonl([{"question": "a", "id": 1}, {"question": 2, "id": "x"}]))
    assert [(row["question"], row["id"]) for row in read(tmp_path / "rows.jsonl")[0]] == [("a", "1"), ("2", "x")]


@pytest.mark.parametrize("name", ["jsonl", "json", "parquet"])
def test_a_reference_may_be_a_list_of_several(tmp_path: Path, name: str):
    rows = [{"question": "a", "reference": ["x", "y"]}, {"question": "b", "reference": []}, {"question": "c"}]
    form = {"jsonl": jsonl, "json": lambda rows: json.dumps(rows).encode(), "parquet": parquet}[name]
    (tmp_path / f"rows.{name}").write_bytes(form(rows))
    assert [row.get("references") for row in read(tmp_path / f"rows.{name}")[0]] == [["x", "y"], None, None]


@pytest.mark.parametrize("name", ["jsonl", "json", "parquet"])
def test_a_list_of_references_may_hold_integers(tmp_path: Path, name: str):
    rows = [{"question": "a", "reference": [1, 20]}]
    form = {"jsonl": jsonl, "json": lambda rows: json.dumps(rows).encode(), "parquet": parquet}[name]
    (tmp_path / f"rows.{name}").write_bytes(form(rows))
    assert read(tmp_path / f"rows.{name}")[0][0]["references"] == ["1", "20"]


@pytest.mark.parametrize("name", ["jsonl", "json", "parquet"])
def test_messages_are_read_and_all_assistant_messages_trained(tmp_path: Path, name: str):
    form = {"jsonl": jsonl, "json": lambda rows: json.dumps(rows).encode(), "parquet": parquet}[name]
    (tmp_path / f"rows.{name}").write_bytes(form([{"messages": MESSAGES}]))
    plain = dict.fromkeys(BESIDE_CONTENT)
    trained = [{**message, "trained": message["role"] == "assistant", **plain} for message in MESSAGES]
    assert read(tmp_path / f"rows.{name}")[0] == [{"place": 1, "messages": trained}]


def test_train_on_last_trains_only_the_last_assistant_message_of_each_row(tmp_path: Path):
    rows = [{"messages": MESSAGES}, {"messages": MESSAGES[:2]}, {"question": "a"}, {"messages": MESSAGES[:3]}]
    (tmp_path / "rows.jsonl").write_bytes(jsonl(rows))
    read_rows = read(tmp_path / "rows.jsonl", train_on="last")[0]
    marks = [[message["trained"] for message in row.get("messages", [])] for row in read_rows]
    assert marks == [[False] * 4 + [True, False], [False] * 2, [], [False, False, True]]


def test_a_conversation_of_two_thousand_turns_is_read(tmp_path: Path):
    turns = [{"role": ("user", "assistant")[turn % 2], "content": f"turn {turn}"} for turn in range(2000)]
    (tmp_path / "rows.jsonl").write_bytes(jsonl([{"messages": turns}]))
    rows, rejected = read(tmp_path / "rows.jsonl")
    assert [message["content"] for message in rows[0]["messages"]] == [turn["content"] for turn in turns]
    assert rejected == []


@pytest.mark.parametrize("name", ["jsonl", "json", "parquet"])
def test_a_nested_name_reaches_into_an_object_and_a_key_with_the_dot_wins(tmp_path: Path, name: str):
    rows = [
        {"question": "a", "meta": {"task": "inner"}, "meta.task": None},
        {"question": "b", "meta": {"task": "inner"}, "meta.task": "outer"},
        {"question": "c", "meta": None, "meta.task": None},
    ]
    form = {"jsonl": jsonl, "json": lambda rows: json.dumps(rows).encode(), "parquet": parquet}[name]
    (tmp_path / f"rows.{name}").write_bytes(form(rows))
    read_rows = read(tmp_path / f"rows.{name}", columns={"question": "question", "task": "meta.task"})[0]
    assert [row.get("task") for row in read_rows] == ["inner", "outer", None]


@pytest.mark.parametrize("name", ["jsonl", "json", "parquet"])
def test_messages_and_references_may_be_nested(tmp_path: Path, name: str):
    turns = [{"role": "user", "content": "a"}]
    rows = [{"x": {"turns": turns, "gold": ["g"]}}, {"x.turns": turns * 2, "x.gold": ["h"]}]
    form = {"jsonl": jsonl, "json": lambda rows: json.dumps(rows).encode(), "parquet": parquet}[name]
    (tmp_path / f"rows.{name}").write_bytes(form(rows))
    found = read(tmp_path / f"rows.{name}", columns={"messages": "x.turns", "reference": "x.gold"})[0]
    assert [(len(row["messages"]), row["references"]) for row in found] == [(1, ["g"]), (2, ["h"])]


def test_columns_of_the_file_are_called_ours(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(jsonl([{"prompt": "a", "response": "b", "id": "not asked for"}]))
    rows = read(tmp_path / "rows.jsonl", columns={"question": "prompt", "reference": "response"})[0]
    assert rows == [{"place": 1, "question": "a", "references": ["b"]}]


def test_columns_that_name_no_question_leave_it_its_own_name(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(jsonl([{"question": "a", "answer": "b"}]))
    assert read(tmp_path / "rows.jsonl", columns={"reference": "answer"})[0] == [
        {"place": 1, "question": "a", "references": ["b"]}
    ]


def test_one_column_of_the_file_can_be_two_of_ours(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(jsonl([{"question": "a", "answer": "b"}]))
    columns = {"question": "question", "reference": "answer", "answer": "answer"}
    assert read(tmp_path / "rows.jsonl", columns=columns)[0][0]["references"] == ["b"]


def test_names_that_are_both_a_value_and_an_object_are_still_read_row_by_row(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(jsonl([{"a": "text", "a.b": "t"}, {"a": {"b": "u"}}]))
    rows, rejected = read(tmp_path / "rows.jsonl", columns={"question": "a", "task": "a.b"})
    assert rows == [{"place": 1, "question": "text", "task": "t"}]
    assert rejected == [(2, "question: an object where text should be")]


def test_a_constant_task_takes_the_place_of_the_column(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(jsonl([{"question": "a", "task": "t"}, {"question": "b", "task": 1.5}]))
    rows, rejected = read(tmp_path / "rows.jsonl", task="gsm8k")
    assert [row["task"] for row in rows] == ["gsm8k", "gsm8k"]
    assert rejected == []


def test_a_file_without_a_header_has_columns_called_by_number(tmp_path: Path):
    (tmp_path / "rows.tsv").write_text("one\ttwo\tthree\nuno\tdos\ttres\n")
    rows = read(tmp_path / "rows.tsv", header=False, columns={"question": "1", "answer": "3"})[0]
    assert rows == [
        {"place": 1, "question": "one", "answer": "three"},
        {"place": 2, "question": "uno", "answer": "tres"},
    ]


def test_an_empty_field_is_an_empty_question_and_otherwise_nothing(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("question,reference,task,id,system,answer,category\n,,,,,,\n")
    assert read(tmp_path / "rows.csv")[0] == [{"place": 1 + 1, "question": ""}]


def test_quotes_are_text_in_tsv_and_where_quoting_is_turned_off(tmp_path: Path):
    (tmp_path / "rows.tsv").write_text('question\tanswer\n"a" b\t"\n')
    (tmp_path / "rows.csv").write_text('question,answer\n"a" b,"\n')
    for path, options in ((tmp_path / "rows.tsv", {}), (tmp_path / "rows.csv", {"quote": ""})):
        assert read(path, **options)[0] == [{"place": 2, "question": '"a" b', "answer": '"'}]


def test_another_quote_can_be_set(tmp_path: Path):
    (tmp_path / "rows.tsv").write_text("question\tanswer\n'a\tb''\n'\tc\n")
    assert read(tmp_path / "rows.tsv", quote="'")[0] == [{"place": 2, "question": "a\tb'\n", "answer": "c"}]


def test_the_format_can_be_set_where_the_name_does_not_say_it(tmp_path: Path):
    (tmp_path / "rows.txt").write_bytes(jsonl([{"question": "a"}]))
    assert read(tmp_path / "rows.txt", format="jsonl")[0] == [{"place": 1, "question": "a"}]


@pytest.mark.parametrize(
    "storage",
    [
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int16(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ],
    ids=str,
)
def test_parquet_text_may_be_stored_in_any_way(tmp_path: Path, storage: pa.DataType):
    texts = pa.array(["a", None, "a", "b"], pa.string())
    inner = storage if storage != pa.string_view() else pa.string()  # pyarrow writes no views inside of lists
    turn = pa.StructArray.from_arrays([pa.array(["user"] * 4), texts.fill_null("").cast(inner)], ["role", "content"])
    turns = pa.ListArray.from_arrays(pa.array([0, 1, 1, 3, 4], pa.int32()), turn)
    table = pa.table({"question": texts.cast(storage), "messages": turns, "id": pa.array([1, 2, 3, 4], pa.uint8())})
    pq.write_table(table, tmp_path / "rows.parquet")
    rows, rejected = read(tmp_path / "rows.parquet")
    assert [row.get("question") for row in rows] == ["a", None, "a", "b"]
    assert [[message["content"] for message in row["messages"]] for row in rows] == [["a"], [], ["", "a"], ["b"]]
    assert rejected == []


def test_a_parquet_column_of_nothing_but_nulls_is_null(tmp_path: Path):
    table = pa.table({"question": ["a"], "messages": pa.nulls(1), "reference": pa.nulls(1), "id": pa.nulls(1)})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet")[0] == [{"place": 1, "question": "a"}]


def test_only_parquet_says_how_many_rows_it_has(tmp_path: Path):
    for name in ("a.parquet", "b.parquet"):
        (tmp_path / name).write_bytes(parquet(ROWS))
    assert Files(path=tmp_path).declared_rows() == 2 * len(ROWS)
    (tmp_path / "c.jsonl").write_bytes(jsonl(ROWS))
    assert Files(path=tmp_path).declared_rows() is None
    assert Files(path=tmp_path / "c.jsonl").declared_rows() is None


def test_compressed_parquet_does_not_say_how_many_rows_it_has(tmp_path: Path):
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(parquet(ROWS)))
    assert Files(path=tmp_path).declared_rows() is None


@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "parquet"])
def test_readings_have_the_columns_of_the_contract(tmp_path: Path, name: str):
    (tmp_path / f"rows.{name}").write_bytes(FORMATS[name]())
    source = Files(path=tmp_path / f"rows.{name}")
    (reading,) = [reading for piece in source.slices(slice_bytes=1 << 20) for reading in source.read(slice=piece)]
    assert dict(reading.rows.schema) == rows_schema()
    assert dict(reading.rejected.schema) == rejected_rows_schema()


def test_a_source_and_its_slices_can_be_sent_to_a_worker(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(jsonl(ROWS))
    source = Files(path=tmp_path / "rows.jsonl", columns={"question": "question"})
    pieces = source.slices(slice_bytes=10)
    assert pickle.loads(pickle.dumps(source)) == source
    assert pickle.loads(pickle.dumps(pieces)) == pieces


def test_where_files_lie_is_no_part_of_a_source(tmp_path: Path):
    here, there = Files(path=tmp_path / "a", task="t"), Files(path=tmp_path / "b", task="t")
    assert here.identity() == there.identity()
    assert here.identity() != Files(path=tmp_path / "a", task="u").identity()


def test_every_option_is_described():
    own = set(Files.model_fields) - {"kind", "on_bad_row"}
    assert all(Files.model_fields[name].description for name in own)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"columns": {"quesiton": "q"}}, 'we have no column "quesiton"; did you mean "question"?'),
        ({"columns": {"zzz": "q"}}, 'we have no column "zzz"; there are: question, reference, task, id'),
        ({"columns": {"question": ""}}, "question: name a column of the file"),
        ({"quote": '""'}, "a quote is one printable character"),
        ({"quote": ","}, "a quote is one printable character"),
        ({"quote": "\t"}, "a quote is one printable character"),
        ({"format": "xml"}, "'jsonl', 'json', 'csv', 'tsv', 'parquet' or 'arrow'"),
    ],
)
def test_a_wrong_option_is_answered_with_a_sentence(options: dict[str, Any], sentence: str):
    with pytest.raises(ValidationError) as caught:
        Files(path=Path("rows.jsonl"), **options)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "parquet"])
def test_a_file_without_question_and_messages_is_answered_with_the_names_it_has(tmp_path: Path, name: str):
    rows = [{"instruction": "a", "qeustion": "b"}]
    form = {"jsonl": jsonl, "json": lambda rows: json.dumps(rows).encode(), "csv": delimited, "parquet": parquet}[name]
    (tmp_path / f"rows.{name}").write_bytes(form(rows))
    with pytest.raises(
        SourceError, match=r'no column "question" or "messages"; the file has: instruction, qeustion'
    ) as e:
        read(tmp_path / f"rows.{name}")
    assert '(did you mean "qeustion"?)' in str(e.value)


def test_a_misspelt_nested_name_is_answered_with_the_right_one(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(jsonl([{"turn": {"question": "a"}}]))
    with pytest.raises(SourceError, match=r'did you mean "turn.question"'):
        read(tmp_path / "rows.jsonl", columns={"question": "turn.qestion"})


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_a_misspelt_column_is_answered_with_the_right_one(tmp_path: Path, name: str):
    rows = [{"question": "a", "source": "b"}]
    (tmp_path / f"rows.{name}").write_bytes({"csv": delimited, "parquet": parquet}[name](rows))
    with pytest.raises(SourceError, match=r'no column "sorce" for task; the file has: question, source \(did you mean'):
        read(tmp_path / f"rows.{name}", columns={"question": "question", "task": "sorce"})


def test_names_in_a_file_cannot_act_on_the_terminal(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(jsonl([{"\x1b[31mred" + "x" * 999: "a"}]))
    with pytest.raises(SourceError) as caught:
        read(tmp_path / "rows.jsonl")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_gsm8k_is_read_whole(shared: Path):
    path = shared / "data" / "gsm8k" / "train.jsonl.gz"
    rows, rejected = read(path, columns={"question": "question", "reference": "answer"}, task="gsm8k")
    theirs = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert [(row["question"], row["references"]) for row in rows] == [(t["question"], [t["answer"]]) for t in theirs]
    assert [row["place"] for row in rows] == list(range(1, 7473 + 1))
    assert rejected == []


def test_chains_of_thought_are_read_from_tsv_without_a_header(shared: Path):
    columns = {"question": "1", "reference": "2", "answer": "3"}
    rows, rejected = read(shared / "data" / "cot" / "*.tsv.gz", header=False, columns=columns)
    assert len(rows) == 2728 + 6915 + 7112 + 7473 + 1084 + 2061
    assert rejected == []
    assert rows[0]["references"] == ["(C)"]


def test_chat_files_are_read_as_messages(shared: Path):
    rows, rejected = read(shared / "data" / "chat", slice_bytes=50_000)
    assert len(rows) == 100 + 378 + 512 + 512
    assert rejected == []
    theirs = json.loads((shared / "data" / "chat" / "train_conversation.jsonl").read_text().splitlines()[0])["messages"]
    assert [(turn["role"], turn["content"]) for turn in rows[0]["messages"]] == [
        (turn["role"], turn["content"]) for turn in theirs
    ]


def test_a_list_of_identity_rows_is_read(shared: Path):
    path = shared / "data" / "responses" / "identity.json"
    rows, rejected = read(path, columns={"question": "instruction", "answer": "output"})
    theirs = json.loads(path.read_text())
    assert [(row["question"], row["answer"]) for row in rows] == [(t["instruction"], t["output"]) for t in theirs]
    assert rejected == []
