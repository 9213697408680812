"""Source `files`: members of zip and tar archives, and archives that do what no archive of data does."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orca_plugins.sources.files.kind import Files
from orca_plugins.sources.files.places import archive_members as archives
from orca_plugins.sources.files.places.kept_copies import origin_of
from orca_recipes.errors import SourceError

ROW = b'{"question": "%s"}\n'
MEMBERS = {
    "a.jsonl": ROW % b"a",
    "train/b.jsonl": ROW % b"b" + ROW % b"c",
    "README.md": b"no row",
    "test/d.csv": b"question\nd\n",
}


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: dict[str, bytes], *, pack: Any = bytes) -> Path:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, content in members.items():
            told = tarfile.TarInfo(name)
            told.size = len(content)
            archive.addfile(told, io.BytesIO(content))
    path.write_bytes(pack(sink.getvalue()))
    return path


def zstd(plain: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(plain)
    return sink.getvalue().to_pybytes()


PACKED = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.xz": lzma.compress,
    ".tar.bz2": bz2.compress,
    ".tar.zst": zstd,
}


def archive(folder: Path, end: str, members: dict[str, bytes] = MEMBERS) -> Path:
    path = folder / f"rows{end}"
    return zipped(path, members) if end == ".zip" else tarred(path, members, pack=PACKED[end])


def names(path: Path, **options: Any) -> list[str]:
    return [file.name for file in Files(path=path, **options).files()]


def questions(path: Path, **options: Any) -> list[str]:
    source = Files(path=path, **options)
    readings = [reading for piece in source.slices(slice_bytes=1 << 20) for reading in source.read(slice=piece)]
    return [text for reading in readings for text in reading.rows["question"].to_list()]


@pytest.mark.parametrize("end", [".zip", *PACKED])
def test_members_of_a_known_format_are_read(tmp_path: Path, end: str):
    path = archive(tmp_path, end)
    assert names(path) == [f"rows{end}/a.jsonl", f"rows{end}/test/d.csv", f"rows{end}/train/b.jsonl"]
    assert questions(path) == ["a", "d", "b", "c"]


@pytest.mark.parametrize("end", [".zip", ".tar.gz"])
def test_a_pattern_after_the_name_chooses_members(tmp_path: Path, end: str):
    path = archive(tmp_path, end)
    assert questions(path / "train" / "*") == ["b", "c"]
    assert questions(path / "*" / "*.csv") == ["d"]
    assert questions(path / "**" / "*.jsonl") == ["a", "b", "c"]
    assert questions(path / "a.jsonl") == ["a"]


def test_a_pattern_may_name_several_archives(tmp_path: Path):
    (tmp_path / "data").mkdir()
    zipped(tmp_path / "data" / "1.zip", {"a.jsonl": ROW % b"a"})
    tarred(tmp_path / "data" / "2.tar", {"a.jsonl": ROW % b"b"})
    assert names(tmp_path / "data" / "*") == ["1.zip/a.jsonl", "2.tar/a.jsonl"]
    with pytest.raises(SourceError, match=r"to read the members of archives, name them: 1\.zip"):
        names(tmp_path / "data")


def test_parquet_in_an_archive_is_read_by_its_row_groups(tmp_path: Path):
    sink = io.BytesIO()
    pq.write_table(pa.table({"question": ["a", "b"]}), sink, row_group_size=1)
    assert questions(zipped(tmp_path / "rows.zip", {"x.parquet": sink.getvalue()})) == ["a", "b"]


def test_an_archive_that_changes_is_unpacked_anew(tmp_path: Path):
    path = tmp_path / "rows.zip"
    assert questions(zipped(path, {"a.jsonl": ROW % b"old"})) == ["old"]
    path.unlink()
    assert questions(zipped(path, {"a.jsonl": ROW % b"newer"})) == ["newer"]


def test_sentences_call_a_member_by_its_archive(tmp_path: Path):
    path = zipped(tmp_path / "rows.zip", {"in/a.jsonl": b'{"text": "a"}\n'})
    with pytest.raises(SourceError, match=r"^rows\.zip/in/a\.jsonl: no column"):
        questions(path)
    assert origin_of(path) is None


@pytest.mark.parametrize("end", [".zip", ".tar"])
@pytest.mark.parametrize("name", ["../x.jsonl", "/x.jsonl", "a/../../x.jsonl", "..\\x.jsonl", "C:\\x.jsonl"])
def test_a_path_that_climbs_out_is_a_sentence(tmp_path: Path, end: str, name: str):
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(SourceError, match="leads out of the archive"):
        names(archive(inner, end, {"a.jsonl": ROW, name: ROW}))
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert not Path("/x.jsonl").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_link_or_device_in_a_tar_is_a_sentence(tmp_path: Path, kind: bytes):
    path = tmp_path / "rows.tar"
    with tarfile.open(path, "w") as opened:
        told = tarfile.TarInfo("a.jsonl")
        told.type, told.linkname = kind, "/etc/passwd"
        opened.addfile(told)
    with pytest.raises(SourceError, match=r"a\.jsonl is a link or no file"):
        names(path)


def test_a_link_in_a_zip_is_a_sentence(tmp_path: Path):
    path = tmp_path / "rows.zip"
    with zipfile.ZipFile(path, "w") as opened:
        told = zipfile.ZipInfo("a.jsonl")
        told.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(told, "/etc/passwd")
    with pytest.raises(SourceError, match=r"a\.jsonl is a link or no file"):
        names(path)


@pytest.mark.parametrize("end", [".zip", ".tar.gz", ".tar.xz"])
def test_a_bomb_is_a_sentence_and_leaves_nothing(tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = archive(tmp_path, end, {"a.jsonl": bytes(17 << 20)})
    with pytest.raises(SourceError, match="unpacks to more than 200 times its size"):
        names(path)
    assert list((tmp_path / "cache" / "orca-recipes" / "places").iterdir()) == []


def test_an_archive_that_is_too_large_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "MOST_BYTES", 1 << 10)
    with pytest.raises(SourceError, match="it holds more than 0 GiB; unpack it yourself"):
        names(archive(tmp_path, ".zip", {"a.jsonl": os.urandom(2 << 10)}))


def test_an_encrypted_member_is_a_sentence(tmp_path: Path):
    path = zipped(tmp_path / "rows.zip", {"a.jsonl": ROW})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match=r"a\.jsonl is encrypted"):
        names(path)


@pytest.mark.parametrize("end", [".zip", *PACKED])
def test_a_damaged_archive_is_a_sentence(tmp_path: Path, end: str):
    rows = b"".join(ROW % hashlib.sha256(b"%d" % number).hexdigest().encode() for number in range(500))
    path = archive(tmp_path, end, {"a.jsonl": rows, "b.jsonl": ROW})
    whole = path.read_bytes()
    for cut in (0, 1, 100, len(whole) // 2, len(whole) - 1, 512 * 3 if end == ".tar" else 50):
        path.write_bytes(whole[:cut])
        if end == ".tar" and cut == len(whole) - 1:
            continue
        with pytest.raises(SourceError, match=r"rows\.\S+: .*(damaged|cut off|too early)"):
            names(path)
    turned = bytearray(whole)
    turned[len(whole) // 2] ^= 0x55
    path.write_bytes(bytes(turned))
    if end not in (".tar", ".tar.zst"):  # these hold no checksum of their members
        with pytest.raises(SourceError, match=r"rows\.\S+: .*damaged"):
            names(path)


def test_a_tar_with_a_damaged_head_in_its_middle_is_a_sentence(tmp_path: Path):
    path = tarred(tmp_path / "rows.tar", {"a.jsonl": ROW, "b.jsonl": ROW})
    content = bytearray(path.read_bytes())
    content[1024 + 148] ^= 0x55
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match="damaged, or was cut off"):
        names(path)


def test_two_members_of_one_name_are_a_sentence(tmp_path: Path):
    path = tmp_path / "rows.tar"
    with tarfile.open(path, "w") as opened:
        for content in (ROW % b"a", ROW % b"b"):
            told = tarfile.TarInfo("a.jsonl")
            told.size = len(content)
            opened.addfile(told, io.BytesIO(content))
    with pytest.raises(SourceError, match=r"two members are called a\.jsonl"):
        names(path)


def test_an_archive_without_rows_is_a_sentence(tmp_path: Path):
    with pytest.raises(SourceError, match=r"no member of this archive matches.*it holds README\.md$"):
        names(zipped(tmp_path / "rows.zip", {"README.md": b"x"}))
    with pytest.raises(SourceError, match="no member of this archive matches"):
        names(zipped(tmp_path / "rows.zip", MEMBERS) / "tran" / "*.jsonl")
    with pytest.raises(SourceError, match=r"member README\.md does not say the format"):
        names(tmp_path / "rows.zip" / "README.md")


def test_hidden_members_must_be_asked_for(tmp_path: Path):
    path = zipped(tmp_path / "rows.zip", {"a.jsonl": ROW, "__MACOSX/._a.jsonl": b"\0", ".git/b.jsonl": ROW})
    assert names(path) == ["rows.zip/a.jsonl"]


@pytest.mark.parametrize("end", ["", ".gz"])
def test_tars_that_were_put_together_are_a_sentence(tmp_path: Path, end: str):
    pack = PACKED[f".tar{end}"]
    path = tarred(tmp_path / f"rows.tar{end}", {"a.jsonl": ROW}, pack=pack)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(SourceError, match="it goes on behind its end, as tars do that were put together"):
        names(path)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("end", "make"), [(".zip", zipped), (".tar", tarred)])
def test_a_member_that_is_file_and_folder_is_a_sentence(tmp_path: Path, end: str, make: Any, order: int):
    members = dict([("a.jsonl", ROW), ("a.jsonl/b.jsonl", ROW)][::order])
    with pytest.raises(SourceError, match="is in the way of another member"):
        names(make(tmp_path / f"rows{end}", members))


def test_a_name_that_ends_in_its_middle_is_a_sentence(tmp_path: Path):
    path = tmp_path / "rows.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as opened:
        told = tarfile.TarInfo("a.jsonl")
        told.pax_headers = {"path": "a\0b.jsonl"}
        opened.addfile(told)
    with pytest.raises(SourceError, match=r"a\\x00b\.jsonl is not UTF-8, or ends in its middle"):
        names(path)


def test_a_compression_that_python_lacks_is_no_damage(tmp_path: Path):
    path = zipped(tmp_path / "rows.zip", {"a.jsonl": ROW})
    content = bytearray(path.read_bytes())
    deflate64 = 9  # what Windows writes for large files
    content[8] = content[content.rfind(b"PK\1\2") + 10] = deflate64
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match=r"compression.*; unpack the archive yourself"):
        names(path)
