"""A file that changes while it is read: nothing is kept under the fingerprint of other content, whenever it happens."""

import gzip
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from orca_plugins.sources.files.kind import Files
from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.kinds import SourceFile
from orca_recipes.errors import SourceError
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.shards.digests import file_digest
from orca_recipes.store import source_digests
from orca_recipes.store.sealed import promise
from orca_recipes.store.source_digests import BLAKE2B, Digesting, FileDigests, _stamp
from orca_recipes.store.store import Store

CHANGED = r"it changed while it was read; run the same command again$"


def built(recipe: Path) -> dict[str, str]:
    """Digests of the shards of a build."""
    out = recipe.parent / "out"
    build(Asked(load_recipe(recipe, catalogue=Catalogue()), Store(recipe.parent / "store"), out, workers=1), Progress())
    return {path.name: file_digest(path) for path in sorted(out.glob("main/*.[bi][id][nx]"))}


def rewrite(path: Path) -> None:
    """Other content of the same size, with the time of writing set back: as like as a file can be made by hand."""
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"What is", b"Who was"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"q": "new", "a": "new", "t": "new"}\n')


def shorten(path: Path) -> None:
    os.truncate(path, 3000)


def replace(path: Path) -> None:
    aside = path.with_suffix(".new")
    aside.write_bytes(path.read_bytes().replace(b"What is", b"Who was"))
    aside.replace(path)


def remove(path: Path) -> None:
    path.unlink()


BEFORE, AMID, AFTER = "before it is read", "in the middle of reading", "after it was read"
CHANGES = [(rewrite, BEFORE), (rewrite, AMID), (rewrite, AFTER), *((how, AMID) for how in (lengthen, shorten, replace))]
CHANGES += [(lengthen, AFTER), (remove, BEFORE)]


class Once:
    """Changes a file the first time that it is called on."""

    def __init__(self, change: Callable[[Path], None], path: Path) -> None:
        self.change, self.path, self.done = change, path, False

    def __call__(self) -> None:
        if not self.done:
            self.done = True
            self.change(self.path)


@pytest.fixture(scope="module")
def undisturbed(lasting_recipe: Path) -> dict[str, str]:
    """What a store that saw no change makes of the recipe."""
    return built(lasting_recipe)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Once, str], None]:
    """Plants a change between pinning and the end of the stage, in parts of a few lines."""
    monkeypatch.setattr("orca_recipes.run.examples.read.SLICE_BYTES", 3000)

    def plant(change: Once, when: str) -> None:
        slices, read = Files.slices, Files.read

        def changed_first(self, **options):
            if self.path == change.path and when == BEFORE:
                change()
            return slices(self, **options)

        def changed_meanwhile(self, *, slice):
            is_late = self.path == change.path and slice.start > 2000
            if is_late and when == AMID:
                change()
            yield from read(self, slice=slice)
            if is_late and when == AFTER:
                change()

        monkeypatch.setattr(Files, "slices", changed_first)
        monkeypatch.setattr(Files, "read", changed_meanwhile)

    return plant


@pytest.mark.parametrize(("change", "when"), CHANGES)
def test_a_file_that_changes_is_a_sentence_and_the_next_build_is_right(
    recipe: Path,
    undisturbed: dict[str, str],
    plant: Callable[[Once, str], None],
    change: Callable[[Path], None],
    when: str,
):
    path = recipe.parent / "sums.jsonl"
    before = path.read_bytes()
    plant(Once(change, path), when)
    with pytest.raises(SourceError, match=CHANGED) as caught:
        built(recipe)
    assert str(path) in str(caught.value)
    assert not (recipe.parent / "out").exists()
    # What was read of the other content must not stand for the old one either.
    path.write_bytes(before)
    assert built(recipe) == undisturbed


def test_a_change_that_is_taken_back_while_it_is_read_is_found(
    recipe: Path, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    path, read = recipe.parent / "sums.jsonl", Files.read
    before = path.read_bytes()

    def other_content(self, *, slice):
        if self.path == path:
            rewrite(path)
        yield from read(self, slice=slice)
        if self.path == path:
            path.write_bytes(before)

    monkeypatch.setattr(Files, "read", other_content)
    with pytest.raises(SourceError, match=CHANGED):
        built(recipe)
    monkeypatch.undo()
    assert built(recipe) == undisturbed


def test_a_compressed_file_that_is_cut_while_it_is_read_is_said_to_have_changed(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
):
    path, read = recipe.parent / "sums.jsonl.gz", Files.read
    path.write_bytes(gzip.compress((recipe.parent / "sums.jsonl").read_bytes()))
    recipe.write_text(recipe.read_text().replace("sums.jsonl", "sums.jsonl.gz"))

    def cut(self, *, slice):
        if self.path == path:
            os.truncate(path, 100)
        yield from read(self, slice=slice)

    monkeypatch.setattr(Files, "read", cut)
    with pytest.raises(SourceError, match=CHANGED):
        built(recipe)


@pytest.mark.parametrize("name", ["new.jsonl", "a.jsonl"])
def test_a_file_that_comes_or_goes_while_a_folder_is_read_is_found(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    folder, slices = recipe.parent / "folder", Files.slices
    folder.mkdir()
    for place in "abc":
        (folder / f"{place}.jsonl").write_bytes((recipe.parent / "sums.jsonl").read_bytes())
    recipe.write_text(recipe.read_text().replace("sums.jsonl", "folder"))

    def other_files(self, **options):
        if self.path == folder and name == "new.jsonl":
            (folder / name).write_bytes(b'{"q": "new", "a": "new", "t": "new"}\n')
        elif self.path == folder:
            (folder / name).unlink(missing_ok=True)
        return slices(self, **options)

    monkeypatch.setattr(Files, "slices", other_files)
    with pytest.raises(SourceError, match=CHANGED):
        built(recipe)


def test_a_file_that_changes_while_its_digest_is_taken_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"one")
    digests, files = FileDigests(tmp_path / "digests.sqlite"), [SourceFile("rows.jsonl", path)]
    stamps = iter([_stamp(path.stat()), "another"])
    monkeypatch.setattr("orca_recipes.store.source_digests._stamp", lambda _: next(stamps))
    with pytest.raises(SourceError, match=CHANGED):
        digests.pin(files)
    monkeypatch.undo()
    path.write_bytes(b"two")
    assert digests.pin(files)[0].digest == promise(path)


def test_a_file_that_only_was_touched_between_two_builds_is_read_no_second_time(recipe: Path):
    first = built(recipe)
    os.utime(recipe.parent / "sums.jsonl")
    stages = recipe.parent / "store" / "stages"
    reads = sorted(stages.glob("read*"))
    assert built(recipe) == first
    assert sorted(stages.glob("read*")) == reads


def old(path: Path) -> SourceFile:
    """A file that was written long enough ago for its digest to be remembered."""
    path.write_bytes(path.name.encode())
    os.utime(path, (1, 1))
    return SourceFile(path.name, path)


def noting(taken: list[Path]) -> Digesting:
    """Takes the digests of pins, and notes of which files."""
    return Digesting(lambda path: taken.append(path) or promise(path), "")


@pytest.fixture
def settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change times cannot be set back."""
    monkeypatch.setattr("orca_recipes.store.source_digests._SETTLED_NS", -1_000_000_000)


@pytest.mark.usefixtures("settled_at_once")
def test_the_files_of_many_sources_are_remembered_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened: list[Path] = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, **options: opened.append(path) or connect(path, **options))
    taken: list[Path] = []
    digests = FileDigests(tmp_path / "digests.sqlite", digesting=noting(taken))
    files = [old(tmp_path / f"{place}.jsonl") for place in range(20)]
    for _ in range(2):
        with digests.together() as pinning:
            pins = [pinning.pin([file]) for file in files]
    assert len(opened) == 2
    assert taken == [file.path for file in files]
    assert [pin.digest for (pin,) in pins] == [promise(file.path) for file in files]


@pytest.mark.usefixtures("settled_at_once")
def test_what_was_read_before_a_file_that_cannot_be_is_remembered(tmp_path: Path):
    taken: list[Path] = []
    digests = FileDigests(tmp_path / "digests.sqlite", digesting=noting(taken))
    file = old(tmp_path / "rows.jsonl")
    with pytest.raises(SourceError, match="it cannot be read"), digests.together() as pinning:
        pinning.pin([file, SourceFile("gone.jsonl", tmp_path / "gone.jsonl")])
    digests.pin([file])
    assert taken == [file.path]


@pytest.mark.usefixtures("settled_at_once")
def test_a_file_is_remembered_by_the_place_that_links_lead_to(tmp_path: Path):
    taken: list[Path] = []
    digests = FileDigests(tmp_path / "digests.sqlite", digesting=noting(taken))
    folder = tmp_path / "folder"
    folder.mkdir()
    file = old(folder / "rows.jsonl")
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "rows.jsonl").symlink_to(file.path)
    for path in (file.path, tmp_path / "link" / "rows.jsonl", tmp_path / "rows.jsonl"):
        digests.pin([SourceFile("rows.jsonl", path)])
    assert taken == [file.path]


def test_a_damaged_memory_is_begun_anew(tmp_path: Path):
    (tmp_path / "digests.sqlite").write_bytes(b"no database, but long enough to be looked at as one" * 40)
    file = old(tmp_path / "rows.jsonl")
    assert FileDigests(tmp_path / "digests.sqlite").pin([file])[0].digest == promise(file.path)


def test_a_file_is_pinned_by_the_digest_that_is_held_of_it_and_one_that_changed_by_blake3(tmp_path: Path):
    same, other, new = (old(tmp_path / f"{name}.jsonl") for name in ("same", "other", "new"))
    held = {"same.jsonl": file_digest(same.path), "other.jsonl": file_digest(same.path)}
    pins = FileDigests(tmp_path / "digests.sqlite").pin([same, other, new], held)
    assert [pin.digest for pin in pins] == [file_digest(same.path), promise(other.path), promise(new.path)]
    held = {"same.jsonl": promise(same.path), "other.jsonl": "no digest at all"}
    pins = FileDigests(tmp_path / "digests.sqlite").pin([same, other], held)
    assert [pin.digest for pin in pins] == [promise(same.path), promise(other.path)]


@pytest.mark.usefixtures("settled_at_once")
def test_the_memory_holds_both_kinds_of_a_file_and_what_older_programs_found(tmp_path: Path):
    file, memory = old(tmp_path / "rows.jsonl"), tmp_path / "digests.sqlite"
    # A digest that no program would take: who gives it has it from the memory.
    found = f"blake2b:{0:064x}"
    with sqlite3.connect(memory) as rows:
        rows.execute("create table digests (path text primary key, stamp text not null, digest text not null)")
        rows.execute("insert into digests values (?, ?, ?)", (str(file.path), _stamp(file.path.stat()), found))
    assert FileDigests(memory, digesting=BLAKE2B).pin([file])[0].digest == found
    for _ in range(2):
        assert FileDigests(memory).pin([file])[0].digest == promise(file.path)
        assert FileDigests(memory).pin([file], {file.name: found})[0].digest == found
    with sqlite3.connect(memory) as rows:
        assert rows.execute("select count(*) from digests").fetchone() == (2,)


@pytest.mark.parametrize("most_bytes", [0, 1 << 20])
def test_a_memory_of_any_size_remembers_what_did_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int
):
    monkeypatch.setattr(source_digests, "_READ_WHOLE_BYTES", most_bytes)
    monkeypatch.setattr(source_digests, "_SETTLED_NS", 0)
    taken: list[str] = []

    def digest(path: Path) -> str:
        taken.append(path.name)
        return file_digest(path)

    digesting = Digesting(digest, "")
    files = [tmp_path / name for name in ("one", "two", "three")]
    for file in files:
        file.write_text(file.name)
    (tmp_path / "link").symlink_to("one")
    asked = [SourceFile(path.name, path) for path in (*files, tmp_path / "link")]
    first = FileDigests(tmp_path / "digests.sqlite", digesting=digesting).pin(asked)
    files[1].write_text("other")
    second = FileDigests(tmp_path / "digests.sqlite", digesting=digesting).pin(asked)
    assert taken[-1] == "two"
    assert len(taken) == (4 if most_bytes else 5)  # a link is the file that it leads to, once that is known
    assert [pin.digest for pin in second] == [file_digest(found.path) for found in asked]
    assert (first[0], first[2], first[3]) == (second[0], second[2], second[3])
