"""Source `files`: Arrow files, what `save_to_disk` writes, and clones of data sets of the hub."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from orca_plugins.sources.files.kind import Files
from orca_recipes.errors import SourceError

ROWS = {"question": ["a", "b", "c"], "answer": ["1", "2", "3"]}

# A fingerprint is given to each: with pyarrow 26, datasets 5.2.0 cannot make one of a table.
SAVING = """
import sys
import datasets
import pyarrow as pa
datasets.disable_progress_bars()
def made(**columns):
    return datasets.Dataset(datasets.table.InMemoryTable(pa.table(columns)), fingerprint="".join(columns))
rows = made(question=["a", "b", "c"], answer=["1", "2", "3"])
rows.save_to_disk(sys.argv[1] + "/two", num_shards=2)
rows.select([2, 0], new_fingerprint="chosen").save_to_disk(sys.argv[1] + "/chosen")
test = made(question=["t"], answer=["9"])
datasets.DatasetDict({"train": rows, "test": test}).save_to_disk(sys.argv[1] + "/splits")
datasets.DatasetDict({"sft": rows, "gen": test}).save_to_disk(sys.argv[1] + "/named")
made(question=[1.5, 2.5]).save_to_disk(sys.argv[1] + "/numbers")
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders that `save_to_disk` wrote."""
    folder = tmp_path_factory.mktemp("saved")
    subprocess.run([sys.executable, "-c", SAVING, str(folder)], check=True)
    return folder


def questions(path: Path, **options: Any) -> list[tuple[str, int, str]]:
    source = Files(path=path, **options)
    found = []
    for piece in source.slices(slice_bytes=1 << 20):
        assert piece.file is not None
        for reading in source.read(slice=piece):
            found += [(piece.file.name, *row) for row in reading.rows.select("place", "question").rows()]
    return found


def texts(path: Path, **options: Any) -> list[str]:
    return [text for _, _, text in questions(path, **options)]


def test_what_save_to_disk_wrote_is_read(saved: Path):
    assert questions(saved / "two") == [
        ("data-00000-of-00002.arrow", 1, "a"),
        ("data-00000-of-00002.arrow", 2, "b"),
        ("data-00001-of-00002.arrow", 1, "c"),
    ]


def test_rows_that_were_chosen_before_saving_are_the_rows(saved: Path):
    assert texts(saved / "chosen") == ["c", "a"]


def test_a_saved_dictionary_of_splits_is_its_train(saved: Path):
    assert texts(saved / "splits") == ["a", "b", "c"]
    assert texts(saved / "splits", split="test") == ["t"]
    assert texts(saved / "splits", split=("train", "test")) == ["t", "a", "b", "c"]
    with pytest.raises(SourceError, match='it has no split "tset"; did you mean "test"'):
        texts(saved / "splits", split="tset")


def test_several_splits_without_train_must_be_named(saved: Path):
    with pytest.raises(SourceError, match="several splits; set split to one or more of sft, gen"):
        texts(saved / "named")


@pytest.mark.parametrize("style", ["file", "stream"])
def test_arrow_is_read_in_either_style(tmp_path: Path, style: str):
    table = pa.table(ROWS)
    path = tmp_path / "rows.arrow"
    make = pa.ipc.new_file if style == "file" else pa.ipc.new_stream
    with make(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    assert texts(path) == ["a", "b", "c"]
    whole = path.read_bytes()
    for cut in (0, 5, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(SourceError, match=r"rows\.arrow: this .*(broken Arrow file|ends too early)"):
            texts(path)


def test_a_wrong_column_of_arrow_is_a_sentence(saved: Path):
    with pytest.raises(SourceError, match='column "question" has type double; question wants text'):
        texts(saved / "numbers")


def clone(folder: Path, head: str, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f'{{"question": "{name}"}}\n')
    (folder / "README.md").write_text(f"---\n{head}---\n# A data set\n")
    return folder


CONFIGS = """\
license: mit
configs:
- config_name: default
  data_files:
  - split: train
    path: "data/train-*"
  - split: test
    path: ["data/test-*"]
- config_name: extra
  data_dir: more
  data_files: "*.jsonl"
"""


def test_the_configurations_of_a_clone_are_honoured(tmp_path: Path):
    data = [f"data/{name}.jsonl" for name in ("train-1", "train-2", "test-1")]
    path = clone(tmp_path, CONFIGS, *data, "more/x.jsonl", "top.jsonl")
    assert texts(path) == ["data/train-1.jsonl", "data/train-2.jsonl"]
    assert texts(path, split="test") == ["data/test-1.jsonl"]
    assert texts(path, config="extra") == ["more/x.jsonl"]
    with pytest.raises(SourceError, match='it has no configuration "extar"; did you mean "extra"'):
        texts(path, config="extar")


@pytest.mark.parametrize("path", ["../*.jsonl", "/etc/*"])
def test_a_configuration_that_leads_out_is_a_sentence(tmp_path: Path, path: str):
    folder = clone(tmp_path / "a", f'configs:\n- config_name: default\n  data_files: "{path}"\n', "x.jsonl")
    with pytest.raises(SourceError, match=r"README\.md: it names .* which is not in its folder"):
        texts(folder)


def test_several_configurations_without_a_default_must_be_named(tmp_path: Path):
    head = 'configs:\n- config_name: one\n  data_files: "*.jsonl"\n- config_name: two\n  data_files: "*.jsonl"\n'
    with pytest.raises(SourceError, match="set config to one of one, two"):
        texts(clone(tmp_path, head, "x.jsonl"))


def test_a_head_that_is_no_yaml_is_a_sentence(tmp_path: Path):
    with pytest.raises(SourceError, match="its head is no YAML"):
        texts(clone(tmp_path, "configs: [}\n", "x.jsonl"))


def test_a_clone_without_configurations_is_read_by_the_names_of_its_splits(tmp_path: Path):
    path = clone(tmp_path, "license: mit\n", "data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl")
    assert texts(path) == ["data/train-00000-of-00001.jsonl"]
    assert texts(path, split=["test"]) == ["data/test-00000-of-00001.jsonl"]


def test_a_folder_of_files_stays_what_it_was(tmp_path: Path):
    path = clone(tmp_path, "license: mit\n", "test.jsonl", "train.jsonl")
    assert texts(path) == ["test.jsonl", "train.jsonl"]
    with pytest.raises(SourceError, match="tells no splits apart"):
        texts(path, split="train")


def test_split_of_a_file_is_a_sentence(tmp_path: Path):
    clone(tmp_path, "", "x.jsonl")
    with pytest.raises(SourceError, match="config and split are of folders"):
        texts(tmp_path / "x.jsonl", split="train")
