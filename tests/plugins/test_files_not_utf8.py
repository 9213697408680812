"""Text of Parquet that is not UTF-8, wherever it lies: its row is rejected, and the others are read."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orca_plugins.sources.files.kind import Files

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


@pytest.mark.parametrize("name", CASES)
def test_text_that_is_not_utf8_rejects_its_row_alone(tmp_path: Path, name: str):
    columns, options = CASES[name]
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    source = Files(path=tmp_path / "rows.parquet", **options)
    readings = [one for piece in source.slices(slice_bytes=1 << 20) for one in source.read(slice=piece)]
    assert [place for one in readings for place in one.rows["place"]] == [1]
    assert [row for one in readings for row in one.rejected.rows()] == [(2, "invalid UTF-8")]


def test_a_look_passes_over_rows_that_are_not_utf8(tmp_path: Path):
    pq.write_table(pa.table({"question": texts(BAD, b"a"), "answer": texts(b"b", b"b")}), tmp_path / "rows.parquet")
    source = Files(path=tmp_path / "rows.parquet", shape="auto").settled(files=[], versions={}, insist=False)
    assert (source.shape, source.look().rows) == ("question_answer", 1)
