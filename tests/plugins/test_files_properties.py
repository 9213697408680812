"""Source `files`: what holds for all rows, lines and slices."""

import contextlib
import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_plugins.sources.files.kind import Files
from orca_recipes.errors import SourceError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FILLED = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXT_ROWS = st.lists(
    st.fixed_dictionaries(
        {"question": TEXT}, optional=dict.fromkeys(("reference", "task", "id", "system", "answer"), FILLED)
    ),
    min_size=1,
    max_size=6,
)
TURNS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": TEXT}),
    max_size=4,
)
RICH_ROWS = st.lists(
    st.fixed_dictionaries(
        {"question": TEXT},
        optional={"id": INTEGERS, "reference": st.lists(TEXT, max_size=3), "messages": st.none() | TURNS},
    ),
    min_size=1,
    max_size=6,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from(["question", "role"]), inner),
    max_leaves=8,
)
COLUMNS = st.sampled_from(["question", "reference", "id", "messages", "other"])
ROW_LINES = st.dictionaries(COLUMNS, JSON | TURNS | TEXT | INTEGERS, max_size=4).map(
    lambda row: json.dumps(row).encode()
)
LINES = st.one_of(
    ROW_LINES,
    ROW_LINES,
    TEXT.map(lambda text: json.dumps({"question": text}, ensure_ascii=False).encode()),
    st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")),
    st.sampled_from(
        [b"", b" ", b"\r", b"{}{}", b'{"question": "\xff"}', b'{"question": 1, "question": 2}', b'{"x": Inf}']
    ),
)


def read(content: bytes, name: str, *, slice_bytes: int = 1 << 30, **options: Any) -> tuple[list[Any], list[Any]]:
    """Rows and rejections of a file of this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        source = Files(path=path, **options)
        readings = [reading for piece in source.slices(slice_bytes=slice_bytes) for reading in source.read(slice=piece)]
    rows = [row for reading in readings for row in reading.rows.to_dicts()]
    return rows, [row for reading in readings for row in reading.rejected.rows()]


def delimited(rows: list[dict[str, Any]], **dialect: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), restval="", **dialect)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    names = dict.fromkeys(name for row in rows for name in row)
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), sink, row_group_size=2)
    return sink.getvalue()


def jsonl(rows: list[dict[str, Any]], **style: Any) -> bytes:
    return "".join(json.dumps(row, **style) + "\n" for row in rows).encode()


def bare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "place"} for row in rows]


@settings(deadline=None, max_examples=60)
@given(rows=TEXT_ROWS)
def test_rows_of_text_are_the_same_in_every_format(rows: list[dict[str, Any]]):
    lines, rejected = read(jsonl(rows), "rows.jsonl")
    assert not rejected
    assert [row["question"] for row in lines] == [row["question"] for row in rows]
    assert [row["place"] for row in lines] == list(range(1, len(rows) + 1))
    others = {
        "escaped.jsonl": jsonl(rows, ensure_ascii=False),
        "list.json": json.dumps(rows).encode(),
        "rows.jsonl.gz": gzip.compress(jsonl(rows)),
        "rows.csv": delimited(rows, quoting=csv.QUOTE_ALL),
        "rows.parquet": parquet(rows),
    }
    for name, content in others.items():
        found, rejected = read(content, name)
        assert (bare(found), rejected) == (bare(lines), []), name


@settings(deadline=None, max_examples=60)
@given(rows=RICH_ROWS, train_on=st.sampled_from(["all", "last"]))
def test_rows_with_lists_and_messages_are_the_same_in_every_format(rows: list[dict[str, Any]], train_on: str):
    lines = read(jsonl(rows), "rows.jsonl", train_on=train_on)
    assert read(json.dumps(rows).encode(), "rows.json", train_on=train_on) == lines
    assert read(parquet(rows), "rows.parquet", train_on=train_on) == lines


@settings(deadline=None, max_examples=100)
@given(lines=st.lists(LINES, max_size=12), slice_bytes=st.integers(1, 200), end=st.sampled_from([b"", b"\n"]))
def test_any_cut_of_any_lines_gives_the_same_rows_and_places(lines: list[bytes], slice_bytes: int, end: bytes):
    content = b'{"question": "first"}\n' + b"\n".join(lines) + end
    whole = read(content, "rows.jsonl")
    assert read(content, "rows.jsonl", slice_bytes=slice_bytes) == whole
    assert read(gzip.compress(content), "rows.jsonl.gz") == whole


@settings(deadline=None, max_examples=100)
@given(lines=st.lists(LINES, max_size=8))
def test_the_company_of_a_bad_line_changes_nothing_for_the_others(lines: list[bytes]):
    content = b'{"question": "first"}\n' + b"\n".join(lines)
    rows, rejected = read(content, "rows.jsonl")
    assert read(content + b"\n{", "rows.jsonl") == (rows, [*rejected, (content.count(b"\n") + 2, "bad JSON")])


@settings(deadline=None, max_examples=100)
@given(lines=st.lists(LINES, max_size=8))
def test_every_line_that_is_not_blank_is_a_row_or_a_rejection(lines: list[bytes]):
    content = b'{"question": "first"}\n' + b"\n".join(lines)
    rows, rejected = read(content, "rows.jsonl")
    places = [row["place"] for row in rows] + [place for place, _ in rejected]
    assert sorted(places) == [n for n, line in enumerate(content.split(b"\n"), start=1) if line.strip(b" \t\r")]


@settings(deadline=None, max_examples=100)
@given(
    records=st.lists(st.lists(FILLED, min_size=2, max_size=2), min_size=1, max_size=6),
    blanks=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_places_of_csv_records_count_every_line(records: list[list[str]], blanks: list[int], ending: str):
    text, places = "question,answer" + ending, []
    for record, blank in zip(records, blanks, strict=False):
        text += ending * blank
        places.append(text.count("\n") + 1)
        text += ",".join('"' + field.replace('"', '""') + '"' for field in record) + ending
    rows, rejected = read(text.encode(), "rows.csv")
    assert [(row["place"], row["question"], row["answer"]) for row in rows] == [
        (place, *record) for place, record in zip(places, records, strict=True)
    ]
    assert not rejected


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.json"])
def test_any_bytes_give_rows_rejections_or_a_sentence(name: str):
    start = {"rows.csv": b"question,answer\n", "rows.tsv": b"question\tanswer\n", "rows.json": b"["}.get(name, b"")

    @settings(deadline=None, max_examples=100)
    @given(content=st.binary(max_size=60) | st.text('"{}[],:\\\n\t\r question1', max_size=60).map(str.encode))
    def reads(content: bytes) -> None:
        with contextlib.suppress(SourceError):
            rows, rejected = read(start + content, name)
            places = [row["place"] for row in rows] + [place for place, _ in rejected]
            assert len(set(places)) == len(places)

    reads()
