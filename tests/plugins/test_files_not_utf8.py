"""Text of Parquet and Arrow that is not UTF-8, wherever it lies: its row is rejected, and the others are read."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orca_plugins.sources.files.kind import Files
from orca_recipes.errors import SourceError

BAD = b"\xff"
ASKED, TOLD = (b"user", b"Hi"), (b"assistant", b"Hello.")
SPELT = b'[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]'


def texts(*values: bytes) -> pa.Array:
    """Text as a writer leaves it that does not look at its bytes."""
    plain = pa.array(values, pa.binary())
    return pa.StringArray.from_buffers(len(plain), plain.buffers()[1], plain.buffers()[2])


def talks(*rows: list[tuple[bytes, bytes]]) -> pa.Array:
    flat = [message for row in rows for message in row]
    parts = [texts(*(message[place] for message in flat)) for place in (0, 1)]
    starts = [sum(map(len, rows[:place])) for place in range(len(rows) + 1)]
    return pa.ListArray.from_arrays(
        pa.array(starts, pa.int32()), pa.StructArray.from_arrays(parts, ["role", "content"])
    )


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "messages as text": ({"messages": texts(SPELT, SPELT.replace(b"Hi", BAD))}, {}),
    "tools": (
        {"messages": talks([ASKED, TOLD], [ASKED, TOLD]), "tools": texts(b"", b'[{"name": "' + BAD + b'"}]')},
        {},
    ),
    "a prompt before a completion": (
        {"prompt": talks([ASKED], [(b"user", BAD)]), "completion": talks([TOLD], [TOLD])},
        {"shape": "prompt_completion_messages"},
    ),
    "a completion": (
        {"prompt": talks([ASKED], [ASKED]), "completion": talks([TOLD], [(b"assistant", BAD)])},
        {"shape": "prompt_completion_messages"},
    ),
    "texts in turn": (
        {"conversations": pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), texts(b"a", b"b", b"c", BAD))},
        {"shape": "lima"},
    ),
    "tags": ({"messages": talks([ASKED, TOLD], [(b"user", BAD), TOLD])}, {"shape": "hermes_messages"}),
    "history": (
        {
            **{name: texts(b"a", b"a") for name in ("instruction", "input", "output")},
            "history": texts(b"[]", b'[["' + BAD + b'", "b"]]'),
        },
        {"shape": "alpaca"},
    ),
    "a question behind history": (
        {
            **{name: texts(b"a", b"a") for name in ("input", "output")},
            "instruction": texts(b"a", BAD),
            "history": pa.array([[["a", "b"]], [["a", "b"]]]),
        },
        {"shape": "alpaca"},
    ),
    "a tree": (
        {
            "prompt": pa.StructArray.from_arrays(
                [
                    texts(b"prompter", b"prompter"),
                    texts(b"Hi", BAD),
                    pa.array([[{"role": "assistant", "text": "a"}]] * 2),
                ],
                ["role", "text", "replies"],
            )
        },
        {"shape": "oasst_tree"},
    ),
}


def written(columns: dict[str, Any], path: Path) -> Path:
    """A file of Parquet, or a stream or an indexed file of Arrow, by its name."""
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        new = pa.ipc.new_stream if path.stem == "stream" else pa.ipc.new_file
        with new(path, table.schema) as writer:
            writer.write_table(table)
    return path


FILES = ("rows.parquet", "stream.arrow", "indexed.arrow")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", CASES)
def test_text_that_is_not_utf8_rejects_its_row_alone(tmp_path: Path, name: str, file: str):
    columns, options = CASES[name]
    source = Files(path=written(columns, tmp_path / file), **options)
    readings = [one for piece in source.slices(slice_bytes=1 << 20) for one in source.read(slice=piece)]
    assert [place for one in readings for place in one.rows["place"]] == [1]
    assert [row for one in readings for row in one.rejected.rows()] == [(2, "invalid UTF-8")]


@pytest.mark.parametrize("file", FILES)
def test_text_that_is_not_utf8_in_a_column_that_is_not_read_stops_nothing(tmp_path: Path, file: str):
    unread = {
        "text": texts(BAD, b"a"),
        "struct": pa.StructArray.from_arrays([texts(BAD, b"a"), pa.array([1, 2])], ["a", "b"]),
        "list": pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), texts(BAD, b"a")),
    }
    path = written({"question": texts(b"q", b"r"), "answer": texts(b"a", b"b"), **unread}, tmp_path / file)
    source = Files(path=path, columns={"question": "question", "answer": "answer"})
    readings = [one for piece in source.slices(slice_bytes=1 << 20) for one in source.read(slice=piece)]
    assert [found for one in readings for found in one.rows["question"]] == ["q", "r"]
    assert all(one.rejected.is_empty() for one in readings)


@pytest.mark.parametrize("is_text_damaged", [True, False])
def test_a_damaged_column_is_damage_though_a_text_before_it_is_not_utf8(tmp_path: Path, *, is_text_damaged: bool):
    first = texts(BAD if is_text_damaged else b"a", b"b")
    offsets = pa.array([0, 9, 2], pa.int32()).buffers()[1]
    broken = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"ab"))
    path = written({"both": pa.StructArray.from_arrays([first, broken], ["a", "b"])}, tmp_path / "stream.arrow")
    with pytest.raises(SourceError, match="a broken Arrow file"):
        Files(path=path, columns={"question": "both.a"}).look()


@pytest.mark.parametrize("file", FILES)
def test_a_look_passes_over_rows_that_are_not_utf8(tmp_path: Path, file: str):
    path = written({"question": texts(BAD, b"a"), "answer": texts(b"b", b"b")}, tmp_path / file)
    source = Files(path=path, shape="auto").settled(files=[], versions={}, insist=False)
    assert (source.shape, source.look().rows) == ("question_answer", 1)
