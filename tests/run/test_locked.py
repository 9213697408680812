"""`build --locked` accepts the very build of the lock, and `build` takes no other for it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orca_recipes.errors import LockError
from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from orca_recipes.run.pinning.lock_file import read_lock
from orca_recipes.shards.digests import canonical_json, json_digest
from orca_recipes.shards.manifest import read_manifest
from tests.run.small import STUDENT, SUMS, Heard, asked, promised, sums, write_rows


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe that was built, with its lock."""
    folder = tmp_path / "project"
    folder.mkdir()
    write_rows(folder / "sums.jsonl", [*sums(60), {"q": "", "a": "No question.", "t": "sum-0"}])
    (folder / "recipe.toml").write_text(SUMS + 'on_bad_row = "reject"\n' + STUDENT)
    build(asked(folder / "recipe.toml"), Progress())
    return folder / "recipe.toml"


def forge(directory: Path, change: Callable[[dict], None]) -> None:
    """Change a manifest and seal it anew, so that nothing in it tells."""
    path = directory / "manifest.json"
    found = json.loads(path.read_bytes())
    change(found)
    apart = ("digest", "made", "seal")
    found["digest"] = json_digest({key: value for key, value in found.items() if key not in apart})
    found["seal"] = json_digest({key: value for key, value in found.items() if key != "seal"})
    path.write_bytes(canonical_json(found))
    read_manifest(directory)


def fewer(found: dict) -> None:
    found["datasets"]["main"]["examples"] -= 1


def other_words(found: dict) -> None:
    found["recipe"]["seed"] = 8


FORGED = {"a count": fewer, "a longest example": lambda found: found.update(longest_example=1)}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_forged_manifest_that_is_sealed_anew_is_refused_where_it_lies(change, recipe: Path):
    out = recipe.parent / "out"
    forge(out, change)
    forged = (out / "manifest.json").read_bytes()
    with pytest.raises(LockError, match=r"is not the build that .*recipe\.lock holds: contents: blake2b:"):
        build(asked(recipe, locked=True), Progress())
    assert (out / "manifest.json").read_bytes() == forged


def test_a_build_without_locked_makes_it_anew_and_keeps_the_lock(recipe: Path):
    out, lock = recipe.parent / "out", recipe.with_suffix(".lock").read_bytes()
    sound = (out / "manifest.json").read_bytes()
    forge(out, fewer)
    heard = Heard()
    manifest, fresh = build(asked(recipe), heard)
    assert fresh
    assert any("it is not the build that" in said for said in heard.said)
    assert manifest.digest == json.loads(sound)["digest"]
    assert recipe.with_suffix(".lock").read_bytes() == lock
    build(asked(recipe, locked=True), Progress())


@pytest.mark.parametrize("name", ["main/00000.bin", "tokenizer/tokenizer.json", "curriculum.json"])
def test_a_file_of_other_bytes_and_the_same_size_is_refused(name: str, recipe: Path):
    path = recipe.parent / "out" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(LockError, match=f"{name} holds something else than was built"):
        build(asked(recipe, locked=True), Progress())


def test_a_table_of_other_content_is_refused_though_the_manifest_gives_its_bytes_their_digest(recipe: Path):
    out = recipe.parent / "out"
    table = pq.read_table(out / "main" / "rejected.parquet")
    assert table.num_rows == 1
    pq.write_table(table.slice(1), out / "main" / "rejected.parquet")
    data = (out / "main" / "rejected.parquet").read_bytes()

    def tell_bytes(found: dict) -> None:
        for file in found["made"]["table_files"]:
            if file["path"] == "main/rejected.parquet":
                file["bytes"] = len(data)
                file["digest"] = "blake2b:" + hashlib.blake2b(data, digest_size=32).hexdigest()

    forge(out, tell_bytes)
    with pytest.raises(LockError, match=r"rejected\.parquet holds something else than was built"):
        build(asked(recipe, locked=True), Progress())


def test_what_is_built_under_locked_is_held_against_the_lock_as_well(recipe: Path, tmp_path: Path):
    lock = recipe.with_suffix(".lock")
    found = read_lock(lock)
    assert found is not None
    before = found.outcomes["contents"]
    lock.write_text(lock.read_text(encoding="utf-8").replace(before, "blake2b:" + "0" * 64), encoding="utf-8")
    with pytest.raises(LockError, match=f"contents: blake2b:0+ is locked, and its manifest says {before}"):
        build(asked(recipe, store=tmp_path / "store", out=tmp_path / "out", locked=True), Progress())


def test_a_sound_build_is_found_done_under_locked_in_any_place(recipe: Path, tmp_path: Path):
    assert not build(asked(recipe, locked=True), Progress())[1]
    shutil.copytree(recipe.parent / "out", tmp_path / "copy")
    assert not build(asked(recipe, out=tmp_path / "copy", locked=True), Progress())[1]
    assert build(asked(recipe, out=tmp_path / "anew", locked=True), Progress())[1]
    assert promised(tmp_path / "anew") == promised(recipe.parent / "out")


def test_data_that_lie_elsewhere_are_held_against_the_lock_by_what_was_built(recipe: Path, tmp_path: Path):
    shutil.move(recipe.parent / "sums.jsonl", tmp_path / "sums.jsonl")
    moved = f"collections.sums.path={str(tmp_path / 'sums.jsonl')!r}"
    build(asked(recipe, moved, locked=True), Progress())
    forge(recipe.parent / "out", other_words)
    assert build(asked(recipe, moved, locked=True), Progress())[1]


def test_a_lock_that_says_less_is_held_against_the_manifest_alone(recipe: Path):
    lock = recipe.with_suffix(".lock")
    lines = [
        line for line in lock.read_text(encoding="utf-8").splitlines() if not line.startswith(("contents", "data"))
    ]
    lock.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert not build(asked(recipe, locked=True), Progress())[1]
    forge(recipe.parent / "out", fewer)
    with pytest.raises(LockError, match=r"holds: manifest: blake2b:"):
        build(asked(recipe, locked=True), Progress())


def test_a_path_that_is_spelt_otherwise_is_no_other_build(recipe: Path, tmp_path: Path):
    before = recipe.with_suffix(".lock").read_bytes()
    recipe.write_text(recipe.read_text(encoding="utf-8").replace('"sums.jsonl"', '"./sums.jsonl"'), encoding="utf-8")
    build(asked(recipe, locked=True), Progress())
    build(asked(recipe, out=tmp_path / "anew", locked=True), Progress())
    assert recipe.with_suffix(".lock").read_bytes() == before


def test_the_lock_holds_the_digest_of_the_data(recipe: Path):
    found = read_lock(recipe.with_suffix(".lock"))
    assert found is not None
    assert found.outcomes["data"] == read_manifest(recipe.parent / "out").data_digest
