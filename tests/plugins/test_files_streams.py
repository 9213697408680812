"""Source `files`: compressed and large files, where lines are, and how files are cut in slices."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_plugins.sources.files.kind import Files
from orca_plugins.sources.files.places.byte_stream import BLOCK_BYTES
from orca_recipes.contract.kinds import Reading
from orca_recipes.errors import SourceError

LINES = b"".join(b'{"question": "question number %d"}\n' % number for number in range(500))


def readings(path: Path, *, slice_bytes: int = 1 << 30, **options: Any) -> list[Reading]:
    source = Files(path=path, **options)
    return [reading for piece in source.slices(slice_bytes=slice_bytes) for reading in source.read(slice=piece)]


def questions(path: Path, **options: Any) -> list[tuple[int, str]]:
    return [row for reading in readings(path, **options) for row in reading.rows.select("place", "question").rows()]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def zstd(plain: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(plain)
    return sink.getvalue().to_pybytes()


COMPRESS = {".gz": gzip.compress, ".zst": zstd, ".xz": lzma.compress, ".bz2": bz2.compress}


@pytest.mark.parametrize("end", COMPRESS)
def test_joined_compressed_streams_are_read_whole(tmp_path: Path, end: str):
    parts = [b"", LINES[:100], b"", b"", LINES[100:5000], LINES[5000:], b""]
    path = written(tmp_path / f"rows.jsonl{end}", b"".join(COMPRESS[end](part) for part in parts))
    assert len(questions(path)) == 500


@pytest.mark.parametrize("end", COMPRESS)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
def test_a_compressed_file_that_was_cut_off_is_a_sentence(tmp_path: Path, name: str, end: str):
    whole = COMPRESS[end](LINES)
    for cut in (0, 1, 5, 12, len(whole) // 2, len(whole) - 9, len(whole) - 8, len(whole) - 4, len(whole) - 1):
        with pytest.raises(SourceError, match=rf"{name}{end}: the (gzip|zstd|xz|bz2) data ends too early"):
            readings(
                written(tmp_path / f"{name}{end}", whole[:cut]), format="jsonl" if name != "rows.parquet" else None
            )


@pytest.mark.parametrize("end", COMPRESS)
def test_a_compressed_file_of_another_kind_is_a_sentence(tmp_path: Path, end: str):
    with pytest.raises(SourceError, match="data is damaged"):
        readings(written(tmp_path / f"rows.jsonl{end}", LINES))


@pytest.mark.parametrize("end", COMPRESS)
def test_what_follows_compressed_data_is_no_end(tmp_path: Path, end: str):
    with pytest.raises(SourceError, match="data is damaged"):
        readings(written(tmp_path / f"rows.jsonl{end}", COMPRESS[end](LINES) + b"garbage at the end"))


def test_a_wrong_checksum_is_a_sentence(tmp_path: Path):
    damaged = bytearray(gzip.compress(LINES))
    damaged[-6] ^= 1
    with pytest.raises(SourceError, match=r"rows.jsonl.gz: the gzip data is damaged \(.*check"):
        readings(written(tmp_path / "rows.jsonl.gz", bytes(damaged)))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.tsv"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str):
    for content in (b"", b"\n\r\n" if name.endswith("sv") else b"\n\n \r\n", b"\xef\xbb\xbf"):
        assert questions(written(tmp_path / name, content)) == []
        assert questions(written(tmp_path / f"{name}.gz", gzip.compress(content))) == []


def test_an_empty_list_and_a_parquet_file_without_rows_have_no_rows(tmp_path: Path):
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), tmp_path / "rows.parquet")
    assert questions(tmp_path / "rows.parquet") == []
    assert questions(written(tmp_path / "rows.json", b" [ ] \n")) == []


def test_only_line_feeds_end_a_line_and_blank_lines_are_counted(tmp_path: Path):
    content = '\ufeff\n\r\n{"question": "a\u2028b\u0085c\x7f"}\r\n \t\n'
    content += '{"question": "d"}\r{"question": "e"}\n{"question": "f"}'
    path = written(tmp_path / "rows.jsonl", content.encode())
    assert questions(path) == [(3, "a\u2028b\u0085c\x7f"), (6, "f")]
    rejected = [row for reading in readings(path) for row in reading.rejected.rows()]
    assert rejected == [(5, "a line that goes on after its object")]


def test_a_csv_row_lies_where_its_first_line_is(tmp_path: Path):
    content = '\ufeffquestion,answer\r\n\r\n"a\r\n\n""b""",x\r\n\n"c\u2028",y\r\nd,z'
    path = written(tmp_path / "rows.csv", content.encode())
    assert questions(path) == [(3, 'a\r\n\n"b"'), (7, "c\u2028"), (8, "d")]


def test_a_row_of_a_list_lies_at_its_number(tmp_path: Path):
    path = written(
        tmp_path / "rows.json", b'\xef\xbb\xbf\n[{"question": "a"}\n\n,{"question":\n"b"},{"question": "c"}]'
    )
    assert questions(path) == [(1, "a"), (2, "b"), (3, "c")]


def test_a_parquet_row_lies_at_its_number(tmp_path: Path):
    table = pa.table({"question": [str(number) for number in range(10)]})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=3)
    assert questions(tmp_path / "rows.parquet", slice_bytes=1) == [(number + 1, str(number)) for number in range(10)]


def test_a_json_file_is_told_by_what_it_holds(tmp_path: Path):
    lines = b'\n{"question": "a"}\n{"question": "b"}\n'
    assert questions(written(tmp_path / "lines.json", lines)) == [(2, "a"), (3, "b")]
    assert questions(written(tmp_path / "one.json", b'{"question": "a"}')) == [(1, "a")]
    assert questions(written(tmp_path / "list.json", b'\n[\n{"question": "a"}]')) == [(1, "a")]
    assert questions(written(tmp_path / "list.json.gz", gzip.compress(b'[{"question": "a"}]'))) == [(1, "a")]
    assert questions(written(tmp_path / "lines.txt", lines), format="json") == [(2, "a"), (3, "b")]


@pytest.mark.parametrize("end", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.tsv", "rows.parquet"])
def test_a_record_larger_than_a_block_is_read(tmp_path: Path, name: str, end: str):
    long = "x" * (20 << 20)
    rows = [{"question": "a"}, {"question": long}, {"question": "b"}]
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith("sv"):
        path.write_text("\n".join(["question", *(row["question"] for row in rows)]))
    else:
        texts = [json.dumps(row) for row in rows]
        path.write_text("\n".join(texts) if name.endswith("l") else f"[{','.join(texts)}]")
    if end:
        path = written(tmp_path / f"{name}{end}", COMPRESS[end](path.read_bytes()))
    assert [question for _, question in questions(path)] == ["a", long, "b"]


def test_readings_are_of_bounded_size(tmp_path: Path):
    text = "x" * 1000
    path = written(tmp_path / "rows.jsonl", f'{{"question": "{text}"}}\n'.encode() * 60_000)
    written(tmp_path / "rows.csv", b"question\n" + f"{text}\n".encode() * 60_000)
    pq.write_table(pa.table({"question": [text] * 60_000}), tmp_path / "rows.parquet")
    for path in Files(path=tmp_path).files():
        found = readings(path.path)
        assert sum(reading.rows.height for reading in found) == 60_000
        assert max(reading.rows["question"].str.len_bytes().sum() for reading in found) < 2 * BLOCK_BYTES


@pytest.mark.parametrize("slice_bytes", [1, 7, 35, 36, 37, 1000, 3333, len(LINES) - 1, len(LINES), 1 << 30])
def test_slices_give_the_rows_and_places_of_the_whole(tmp_path: Path, slice_bytes: int):
    # A slice a line takes long, and the first lines are of every length.
    lines = LINES.splitlines(keepends=True)[: 110 if slice_bytes < 100 else None]
    path = written(tmp_path / "rows.jsonl", b"".join(lines))
    assert questions(path, slice_bytes=slice_bytes) == questions(path)


def test_slices_are_about_as_large_as_asked_for_and_cover_the_file(tmp_path: Path):
    path = written(tmp_path / "rows.jsonl", LINES)
    pieces = Files(path=path).slices(slice_bytes=2000)
    assert [piece.start for piece in pieces[1:]] == [piece.stop for piece in pieces[:-1]]
    assert (pieces[0].start, pieces[-1].stop) == (0, len(LINES))
    assert all(2000 <= piece.stop - piece.start < 2100 for piece in pieces[:-1])


@given(st.lists(st.sampled_from(["\n", "a", "bb", "cc\n", "a long piece"]), max_size=60), st.integers(0, 40))
def test_a_slice_begins_at_the_first_line_that_lies_far_enough_behind_the_last_and_knows_its_number(
    texts: list[str], slice_bytes: int
):
    data = "".join(texts).encode()
    with TemporaryDirectory() as folder:
        pieces = Files(path=written(Path(folder) / "rows.jsonl", data)).slices(slice_bytes=slice_bytes)
    begins = [0]
    for end, code in enumerate(data, start=1):
        if code == ord("\n") and end - begins[-1] >= max(slice_bytes, 1) and end < len(data):
            begins.append(end)
    assert [piece.start for piece in pieces] == begins
    assert [piece.stop for piece in pieces] == [*begins[1:], len(data)]
    assert [piece.first_place for piece in pieces] == [1 + data[:start].count(b"\n") for start in begins]


def test_lines_longer_than_a_slice_make_no_empty_slices(tmp_path: Path):
    path = written(tmp_path / "rows.jsonl", b'{"question": "%s"}\n' % (b"x" * 3_000_000) * 3 + b'{"question": "a"}\n')
    pieces = Files(path=path).slices(slice_bytes=1000)
    assert [piece.first_place for piece in pieces] == [1, 2, 3, 4]


def test_parquet_is_cut_between_row_groups(tmp_path: Path):
    table = pa.table({"question": [f"question number {number}" for number in range(1000)]})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=100)
    pieces = Files(path=tmp_path / "rows.parquet").slices(slice_bytes=1)
    assert [piece.first_place for piece in pieces] == list(range(1, 1000, 100))
    for slice_bytes in (1, 5000, 10_000, 1 << 30):
        found = questions(tmp_path / "rows.parquet", slice_bytes=slice_bytes)
        assert [place for place, _ in found] == list(range(1, 1001))


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.csv", "rows.json", "rows.parquet.gz"])
def test_what_cannot_be_cut_is_one_slice(tmp_path: Path, name: str):
    pq.write_table(pa.table({"question": ["a"] * 100}), tmp_path / "rows.parquet", row_group_size=10)
    contents = {
        "rows.jsonl.gz": gzip.compress(LINES),
        "rows.csv": b"question\n" + b"a\n" * 100,
        "rows.json": b'[{"question": "a"}]',
        "rows.parquet.gz": gzip.compress((tmp_path / "rows.parquet").read_bytes()),
    }
    path = written(tmp_path / name, contents[name])
    assert len(Files(path=path).slices(slice_bytes=1)) == 1
    assert len(questions(path, slice_bytes=1)) == {"rows.jsonl.gz": 500, "rows.json": 1}.get(name, 100)


def test_slices_come_file_by_file_in_the_order_of_names(tmp_path: Path):
    for name in ("b.jsonl", "a.jsonl", "c.csv"):
        written(tmp_path / name, LINES)
    pieces = Files(path=tmp_path).slices(slice_bytes=len(LINES) // 2)
    assert [piece.file.name for piece in pieces if piece.file] == ["a.jsonl"] * 2 + ["b.jsonl"] * 2 + ["c.csv"]


def test_a_file_that_became_shorter_is_a_sentence(tmp_path: Path):
    path = written(tmp_path / "rows.jsonl", LINES)
    source = Files(path=path)
    pieces = source.slices(slice_bytes=len(LINES) // 2)
    path.write_bytes(LINES[: len(LINES) // 2])
    with pytest.raises(SourceError, match="became shorter while it was read"):
        [*source.read(slice=pieces[-1])]
