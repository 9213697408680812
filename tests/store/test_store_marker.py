"""What is a store, and what is not: nobody's files are taken for stages."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orca_recipes.cli.main import main
from orca_recipes.errors import NoStore
from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from orca_recipes.store.store import Store
from orca_recipes.store.store_marker import FOLDERS, MARKER
from tests.run.small import Heard, asked


def clean(root: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["clean", "--store", str(root), *words])


def as_made_by_older_versions(recipe: Path) -> Path:
    """A store that was used by a build, without its marker."""
    build(asked(recipe), Progress())
    root = recipe.parent / "store"
    (root / MARKER).unlink()
    return root


@pytest.mark.parametrize(
    ("files", "folders", "named"),
    [
        (["stages/x/mine"], ["builds"], "stages/x"),
        (["stages/x/mine"], FOLDERS, "stages/x"),
        (["stages/mine.txt"], FOLDERS, "stages/mine.txt"),
        (["builds/notes.json"], FOLDERS, "builds/notes.json"),
        (["running/mine"], FOLDERS, "running/mine"),
        (["thesis.tex"], [], "thesis.tex"),
        (["thesis.tex"], ["stages"], "thesis.tex"),
    ],
)
def test_a_folder_that_is_no_store_is_refused_by_name_and_nothing_in_it_is_touched(
    tmp_path: Path, files: list[str], folders: list[str], named: str
):
    root = tmp_path / "d"
    for folder in folders:
        (root / folder).mkdir(parents=True)
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("mine")
    before = sorted(path.relative_to(root) for path in root.rglob("*"))
    for words in ([], ["--all"]):
        done = clean(root, *words)
        assert done.exit_code == 2
        assert done.stderr.startswith(f"{root} is no store and is not empty: it holds {named}; choose another folder")
    assert sorted(path.relative_to(root) for path in root.rglob("*")) == before


def test_a_build_is_not_begun_in_a_folder_that_is_no_store(recipe: Path):
    (recipe.parent / "store").mkdir()
    (recipe.parent / "store" / "thesis.tex").touch()
    with pytest.raises(NoStore, match=r"thesis\.tex"):
        asked(recipe)
    assert [path.name for path in (recipe.parent / "store").iterdir()] == ["thesis.tex"]


def test_a_store_that_was_made_without_a_marker_goes_on_and_has_one_then(recipe: Path):
    root = as_made_by_older_versions(recipe)
    heard = Heard()
    build(asked(recipe), heard)
    assert heard.stages == []
    assert (root / MARKER).is_file()
    assert clean(root, "--all").exit_code == 0
    assert list((root / "stages").iterdir()) == []


def test_a_store_that_was_made_without_a_marker_in_a_folder_of_other_things_goes_on(recipe: Path):
    root = as_made_by_older_versions(recipe)
    (root / "thesis.tex").write_text("mine")
    assert clean(root, "--all").exit_code == 0
    assert list((root / "stages").iterdir()) == []
    assert (root / "thesis.tex").read_text() == "mine"


def test_a_store_without_a_marker_that_holds_something_else_among_its_stages_is_refused(recipe: Path):
    root = as_made_by_older_versions(recipe)
    (root / "stages" / "mine").mkdir()
    with pytest.raises(NoStore, match="stages/mine"):
        Store(root)


def test_what_is_no_stage_is_left_by_clean_which_says_so(recipe: Path, tmp_path: Path):
    build(asked(recipe), Progress())
    root, said = recipe.parent / "store", list[str]()
    (root / "stages" / "mine").mkdir()
    (root / "stages" / "mine" / "thesis.tex").touch()
    (root / "stages" / f"link-{'0' * 20}").symlink_to(tmp_path)
    Store(root).clean(keep_nothing=True, say=said.append)
    assert f"{root}/stages/mine: left as it is, because it is no stage" in said
    assert sorted(path.name for path in (root / "stages").iterdir()) == [f"link-{'0' * 20}", "mine"]
    assert (root / "stages" / "mine" / "thesis.tex").exists()


def test_an_empty_folder_a_new_disk_and_a_link_become_stores(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    for name in ("empty", "disk", "new/one", "link"):
        Store(tmp_path / name)
        assert (tmp_path / name / MARKER).is_file()
    assert (tmp_path / "far" / "away" / "stages").is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_may_only_be_read_is_used_without_a_marker(recipe: Path):
    root = as_made_by_older_versions(recipe)
    root.chmod(0o555)
    try:
        Store(root)
    finally:
        root.chmod(0o755)


def test_a_store_that_another_build_marks_between_two_looks_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "store"

    def late(_: Path) -> list[str]:
        monkeypatch.undo()
        Store(root)
        return [MARKER]

    monkeypatch.setattr("orca_recipes.store.store_marker._foreign", late)
    Store(root)
    assert {path.name for path in root.iterdir()} >= {MARKER, *FOLDERS}
