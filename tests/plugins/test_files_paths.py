"""Source `files`: which files a path names, how they are called, and which are refused."""

import os
from pathlib import Path

import pytest

from orca_plugins.sources.files.kind import Files
from orca_recipes.errors import SourceError

ROW = b'{"question": "a"}\n'


def names(path: Path, **options: str) -> list[str]:
    return [file.name for file in Files.model_validate({"path": path, **options}).files()]


def place(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(ROW)


def test_a_file_is_called_by_its_name(tmp_path: Path):
    place(tmp_path, "data/rows.jsonl")
    assert names(tmp_path / "data" / "rows.jsonl") == ["rows.jsonl"]


def test_a_folder_gives_its_files_of_a_known_format_sorted_by_name(tmp_path: Path):
    ends = ("jsonl", "ndjson", "json", "csv", "tsv", "parquet", "arrow")
    known = [f"b.{end}{more}" for end in ends for more in ("", ".gz", ".zst", ".xz", ".bz2")]
    place(tmp_path, *known, "A.JSONL", "README.md", "notes.txt", "rows", ".hidden.jsonl", "inner/c.jsonl")
    assert names(tmp_path) == sorted([*known, "A.JSONL"])


def test_a_format_that_is_set_chooses_among_the_files_of_a_folder(tmp_path: Path):
    place(tmp_path, "a.jsonl", "b.json.gz", "c.csv", "d.txt")
    assert names(tmp_path, format="jsonl") == ["a.jsonl", "b.json.gz"]
    assert names(tmp_path, format="csv") == ["c.csv"]


def test_a_pattern_names_files_relative_to_the_folder_before_it(tmp_path: Path):
    place(tmp_path, "data/a/1.jsonl", "data/b/2.jsonl", "data/b/3.csv", "data/4.jsonl", "data/b/c/5.jsonl")
    assert names(tmp_path / "data" / "*" / "*.jsonl") == ["a/1.jsonl", "b/2.jsonl"]
    assert names(tmp_path / "data" / "**" / "*.jsonl") == ["4.jsonl", "a/1.jsonl", "b/2.jsonl", "b/c/5.jsonl"]
    assert names(tmp_path / "data" / "b" / "[23].*") == ["2.jsonl", "3.csv"]
    assert names(tmp_path / "data" / "?" / "**" / "*.jsonl") == ["a/1.jsonl", "b/2.jsonl", "b/c/5.jsonl"]
    assert names(tmp_path / "*" / "b" / "3.csv") == ["data/b/3.csv"]
    assert names(tmp_path / "data" / "**") == ["4.jsonl", "a/1.jsonl", "b/2.jsonl", "b/3.csv", "b/c/5.jsonl"]
    assert names(tmp_path / "**" / "b" / "**" / "*.jsonl") == ["data/b/2.jsonl", "data/b/c/5.jsonl"]


def test_names_with_a_leading_dot_must_be_asked_for(tmp_path: Path):
    place(tmp_path, ".a.jsonl", "b.jsonl", ".git/c.jsonl")
    assert names(tmp_path / "**" / "*.jsonl") == ["b.jsonl"]
    assert names(tmp_path / ".*.jsonl") == [".a.jsonl"]
    assert names(tmp_path / ".a.jsonl") == [".a.jsonl"]


@pytest.mark.parametrize(
    "name",
    ["-rows.jsonl", "--help.jsonl", "two words.jsonl", "a.b.c.jsonl", "数据.jsonl", "é\u2028.jsonl", "[1]*?.jsonl"],
)
def test_odd_names_are_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    place(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, tmp_path, Path(name)):
        source = Files(path=path)
        (reading,) = [reading for piece in source.slices(slice_bytes=1 << 20) for reading in source.read(slice=piece)]
        assert names(path) == [name]
        assert reading.rows["question"].to_list() == ["a"]


def test_a_folder_that_is_called_like_a_pattern_is_a_folder(tmp_path: Path):
    place(tmp_path, "data [1]/a*/x.jsonl", "data [1]/ab/y.jsonl")
    assert names(tmp_path / "data [1]" / "a*" / "x.jsonl") == ["x.jsonl"]
    assert names(tmp_path / "data [1]" / "a*") == ["x.jsonl"]
    assert names(tmp_path / "data [1]" / "a?" / "*.jsonl") == ["a*/x.jsonl", "ab/y.jsonl"]


def test_a_path_that_leads_nowhere_is_answered_with_the_nearest_right_one(tmp_path: Path):
    place(tmp_path, "train.jsonl")
    with pytest.raises(SourceError, match=r"trian.jsonl: no such file or folder; did you mean \"train.jsonl\"\?"):
        names(tmp_path / "trian.jsonl")
    with pytest.raises(SourceError, match="no such file or folder"):
        names(tmp_path / "zzz" / "rows.jsonl")
    with pytest.raises(SourceError, match="no such file or folder"):
        names(tmp_path / "train.jsonl" / "rows.jsonl")


@pytest.mark.parametrize("pattern", ["*.csv", "**/*.csv", "x/*.jsonl", "*/x/*.jsonl", "a.jsonl/*"])
def test_a_pattern_that_matches_nothing_is_a_sentence(tmp_path: Path, pattern: str):
    place(tmp_path, "a.jsonl")
    with pytest.raises(SourceError, match="no file matches this pattern"):
        names(tmp_path / pattern)


def test_a_folder_without_known_files_is_a_sentence(tmp_path: Path):
    place(tmp_path, "a.txt")
    with pytest.raises(SourceError, match="no file of a known format in this folder"):
        names(tmp_path)


def test_a_name_that_says_no_format_is_a_sentence(tmp_path: Path):
    place(tmp_path, "rows.txt")
    with pytest.raises(SourceError, match='set format = "jsonl"'):
        names(tmp_path / "rows.txt")


def test_a_folder_called_like_a_file_is_a_sentence(tmp_path: Path):
    place(tmp_path, "rows.jsonl/part.jsonl", "a.jsonl", "plain/b.jsonl")
    with pytest.raises(SourceError, match=r"rows.jsonl: this is a folder, not a file"):
        names(tmp_path / "*.jsonl")
    with pytest.raises(SourceError, match=r"rows.jsonl: this is a folder, not a file"):
        names(tmp_path)
    assert names(tmp_path / "rows.jsonl") == ["part.jsonl"]


def test_folders_that_a_pattern_matches_by_the_way_are_passed_over(tmp_path: Path):
    place(tmp_path, "a.jsonl", "plain/b.jsonl")
    assert names(tmp_path / "*") == ["a.jsonl"]


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path):
    place(tmp_path, "secret.jsonl", "data/a.jsonl", "elsewhere/b.jsonl")
    (tmp_path / "data" / "out.jsonl").symlink_to(tmp_path / "secret.jsonl")
    for path in (tmp_path / "data", tmp_path / "data" / "*.jsonl", tmp_path / "data" / "out.jsonl"):
        with pytest.raises(SourceError, match=r"out\.jsonl: this is a link out of"):
            names(path)
    (tmp_path / "data" / "out.jsonl").unlink()
    (tmp_path / "data" / "inner").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"inner/b\.jsonl: this is a link out of"):
        names(tmp_path / "data" / "*" / "*.jsonl")


def test_links_inside_of_the_folder_are_read(tmp_path: Path):
    place(tmp_path, "data/a.jsonl")
    (tmp_path / "data" / "b.jsonl").symlink_to("a.jsonl")
    assert names(tmp_path / "data") == ["a.jsonl", "b.jsonl"]


def test_the_folder_itself_may_be_a_link(tmp_path: Path):
    place(tmp_path, "real/a.jsonl")
    (tmp_path / "data").symlink_to(tmp_path / "real")
    assert names(tmp_path / "data") == ["a.jsonl"]
    assert names(tmp_path / "data" / "a.jsonl") == ["a.jsonl"]


def test_a_loop_of_links_is_not_followed(tmp_path: Path):
    place(tmp_path, "data/a.jsonl")
    (tmp_path / "data" / "loop").symlink_to(".")
    assert names(tmp_path / "data" / "**" / "*.jsonl") == ["a.jsonl"]
    (tmp_path / "data" / "self.jsonl").symlink_to("self.jsonl")
    with pytest.raises(SourceError, match=r"self\.jsonl: this leads to no file"):
        names(tmp_path / "data")


def test_a_link_to_nothing_is_a_sentence(tmp_path: Path):
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(SourceError, match=r"a\.jsonl: this leads to no file"):
        names(tmp_path / "a.jsonl")


def test_what_is_no_regular_file_is_a_sentence(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        names(tmp_path)


def test_a_name_that_is_not_utf8_is_a_sentence(tmp_path: Path):
    try:
        (tmp_path / os.fsdecode(b"\xff.jsonl")).write_bytes(ROW)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    with pytest.raises(SourceError, match="the file's name is not UTF-8") as caught:
        names(tmp_path)
    assert str(caught.value).isascii()


def test_a_file_that_goes_away_is_a_sentence(tmp_path: Path):
    place(tmp_path, "a.jsonl", "b.csv", "c.json", "d.jsonl.gz")
    source = Files(path=tmp_path)
    for file in source.files():
        file.path.unlink()
    with pytest.raises(SourceError, match="no file of a known format"):
        source.slices(slice_bytes=10)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is open to root")
def test_a_file_that_may_not_be_opened_is_a_sentence(tmp_path: Path):
    place(tmp_path, "a.jsonl")
    (tmp_path / "a.jsonl").chmod(0)
    source = Files(path=tmp_path / "a.jsonl")
    with pytest.raises(SourceError, match=r"a.jsonl: cannot be read \(Permission denied\)"):
        [*source.read(slice=source.slices(slice_bytes=100)[0])]


def test_plain_files_of_a_folder_are_found_without_a_look_along_the_way_to_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place(tmp_path, *(f"{number}.jsonl" for number in range(50)))
    looked: list[Path] = []
    resolve = Path.resolve
    monkeypatch.setattr(Path, "resolve", lambda path, **options: looked.append(path) or resolve(path, **options))
    assert len(names(tmp_path)) == 50
    assert looked == []
