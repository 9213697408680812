"""Source `files`: lists of rows in JSON, read by a window, and by the keys that lead to them."""

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_plugins.sources.files.json_rows.json_window import Window
from orca_plugins.sources.files.kind import Files
from orca_recipes.errors import SourceError


def questions(path: Path, **options: Any) -> list[tuple[int, str]]:
    source = Files(path=path, **options)
    readings = [reading for piece in source.slices(slice_bytes=1 << 20) for reading in source.read(slice=piece)]
    return [row for reading in readings for row in reading.rows.select("place", "question").rows()]


def written(folder: Path, content: Any) -> Path:
    path = folder / "data.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


ROWS = [{"question": "one"}, {"question": "two"}]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_is_read_by_the_keys_that_lead_to_it(tmp_path: Path, indent: int | None):
    deep = {"version": "1.0", "x": [1, {"data": "]}"}], "a": {"n": None, "data": ROWS, "t": "}"}, "end": [[]]}
    path = written(tmp_path, json.dumps(deep, indent=indent))
    assert questions(path, rows="a.data") == [(1, "one"), (2, "two")]


def test_a_path_that_leads_nowhere_is_a_sentence(tmp_path: Path):
    path = written(tmp_path, {"version": 1, "data": ROWS, "n": 5})
    with pytest.raises(
        SourceError, match=r'data.json: no key "dat" leads to the rows; the object has: version, data, n'
    ):
        questions(path, rows="dat")
    with pytest.raises(SourceError, match='rows = "n" leads to no list'):
        questions(path, rows="n")
    with pytest.raises(SourceError, match='no key "x": "n" is no object'):
        questions(path, rows="n.x")
    with pytest.raises(SourceError, match='no key "data": the file is no object'):
        questions(written(tmp_path, ROWS), rows="data")
    with pytest.raises(SourceError, match='the key "data" is given twice'):
        questions(written(tmp_path, '{"data": [{"question": "a"}], "data": []}'), rows="data")


@pytest.mark.parametrize("end", ["", "]", "]}x", "], 5}", '], "a"}', '], "a": 5', '], "a": "5}'])
def test_an_object_that_does_not_end_is_a_sentence(tmp_path: Path, end: str):
    with pytest.raises(SourceError, match=r"data\.json: .*(cut off|goes on|no JSON)"):
        questions(written(tmp_path, '{"data": [{"question": "a"}' + end), rows="data")


def test_rows_are_for_json_alone(tmp_path: Path):
    (tmp_path / "data.csv").write_text("question\na\n")
    with pytest.raises(SourceError, match=r'rows = "data" is for \.json files'):
        questions(tmp_path / "data.csv", rows="data")


@pytest.mark.parametrize("indent", [None, 2])
def test_an_object_that_holds_the_rows_is_told_with_the_key(tmp_path: Path, indent: int | None):
    path = written(tmp_path, json.dumps({"version": "1.0", "data": ROWS}, indent=indent))
    with pytest.raises(SourceError, match='rows = "data" reads the list in it'):
        questions(path)
    assert Files(path=path).suggested() == {"rows": "data"}


def test_an_object_that_is_a_row_is_a_row(tmp_path: Path):
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert len(questions(written(tmp_path, row))) == 1
    assert Files(path=written(tmp_path, row)).suggested() == {}
    assert questions(written(tmp_path, '{"question": "a", "data": [{}]}\n{"question": "b"}\n')) == [(1, "a"), (2, "b")]


def test_a_long_list_is_not_held(tmp_path: Path):
    path = tmp_path / "data.json"
    row = json.dumps({"question": "q" * 10_000})
    with path.open("w") as stream:
        stream.write('{"skipped": [' + ",".join([row] * 6000) + '], "data": [' + ",".join([row] * 12_000) + "]}")
    source = Files(path=path, rows="data")
    tracemalloc.start()
    (piece,) = source.slices(slice_bytes=1 << 30)
    count = sum(len(reading.rows) for reading in source.read(slice=piece))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 12_000
    assert most < path.stat().st_size * 0.75


VALUES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=6), st.integers(), st.sampled_from([None, 1]), st.booleans())
def test_the_window_reads_what_json_reads(values: list[Any], seed: int, indent: int | None, ascii: bool):
    text = json.dumps(values, indent=indent, ensure_ascii=ascii).encode(errors="surrogatepass")
    draw = random.Random(seed)
    pieces, at = [], 0
    while at < len(text):
        size = draw.choice([1, 2, 7, 40])
        pieces.append(text[at : at + size])
        at += size
    window = Window("here", iter(pieces))
    assert window.mark() == "["
    items = [item.encode(errors="surrogateescape") for item, _ in window.list_items()]
    assert [json.loads(item.decode(errors="surrogatepass")) for item in items] == values
    assert window.mark() == ""
    around = Window("here", iter([b'{"a": ', *pieces, b', "b": 1}']))
    assert around.mark() == "{"
    for _ in around.object_keys():
        around.skip()
    assert around.mark() == ""


@pytest.mark.parametrize("name", ["data.json", "data.jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
def test_several_lists_of_one_object_are_told_by_their_keys(tmp_path: Path, name: str, indent: int | None):
    path = tmp_path / name
    rows = [{"question": "a", "answer": "b"}]
    path.write_text(json.dumps({"train": rows, "test": rows}, indent=indent), encoding="utf-8")
    with pytest.raises(SourceError, match='rows = "train" or rows = "test" reads the list in it'):
        Files(path=path, shape="auto").settled(files=[], versions={}, insist=False)
    assert (
        Files(path=path, format="json", rows="train", shape="auto").settled(files=[], versions={}, insist=False).shape
    )
