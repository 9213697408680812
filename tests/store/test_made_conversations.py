"""Conversations lie as they were made; which passed the filters lies beside, and equal ones are one file."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from orca_recipes.store.arrow_files import read_table
from orca_recipes.store.made_conversations import MADE, passed_rows, write_made, write_passed
from orca_recipes.store.stage_folder import Part, PartWriter, StageFolder

TABLE = pa.table({"text": ["a", "b", "c"]})


def kept(folder: Path, table: pa.Table, passed: list[int], earlier: list[Path]) -> Part:
    folder.mkdir()
    writer = PartWriter(folder, "part")
    write_made(writer, table, earlier)
    suffixes, told = write_passed(writer, np.array(passed), table.num_rows)
    writer.keep([MADE, *suffixes], {"out": len(passed), **told})
    return StageFolder(folder).part("part")


def test_rows_that_passed_are_told_where_not_all_did(tmp_path: Path) -> None:
    some = kept(tmp_path / "some", TABLE, [0, 2], [])
    rows = passed_rows(some)
    assert rows is not None
    assert rows.tolist() == [0, 2]
    every = kept(tmp_path / "every", TABLE, [0, 1, 2], [])
    assert passed_rows(every) is None


def test_a_file_that_holds_the_same_is_linked_and_one_that_does_not_or_is_broken_is_not(tmp_path: Path) -> None:
    first = kept(tmp_path / "first", TABLE, [0, 1, 2], []).file(MADE)
    second = kept(tmp_path / "second", TABLE, [0], [tmp_path / "none.arrow", first]).file(MADE)
    assert second.samefile(first)
    other = kept(tmp_path / "other", pa.table({"text": ["a", "b", "d"]}), [0], [first]).file(MADE)
    assert not other.samefile(first)
    (tmp_path / "broken.arrow").write_bytes(b"no table")
    third = kept(tmp_path / "third", TABLE, [0], [tmp_path / "broken.arrow"])
    assert read_table(third.file(MADE)).equals(TABLE)


@pytest.mark.parametrize("table", [TABLE.rename_columns(["other"]), TABLE.slice(0, 2)])
def test_other_columns_or_rows_are_no_same_file(tmp_path: Path, table: pa.Table) -> None:
    first = kept(tmp_path / "first", TABLE, [0], []).file(MADE)
    assert not kept(tmp_path / "second", table, [0], [first]).file(MADE).samefile(first)
