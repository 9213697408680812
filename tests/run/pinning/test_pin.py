"""Pins of files: BLAKE3, and the older BLAKE2b where a lock holds it of a file that stayed as it was."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from orca_recipes.errors import LockError
from orca_recipes.plan.pins import SourcePin
from orca_recipes.run.build import build, explain_lock, lock_recipe
from orca_recipes.run.pinning.lock_file import Lock, read_lock
from orca_recipes.shards.digests import file_digest
from orca_recipes.store.sealed import promise
from tests.run.small import QUICKSTART_TOKENIZER, Heard, asked, write_rows

ROWS = ("sums.jsonl", "chats.jsonl")


def lock_of(recipe: Path) -> Lock:
    found = read_lock(recipe.with_suffix(".lock"))
    assert found is not None
    return found


def pinned(recipe: Path) -> dict[str, str]:
    """The digest that the lock holds of each file."""
    pins = lock_of(recipe).pins
    parts: list[SourcePin] = [*pins.collections.values(), pins.tokenizer]
    return {file.name: file.digest for part in parts for file in part.files}


def files(recipe: Path) -> list[Path]:
    return [*(recipe.parent / name for name in ROWS), QUICKSTART_TOKENIZER]


@pytest.fixture
def older(recipe: Path) -> Path:
    """The recipe with the lock, the store and the build of a program whose pins are BLAKE2b."""
    lock_recipe(asked(recipe))
    lock = recipe.with_suffix(".lock")
    # What was foreseen is of these pins, and the build writes its own.
    text, _, _ = lock.read_text(encoding="utf-8").partition("\n[outcomes")
    for path in files(recipe):
        assert promise(path) in text
        text = text.replace(promise(path), file_digest(path))
    lock.write_text(text, encoding="utf-8")
    shutil.rmtree(recipe.parent / "store")
    heard = Heard()
    build(asked(recipe), heard)
    assert not any("pinned anew" in said for said in heard.said)
    return recipe


def test_a_new_recipe_is_pinned_by_blake3(recipe: Path):
    lock_recipe(asked(recipe))
    assert pinned(recipe) == {path.name: promise(path) for path in files(recipe)}
    assert lock_recipe(asked(recipe, store=recipe.parent / "other"))[1] == []


def test_an_older_lock_is_kept_byte_for_byte_and_its_data_are_those_of_a_new_one(older: Path):
    lock = older.with_suffix(".lock")
    before = lock.read_bytes()
    assert pinned(older) == {path.name: file_digest(path) for path in files(older)}
    assert explain_lock(asked(older)) == []
    assert lock_recipe(asked(older, store=older.parent / "locking"))[1] == []
    assert build(asked(older, store=older.parent / "other", out=older.parent / "again", locked=True), Heard())[1]
    assert lock.read_bytes() == before
    lock.unlink()
    build(asked(older, store=older.parent / "newer", out=older.parent / "new"), Heard())
    assert pinned(older) == {path.name: promise(path) for path in files(older)}
    assert b'data = "' in before
    assert lock_of(older).outcomes["data"].encode() in before


@pytest.mark.parametrize("rehash", [False, True])
def test_a_store_of_older_pins_is_used_again(older: Path, rehash: bool):
    before = older.with_suffix(".lock").read_bytes()
    assert not build(asked(older, rehash=rehash), Heard())[1], "the build is there"
    heard = Heard()
    build(asked(older, out=older.parent / "again", rehash=rehash, locked=True), heard)
    build(asked(older, out=older.parent / "more", rehash=rehash), heard)
    assert not any(stage.startswith(("read", "converse", "tokenize")) for stage in heard.stages)
    assert not heard.said
    assert older.with_suffix(".lock").read_bytes() == before


def test_a_file_that_changed_under_an_older_lock_is_told_and_pinned_by_blake3(older: Path):
    changed, same = (older.parent / name for name in ROWS)
    write_rows(changed, [{"q": "What is new?", "a": "This.", "t": "sum-0"}] * 200)
    with pytest.raises(LockError, match=r"collections\.sums: the file sums\.jsonl has other content") as caught:
        build(asked(older, locked=True), Heard())
    assert same.name not in str(caught.value)
    heard = Heard()
    build(asked(older), heard)
    assert [said for said in heard.said if "sums.jsonl has other content" in said]
    wanted = {path.name: promise(path) if path == changed else file_digest(path) for path in files(older)}
    assert pinned(older) == wanted
    assert "read sums" in heard.stages
    assert "read chats" not in heard.stages
    assert not build(asked(older, locked=True), Heard())[1]


def test_a_collection_that_holds_system_messages_is_read_once_for_its_older_pin(
    older: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("orca_recipes.store.source_digests._SETTLED_NS", -1_000_000_000)
    told = '\n[system_messages.tasks]\nkind = "column"\ncollection = "sums"\ncolumn = "task"\n'
    rule = '\n[[rules]]\nstrategy = "direct"\nsystem_messages = ["tasks"]\n'
    older.write_text(older.read_text(encoding="utf-8") + rule + told, encoding="utf-8")
    lock_recipe(asked(older))
    assert pinned(older)["sums.jsonl"] == file_digest(older.parent / "sums.jsonl")
    with sqlite3.connect(older.parent / "store" / "digests.sqlite") as memory:
        remembered = {path for (path,) in memory.execute("select path from digests where path like '%sums.jsonl'")}
    assert remembered == {str((older.parent / "sums.jsonl").resolve())}
