"""One part of a collection: batches of about one size, whatever the slices, and nothing of a file that changes."""

import resource
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pytest

from orca_plugins.sources.files.kind import Files
from orca_plugins.sources.files.places.seekable_files import sound
from orca_recipes.contract.kinds import Reading, Slice, SourceFile
from orca_recipes.errors import SourceError
from orca_recipes.run.examples import read_part as module
from orca_recipes.run.examples.read import read_tasks
from orca_recipes.run.examples.read_part import read_part
from orca_recipes.store.arrow_files import read_table
from orca_recipes.store.source_digests import FileDigests
from orca_recipes.store.stage_folder import StageFolder
from tests.run.small import write_rows


def task_of(folder: Path) -> module.ReadTask:
    """The one part of three small files."""
    (folder / "rows").mkdir()
    for name in "abc":
        write_rows(
            folder / "rows" / f"{name}.jsonl", [{"question": f"Why {name}{n}?", "answer": "So."} for n in (1, 2)]
        )
    source, stage = Files(path=folder / "rows"), StageFolder(folder / "stage")
    stage.path.mkdir()
    pinned = {one.pin.name: one for one in FileDigests(folder / "digests.sqlite").stamped(source.files())}
    (task,) = read_tasks(source, collection="c", folder=stage.path, slice_bytes=1 << 20, pinned=pinned)
    return task


@pytest.mark.parametrize(("batch_bytes", "batches"), [(1 << 20, 1), (1, 3)])
def test_small_slices_share_a_batch_until_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int, batches: int
):
    monkeypatch.setattr(module, "BATCH_BYTES", batch_bytes)
    task = task_of(tmp_path)
    assert read_part(task) == 0
    part = StageFolder(task.folder).part(task.name)
    tables = [read_table(part.file(batch["suffix"])) for batch in part.report["batches"]]
    assert len(tables) == batches
    questions = [question for table in tables for question in table["question"].to_pylist()]
    assert questions == [f"Why {name}{n}?" for name in "abc" for n in (1, 2)]


def test_nothing_is_kept_of_a_part_with_a_file_that_changed(tmp_path: Path):
    task = task_of(tmp_path)
    write_rows(tmp_path / "rows" / "b.jsonl", [{"question": "Another?", "answer": "Yes."}])
    with pytest.raises(SourceError, match=r"b\.jsonl"):
        read_part(task)
    assert not list(task.folder.glob(f"{task.name}*.json"))


class Asking(Files):
    """A source that asks for memory as a packed file can: a harmless stand-in."""

    kind: Literal["asking"] = "asking"
    asks_bytes: int = 0

    def read(self, *, slice: Slice) -> Iterator[Reading]:
        assert bytes(self.asks_bytes)
        return super().read(slice=slice)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_file_that_asks_for_all_memory_ends_in_a_sentence_and_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    limit = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(module, "machine_bytes", lambda: 1 << 30)
    task = task_of(tmp_path)
    read_part(replace(task, source=Asking(path=tmp_path / "rows", asks_bytes=1 << 20)))
    with pytest.raises(
        SourceError, match=r"^a\.jsonl: to read it takes more than the 1 GiB of memory that this machine"
    ):
        read_part(replace(task, source=Asking(path=tmp_path / "rows", asks_bytes=64 << 30)))
    assert resource.getrlimit(resource.RLIMIT_DATA) == limit


@pytest.mark.parametrize("fault", [pa.ArrowMemoryError("no memory"), pa.ArrowInvalid("not Parquet")])
def test_a_file_that_wants_memory_is_not_called_broken(fault: Exception, tmp_path: Path):
    expected = MemoryError if isinstance(fault, MemoryError) else SourceError
    with pytest.raises(expected), sound(SourceFile("a.parquet", tmp_path / "a.parquet"), "broken Parquet"):
        raise fault
