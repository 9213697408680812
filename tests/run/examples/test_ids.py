"""The ids of a collection are kept in pieces, and whoever looks at them finds what stands in one."""

from pathlib import Path

import polars as pl
import pytest

from orca_recipes.contract.draws import splitmix64
from orca_recipes.contract.frames import rows_schema
from orca_recipes.run.examples import read
from orca_recipes.run.examples.identity import with_identity
from orca_recipes.run.examples.read import batches_of, index_examples
from orca_recipes.run.examples.read_part import joined_rejections
from orca_recipes.run.mixtures import pools
from orca_recipes.run.mixtures.mix import limited
from orca_recipes.run.mixtures.pools import Collection
from orca_recipes.store.arrow_files import IDS, read_frame, read_table, write_frame, write_table
from orca_recipes.store.stage_folder import PartWriter, StageFolder

BATCHES = [["a", "b", "c"], ["a"], [], ["d", "a", "b"], ["e"]]


class Rows:
    """What reading needs of a source."""

    on_bad_row = None


def read_stage(folder: Path) -> StageFolder:
    """A finished `read` stage of one question a row, in batches."""
    folder.mkdir()
    names = []
    for number, questions in enumerate(BATCHES):
        writer = PartWriter(folder, f"part-{number}")
        frame = pl.DataFrame([{"question": text, "task": f"t-{text}"} for text in questions], schema=rows_schema())
        frame = frame.with_columns(file=pl.lit("f", dtype=pl.String))
        write_table(writer.path("-0.arrow"), with_identity(frame, "c"))
        write_frame(writer.path(".rejected.arrow"), joined_rejections([]))
        report = {"batches": [{"suffix": "-0.arrow", "rows": len(questions)}], "rejected": 0, "passed_over": {}}
        writer.keep(["-0.arrow", ".rejected.arrow"], report)
        names.append(writer.name)
    stage = StageFolder(folder)
    stage.finish([*names, IDS], index_examples(stage, names, collection="c", source=Rows()))  # type: ignore[arg-type]
    return stage


@pytest.fixture
def in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageFolder:
    monkeypatch.setattr(read, "_IDS_AT_ONCE", 3)
    monkeypatch.setattr(pools, "_CHUNK_ROWS", 2)
    return read_stage(tmp_path / "pieces")


def test_ids_in_pieces_are_those_in_one(tmp_path: Path, in_pieces: StageFolder) -> None:
    whole = read_stage(tmp_path / "whole")
    assert read_table(in_pieces.path / f"{IDS}.arrow")["keep"].num_chunks > 1
    pieces, one = (read_frame(stage.path / f"{IDS}.arrow") for stage in (in_pieces, whole))
    assert pieces.equals(one)
    assert in_pieces.receipt["report"] == whole.receipt["report"]
    assert in_pieces.receipt["report"]["tasks"] == {"t-a": 3, "t-b": 2, "t-c": 1, "t-d": 1, "t-e": 1}


def test_equal_rows_have_ids_of_their_own_wherever_they_stand(in_pieces: StageFolder) -> None:
    ids = read_frame(in_pieces.path / f"{IDS}.arrow")
    first = ids["id_hi"][0]
    seconds = [int(splitmix64(pl.Series([first ^ n], dtype=pl.UInt64).to_numpy())[0]) for n in (1, 2)]
    assert [ids["id_hi"][place] for place in (3, 5)] == seconds
    assert ids.n_unique() == ids.height


def test_no_batch_of_examples_has_its_ids_in_two_pieces(in_pieces: StageFolder) -> None:
    ids = read_frame(in_pieces.path / f"{IDS}.arrow")
    assert all(ids.slice(b.start, b.stop - b.start).n_chunks() == 1 for b in batches_of(in_pieces))


@pytest.mark.parametrize("limit", [1, 4, 20])
def test_a_draw_over_ids_in_pieces_is_the_same(tmp_path: Path, in_pieces: StageFolder, limit: int) -> None:
    drawn = []
    for stage in (in_pieces, read_stage(tmp_path / "whole")):
        collection = Collection(stage)
        selection = collection.fresh()
        chunks = list(collection.chunks(selection))
        assert sum(len(chunk.group) for chunk in chunks) == 8
        taken = limited(selection + 1, collection.ids, limit=limit, seed=1).tolist()
        drawn.append(([int(half) for chunk in chunks for half in chunk.id_hi], taken))
    assert drawn[0] == drawn[1]
