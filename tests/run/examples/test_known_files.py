"""A file that was read is not read again where others come, go or change; what is built is as if all were read anew."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orca_plugins.sources.files import kind as files_kind
from orca_plugins.sources.files.kind import Files
from orca_recipes.contract.kinds import Reading, Slice
from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from orca_recipes.run.examples import read
from orca_recipes.store.shared_stage import RECEIPT
from tests.run.small import STUDENT, asked, promised, write_rows

RECIPE = """\
name = "small"
[collections.sums]
kind = "files"
path = "rows"
on_bad_row = "reject"
where = { not = { question = "What is b and 1?" } }
"""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose rows were read, in order."""
    found: list[str] = []
    real = Files.read

    def witnessed(self: Files, *, slice: Slice) -> Iterator[Reading]:
        assert slice.file is not None
        found.append(slice.file.name)
        return real(self, slice=slice)

    monkeypatch.setattr(Files, "read", witnessed)
    return found


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "rows").mkdir()
    for name in "bcdefghij":
        put(tmp_path, name)
    path = tmp_path / "small.toml"
    path.write_text(RECIPE + STUDENT)
    return path


def put(folder: Path, name: str, answer: str = "So.") -> None:
    """Write a file: rows of its own, one that all files hold, one that cannot be used."""
    own: list[dict[str, Any]] = [{"question": f"What is {name} and {n}?", "answer": answer} for n in range(3)]
    bad = {"question": ord(name), "answer": answer}
    write_rows(folder / "rows" / f"{name}.jsonl", [*own, {"question": "Why?", "answer": "So."}, bad])


def built(recipe: Path, *overrides: str, store: str = "store") -> tuple[dict[str, str], list[dict[str, Any]]]:
    """What a build promises, and its rejected rows."""
    out = recipe.parent / f"out-{store}"
    build(asked(recipe, *overrides, store=recipe.parent / store, out=out), Progress())
    recipe.with_suffix(".lock").unlink(missing_ok=True)
    return promised(out), pl.read_parquet(out / "main" / "rejected.parquet").to_dicts()


def names(letters: str) -> list[str]:
    return [f"{letter}.jsonl" for letter in letters]


def test_a_build_looks_for_files_once_and_once_more_when_it_has_read_them(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
):
    looks, real = [], files_kind.find_files

    def witnessed(**asked: Any) -> Any:
        looks.append(asked["path"])
        return real(**asked)

    monkeypatch.setattr(files_kind, "find_files", witnessed)
    built(recipe)
    assert looks == [recipe.parent / "rows"] * 2
    looks.clear()
    built(recipe)
    assert len(looks) == 1


def test_what_workers_are_sent_holds_no_list_of_files(recipe: Path):
    source = Files(path=recipe.parent / "rows").settled(files=[], versions={}, insist=False)
    before = pickle.dumps(source)
    assert len(source.files()) == 9
    assert pickle.dumps(source) == before
    assert pickle.loads(before).files() == source.files()


@pytest.mark.parametrize("part_bytes", [1 << 20, 500], ids=["one part", "parts of two files"])
def test_only_files_that_are_new_or_changed_are_read(
    recipe: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch, part_bytes: int
):
    monkeypatch.setattr(read, "SLICE_BYTES", part_bytes)
    built(recipe)
    assert opened == names("bcdefghij")
    opened.clear()
    (recipe.parent / "rows" / "c.jsonl").unlink()
    put(recipe.parent, "a")
    put(recipe.parent, "f", "Because.")
    put(recipe.parent, "z")
    edited = built(recipe)
    assert opened == names("afz")
    assert edited == built(recipe, store="fresh")


def test_what_is_damaged_or_was_read_with_other_options_is_read_anew(recipe: Path, opened: list[str]):
    built(recipe)
    [batch] = (recipe.parent / "store" / "stages").glob("read-sums-*/part-*-00000.arrow")
    whole = batch.read_bytes()
    batch.write_bytes(whole[:-400] + bytes([whole[-400] ^ 1]) + whole[-399:])
    put(recipe.parent, "a")
    opened.clear()
    built(recipe)
    assert opened == names("abcdefghij")
    put(recipe.parent, "k")
    opened.clear()
    built(recipe, 'collections.sums.task="sums"')
    assert opened == names("abcdefghijk")


def test_a_key_that_holds_half_a_character_is_told_by_its_escape(recipe: Path):
    row = '{"question": "Who?", "answer": "I.", "a\\ud800b": 1}\n'
    (recipe.parent / "rows" / "a.jsonl").write_text(row)
    built(recipe)
    [receipt] = (recipe.parent / "store" / "stages").glob(f"read-sums-*/{RECEIPT}")
    assert json.loads(receipt.read_text())["report"]["unused_columns"] == ["a\\ud800b"]
