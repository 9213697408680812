"""Folders put in their place whole: by rename or from inside, killed anywhere, and nothing of anyone else's is lost."""

import os
from pathlib import Path

import pytest

from orca_recipes.errors import BuildError
from orca_recipes.shards import publishing
from orca_recipes.shards.publishing import followed, foreign_files, give_up, make_aside, put_back, put_in_place

LAST = "list"
OLD = {"data/one": "old", "data/two": "old", "gone/three": "old", "top": "old"}
NEW = {"data/one": "new", "data/four": "new", "fresh/five": "new", "top": "new"}


def own(folder: Path) -> set[str]:
    """What a folder lists as its own."""
    path = folder / LAST
    return {LAST, *path.read_text().split()} if path.is_file() else set()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in {**files, LAST: " ".join(files)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def held(folder: Path) -> dict[str, str]:
    """All files of a folder but its list and what lies aside in it."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != LAST)
    return {path.as_posix(): (folder / path).read_text() for path in files if not path.parts[0].startswith(".")}


@pytest.fixture(params=["by rename", "from inside"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place with an older folder; from inside: as if something were mounted there."""
    directory = tmp_path / "parent" / "place"
    write(directory, OLD)
    monkeypatch.setattr(publishing, "_is_mounted", lambda found: request.param == "from inside" and found == directory)
    return directory


def published(place: Path, files: dict[str, str] = NEW) -> None:
    aside = make_aside(place)
    write(aside, files)
    put_in_place(aside, place, last=LAST, own=own)


def test_what_is_put_in_place_takes_the_place_of_what_was_there(place: Path):
    inode = place.stat().st_ino
    published(place)
    assert held(place) == NEW
    assert [path.name for path in place.parent.iterdir()] == ["place"]
    assert sorted(path.name for path in place.iterdir()) == ["data", "fresh", LAST, "top"]
    assert (place.stat().st_ino == inode) == publishing.is_filled_from_inside(place)


def test_a_place_that_is_not_there_is_made(tmp_path: Path):
    published(tmp_path / "a" / "b")
    assert held(tmp_path / "a" / "b") == NEW


def killed_at(stop: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Publish, and be killed before this rename; whether there was one so late."""
    real, done = os.replace, 0

    def replace(source: Path, target: Path) -> None:
        nonlocal done
        if done == stop:
            raise KeyboardInterrupt
        done += 1
        real(source, target)

    with monkeypatch.context() as killing:
        killing.setattr(os, "replace", replace)
        try:
            published(place)
        except KeyboardInterrupt:
            return True
        return False


def test_killed_at_any_rename_the_old_or_the_new_folder_is_whole_in_the_end(
    place: Path, monkeypatch: pytest.MonkeyPatch
):
    stop = 0
    while killed_at(stop, place, monkeypatch):
        if (place / LAST).exists():
            assert held(place) == OLD
        put_back(place, last=LAST, own=own)
        assert held(place) in (OLD, NEW)
        assert [path.name for path in place.parent.iterdir()] == ["place"]
        assert not [path for path in place.iterdir() if path.name.startswith(".")]
        published(place, OLD)
        stop += 1
    assert stop == (8 if publishing.is_filled_from_inside(place) else 2)


def test_giving_up_in_the_middle_leaves_what_going_on_needs(place: Path, monkeypatch: pytest.MonkeyPatch):
    aside = make_aside(place)
    write(aside, NEW)
    real, left = os.replace, 3 if publishing.is_filled_from_inside(place) else 0

    def refuse(source: Path, target: Path) -> None:
        nonlocal left
        if not left:
            raise OSError(5, "the disk is gone")
        left -= 1
        real(source, target)

    with monkeypatch.context() as failing:
        failing.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="the disk is gone"):
            put_in_place(aside, place, last=LAST, own=own)
    give_up(aside, place, last=LAST)
    put_back(place, last=LAST, own=own)
    assert held(place) == (NEW if publishing.is_filled_from_inside(place) else OLD)


def test_a_file_that_nobody_lists_is_never_removed(place: Path):
    inside = publishing.is_filled_from_inside(place)
    (place / "data" / "mine").write_text("mine")
    published(place)
    found = [path.read_text() for path in place.parent.rglob("mine")]
    assert found == ["mine"]
    put_back(place, last=LAST, own=own)
    assert [path.read_text() for path in place.parent.rglob("mine")] == ["mine"]
    assert {name: text for name, text in held(place).items() if "mine" not in name} == NEW
    assert inside == any(path.name.endswith(".replaced") for path in place.iterdir())


def test_what_is_foreign_is_named_wherever_it_lies(place: Path):
    assert list(foreign_files(place, own(place))) == []
    (place / "data" / "deep").mkdir()
    (place / "data" / "mine.txt").touch()
    (place / "top").unlink()
    (place / "top").symlink_to("data/one")
    (place / "dangling").symlink_to("nowhere")
    os.mkfifo(place / "pipe")
    assert list(foreign_files(place, own(place))) == ["dangling", "data/deep/", "data/mine.txt", "pipe", "top"]


def test_a_link_is_followed_and_one_that_leads_in_a_circle_is_refused(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert followed(tmp_path / "link") == tmp_path / "target"
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(BuildError, match="leads nowhere"):
        followed(tmp_path / "a")
