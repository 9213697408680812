"""Where a build lies: a user's files in it stay, and mount points and links are places like others."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from orca_recipes.cli.main import main
from orca_recipes.errors import BuildError
from orca_recipes.run import publish
from orca_recipes.run.build import build
from orca_recipes.run.build_folder import settle
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.manifest import read_manifest
from tests.run.small import Heard, asked, promised


def made(recipe: Path, *overrides: str, out: Path | None = None) -> Heard:
    heard = Heard()
    build(asked(recipe, *overrides, out=out), heard)
    return heard


WIDER = "packing.row_tokens=256"
"""Another build of the same recipe."""


# What is not the build's


@pytest.mark.parametrize(
    ("put", "named"),
    [
        (lambda out: (out / "mine.txt").write_text("mine"), "mine.txt"),
        (lambda out: (out / "main" / "mine.txt").write_text("mine"), "main/mine.txt"),
        (lambda out: (out / "tokenizer" / "old").mkdir(), "tokenizer/old/"),
        (lambda out: (out / "notes").symlink_to("nowhere"), "notes"),
        (lambda out: (out / ".hidden").write_text("mine"), ".hidden"),
    ],
    ids=["beside", "nested", "a folder", "a link", "hidden"],
)
def test_a_file_of_a_users_in_a_build_is_named_and_stands(recipe: Path, put: Callable[[Path], object], named: str):
    made(recipe)
    out = recipe.parent / "out"
    put(out)
    before = sorted(path.relative_to(out) for path in out.rglob("*"))
    for override in ([], ["--set", WIDER]):
        words = ["build", str(recipe), "--out", str(out), "--store", str(recipe.parent / "store"), *override]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 2
        assert done.stderr == (
            f"{out} holds what no build wrote: {named}; a new build would take its place: move it elsewhere, "
            "or choose another place with --out\n"
        )
        assert sorted(path.relative_to(out) for path in out.rglob("*")) == before


def test_a_shard_that_was_moved_and_linked_is_named_and_stands(recipe: Path, tmp_path: Path):
    made(recipe)
    shard = recipe.parent / "out" / "main" / "00000.bin"
    shutil.move(shard, tmp_path / "shard")
    shard.symlink_to(tmp_path / "shard")
    with pytest.raises(BuildError, match=r"main/00000\.bin"):
        made(recipe, WIDER)
    assert shard.is_symlink()


def test_a_file_that_comes_into_a_build_while_another_is_made_stands(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    made(recipe)
    out, settle = recipe.parent / "out", publish.settle

    def settle_and_put(aside: Path) -> None:
        settle(aside)
        (out / "mine.txt").write_text("mine")

    monkeypatch.setattr(publish, "settle", settle_and_put)
    with pytest.raises(BuildError, match=r"mine\.txt"):
        made(recipe, WIDER)
    assert (out / "mine.txt").read_text() == "mine"
    assert [path.name for path in recipe.parent.iterdir() if path.name.startswith(".out")] == []


def test_a_folder_that_is_no_build_is_named_by_what_it_holds(recipe: Path):
    out = recipe.parent / "out"
    out.mkdir()
    (out / "thesis.tex").touch()
    with pytest.raises(BuildError, match=r"holds other files and no build \(thesis\.tex\)"):
        made(recipe)
    assert (out / "thesis.tex").exists()


def test_a_build_whose_manifest_is_damaged_is_built_anew_and_a_users_file_beside_it_stands(recipe: Path):
    made(recipe)
    out = recipe.parent / "out"
    before = promised(out)
    (out / "manifest.json").write_text("{")
    (out / "mine.txt").touch()
    with pytest.raises(BuildError, match=r"what no build wrote: mine\.txt"):
        made(recipe)
    (out / "mine.txt").unlink()
    made(recipe)
    assert promised(out) == before
    assert verify(out).findings == ()


# Places


@pytest.fixture(params=["a disk of its own", "a folder bound on its own disk"])
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty folder that is a mount point."""
    place, source = tmp_path / "mounted", tmp_path / "source"
    place.mkdir()
    source.mkdir()
    kinds = {"a disk of its own": ["-t", "tmpfs", "tmpfs"], "a folder bound on its own disk": ["--bind", str(source)]}
    mounting = ["mount", *kinds[request.param], str(place)]
    if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a folder")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)  # this process still maps files of it


def test_a_mount_point_takes_a_build_and_the_next_one(recipe: Path, mounted: Path):
    made(recipe)
    made(recipe, out=mounted)
    assert promised(mounted) == promised(recipe.parent / "out")
    assert made(recipe, out=mounted).stages == []
    made(recipe, WIDER, out=mounted)
    assert read_manifest(mounted).row_tokens == 256
    assert verify(mounted).findings == ()
    assert [path.name for path in mounted.iterdir() if path.name.startswith(".")] == []
    (mounted / "main" / "mine.txt").write_text("mine")
    with pytest.raises(BuildError, match=r"main/mine\.txt"):
        made(recipe, out=mounted)
    assert (mounted / "main" / "mine.txt").read_text() == "mine"


def test_a_build_that_was_killed_while_it_filled_a_mount_point_is_finished(
    recipe: Path, mounted: Path, monkeypatch: pytest.MonkeyPatch
):
    made(recipe, out=mounted)
    real = os.replace

    def stop_before_the_last(source: Path, target: Path) -> None:
        if Path(target) == mounted / "manifest.json":
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as killing:
        killing.setattr(os, "replace", stop_before_the_last)
        with pytest.raises(KeyboardInterrupt):
            made(recipe, WIDER, out=mounted)
    assert not (mounted / "manifest.json").exists()
    assert made(recipe, WIDER, out=mounted).stages == []
    assert read_manifest(mounted).row_tokens == 256
    assert verify(mounted).findings == ()


@pytest.mark.parametrize("is_there", [True, False], ids=["to a folder", "to where none is yet"])
def test_a_link_is_followed(recipe: Path, tmp_path: Path, is_there: bool):
    link, target = tmp_path / "link", tmp_path / "large disk" / "build"
    target.parent.mkdir()
    if is_there:
        target.mkdir()
    link.symlink_to(target)
    made(recipe, out=link)
    made(recipe, WIDER, out=link)
    assert link.is_symlink()
    assert read_manifest(target).row_tokens == 256
    assert verify(link).findings == ()
    assert sorted(path.name for path in target.parent.iterdir()) == ["build"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_whose_parent_may_not_be_written_takes_a_build(recipe: Path, tmp_path: Path):
    place = tmp_path / "parent" / "place"
    place.mkdir(parents=True)
    place.parent.chmod(0o555)
    try:
        made(recipe, out=place)
        made(recipe, WIDER, out=place)
        assert verify(place).findings == ()
    finally:
        place.parent.chmod(0o755)


def test_what_a_worker_left_that_was_taken_for_dead_is_no_part_of_a_build(tmp_path: Path):
    (tmp_path / "main").mkdir()
    for name in ("00000.bin", ".0a1b2c.00000.bin"):
        (tmp_path / "main" / name).touch()
    settle(tmp_path)
    assert [path.name for path in (tmp_path / "main").iterdir()] == ["00000.bin"]
