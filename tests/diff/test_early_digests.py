"""Builds of early checkouts, whose records hold BLAKE2b-128 of tokens in column `ids_digest`, go on to be read."""

import hashlib
import shutil
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from orca_recipes.catalogue import Catalogue
from orca_recipes.diff.difference import compare
from orca_recipes.errors import DamagedShard
from orca_recipes.explain.explain import explain_example
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import read_records
from tests.prove.forging import reseal

DIGESTS = {
    "ids_xxh3": xxhash.xxh3_128_digest,
    "ids_digest": lambda data: hashlib.blake2b(data, digest_size=16).digest(),
}

OTHERS = "its tokens are others than its record says, by their digest"


def records_in(directory: Path) -> list[Path]:
    return sorted(directory.glob("*/*.records.parquet"))


def with_digests(directory: Path, column: str) -> None:
    """Hold digests of this kind, taken of the tokens as they lie, in the records of a build; seal it anew."""
    for path in records_in(directory):
        prefix, table = path.with_name(path.name.partition(".")[0]), pq.read_table(path)
        bounds, data = (
            (Shard.open(prefix).segments.example_bounds * 2).tolist(),
            prefix.with_suffix(".bin").read_bytes(),
        )
        digests = [DIGESTS[column](data[start:stop]) for start, stop in pairwise(bounds)]
        (held,) = {*DIGESTS} & {*table.column_names}
        changed = table.set_column(table.column_names.index(held), column, pa.array(digests, pa.binary(16)))
        pq.write_table(changed, path)
    reseal(directory)


def with_a_changed_token(directory: Path) -> None:
    """Change one token of the first example of a build, and what the manifest says of the file."""
    path = sorted(directory.glob("*/*.bin"))[0]
    data = bytearray(path.read_bytes())
    data[4:6] = data[6:8]
    path.write_bytes(data)
    reseal(directory)


def sentences(directory: Path) -> list[str]:
    return [found.sentence for found in verify(directory).findings]


def copied(build: Path, place: Path, column: str) -> Path:
    shutil.copytree(build, place)
    with_digests(place, column)
    return place


def rows_of(before: Path, after: Path) -> dict[str, int]:
    found = compare(before, after, kinds=Catalogue(), progress=Progress())
    assert found.rows is not None
    return {name: number for name, number in found.rows.items() if number}


@pytest.fixture
def early(plain: Path, tmp_path: Path) -> Path:
    return copied(plain, tmp_path / "early", "ids_digest")


def test_a_new_build_holds_xxh3_of_the_tokens_as_they_lie(plain: Path, tmp_path: Path):
    anew = copied(plain, tmp_path / "anew", "ids_xxh3")
    for path, other in zip(records_in(plain), records_in(anew), strict=True):
        assert pq.read_table(path).equals(pq.read_table(other))


def test_an_early_build_is_proven_explained_and_equal_to_a_new_one(plain: Path, early: Path):
    assert prove(early, kinds=Catalogue(), progress=Progress()).findings == ()
    for one, other in ((early, plain), (plain, early), (early, early)):
        assert rows_of(one, other) == {"same": 60}
    example = pq.read_table(records_in(early)[0])["id"][0].as_py().hex()
    store, traces = plain.parent.parent / "store", plain.parent / "traces"
    told, new = (explain_example(one, example, store=store, traces=traces).stories for one in (early, plain))
    assert [story.origin for story in told] == [story.origin for story in new]


@pytest.mark.parametrize("column", sorted(DIGESTS))
def test_a_changed_token_is_found_by_either_digest(plain: Path, tmp_path: Path, column: str):
    broken = copied(plain, tmp_path / "broken", column)
    with_a_changed_token(broken)
    assert OTHERS in sentences(broken)
    with_digests(broken, column)
    assert OTHERS not in sentences(broken)
    assert rows_of(broken, plain) == rows_of(plain, broken)
    assert rows_of(broken, plain)["same"] == 59


@pytest.mark.parametrize("column", sorted(DIGESTS))
def test_tokens_that_are_shown_are_held_against_their_record(plain: Path, tmp_path: Path, column: str):
    other, broken = copied(plain, tmp_path / "other", column), copied(plain, tmp_path / "broken", column)
    for path in records_in(broken):
        table = pq.read_table(path)
        digests = pa.array([bytes(16)] * len(table), pa.binary(16))
        moved = pa.array(["elsewhere"] * len(table), pa.large_string())
        table = table.set_column(table.column_names.index(column), column, digests)
        pq.write_table(table.set_column(table.column_names.index("task"), "task", moved), path)
    reseal(broken)
    with pytest.raises(DamagedShard, match="are not those of its record"):
        rows_of(other, broken)


@pytest.mark.parametrize("held", [[], ["ids_digest", "ids_xxh3"]])
def test_a_table_without_or_with_both_digests_is_damaged(early: Path, held: list[str]):
    path = records_in(early)[0]
    table = pq.read_table(path)
    digests = table["ids_digest"]
    table = table.drop_columns(["ids_digest"])
    for name in held:
        table = table.append_column(name, digests)
    pq.write_table(table, path)
    reseal(early)
    with pytest.raises(DamagedShard, match="its columns are"):
        read_records(path)
    assert any("its columns are" in sentence for sentence in sentences(early))


def test_a_table_of_format_1_in_a_build_of_format_2_is_found(early: Path):
    path = records_in(early)[0]
    pq.write_table(pq.read_table(path).drop_columns(["turn", "ids_digest"]), path)
    reseal(early)
    assert sentences(early) == ["its columns are those of format 1, in a build of format 2"]
