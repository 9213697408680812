"""Crash anywhere, run again, same bytes: damage, full disks, kills and two builds at once, tried on a small recipe.

`python -m tests.campaign kill` tries the same everywhere, for minutes.
"""

import errno
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orca_recipes.errors import BuildError, Failure, StoreError
from orca_recipes.front.planned import planned
from orca_recipes.run.build import build
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.store.disk_faults import KEPT, writing
from tests.run.small import HOME, Heard, asked, promised


def made(recipe: Path, *overrides: str, **more) -> Heard:
    heard = Heard()
    build(asked(recipe, *overrides, **more), heard)
    return heard


def promised_and_tables(directory: Path) -> dict[str, str]:
    """What is promised, and the manifest's digest, which covers the contents of tables."""
    return promised(directory) | {"manifest": read_manifest(directory).digest}


def made_again(recipe: Path, *overrides: str) -> Heard:
    """Build anew from the store."""
    shutil.rmtree(recipe.parent / "out")
    return made(recipe, *overrides)


def stage_folder(recipe: Path, label: str) -> Path:
    (found,) = (recipe.parent / "store" / "stages").glob(f"{label}-*")
    return found


def change_a_byte(path: Path) -> None:
    """Other bytes of the same size."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def command(recipe: Path, *more: str, out: str = "out") -> list[str]:
    places = ["--out", str(recipe.parent / out), "--store", str(recipe.parent / "store")]
    return ["build", str(recipe), *places, *more]


def run_stopped(recipe: Path, log: Path, stop: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "tests.campaign.traced", str(log), stop, *command(recipe, "--workers", "1")]
    return subprocess.run(line, cwd=HOME, capture_output=True, text=True)


def number_of_swap(recipe: Path, log: Path) -> int:
    """Which of the traced renames puts the build in place."""
    wanted = f"rename {recipe.parent / 'out'}"
    return next(number for number, line in enumerate(log.read_text().splitlines(), 1) if line.endswith(wanted))


# Damage


@pytest.mark.parametrize("name", ["tokenize main/sums", "tokenize main/chats", "pack main"])
@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (change_a_byte, "holds other bytes than were written"),
        (Path.unlink, "is missing"),
        (lambda path: os.truncate(path, 3), "has 3 bytes, not"),
    ],
)
def test_a_damaged_stage_is_made_again_and_the_build_says_so(recipe: Path, name: str, harm, told: str):
    made(recipe)
    before = promised_and_tables(recipe.parent / "out")
    label = name.replace("main/", "").removesuffix(" main").replace(" ", "-")
    file = max(stage_folder(recipe, label).glob("*.*"), key=lambda path: path.stat().st_size)
    harm(file)
    heard = made_again(recipe)
    assert heard.stages == [name, "write main"]
    assert len(heard.said) == 1
    assert heard.said[0].startswith(f"{name}: damaged in the store ({file.name} {told}")
    assert promised_and_tables(recipe.parent / "out") == before


def test_only_the_damaged_part_of_a_stage_is_made_again(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("orca_recipes.run.examples.read_part.BATCH_BYTES", 500)
    monkeypatch.setattr("orca_recipes.run.examples.read.SLICE_BYTES", 700)
    made(recipe)
    before = promised_and_tables(recipe.parent / "out")
    parts = sorted(stage_folder(recipe, "tokenize-sums").glob("part-*.bin"))
    assert len(parts) > 3
    inodes = {path: path.stat().st_ino for path in parts}
    change_a_byte(parts[1])
    made_again(recipe)
    assert [path for path in parts if path.stat().st_ino != inodes[path]] == [parts[1]]
    assert promised_and_tables(recipe.parent / "out") == before


def test_damage_to_the_tokenizer_in_the_store_is_mended(recipe: Path):
    made(recipe)
    before = promised_and_tables(recipe.parent / "out")
    change_a_byte(stage_folder(recipe, "tokenizer") / "tokenizer.json")
    heard = made_again(recipe)
    assert heard.said == [
        "tokenizer: damaged in the store (tokenizer.json holds other bytes than were written); "
        "what is damaged is made again"
    ]
    assert promised_and_tables(recipe.parent / "out") == before


def test_a_half_deleted_store_heals(recipe: Path):
    made(recipe)
    before = promised_and_tables(recipe.parent / "out")
    for number, path in enumerate(sorted((recipe.parent / "store" / "stages").rglob("*.*"))):
        if number % 2 and path.is_file():
            path.unlink()
    made_again(recipe)
    assert promised_and_tables(recipe.parent / "out") == before


def test_stages_that_nothing_needs_any_more_are_not_made_again(recipe: Path):
    made(recipe)
    before = promised_and_tables(recipe.parent / "out")
    for label in ("read-sums", "read-chats", "mix-sums", "converse-sums", "converse-chats"):
        shutil.rmtree(stage_folder(recipe, label))
    assert made_again(recipe).stages == ["write main"]
    assert promised_and_tables(recipe.parent / "out") == before
    assert made_again(recipe, "packing.row_tokens=256").stages == ["pack main", "write main"]


def test_a_damaged_memory_of_digests_is_begun_anew(recipe: Path):
    made(recipe)
    (recipe.parent / "store" / "digests.sqlite").write_bytes(b"no database" * 1000)
    assert made(recipe).stages == []


# Clocks


def test_a_source_of_equal_size_and_time_with_other_bytes_is_noticed(recipe: Path):
    source = recipe.parent / "sums.jsonl"
    os.utime(source, (1_000_000_000, 1_000_000_000))
    made(recipe)
    source.write_text(source.read_text().replace("It is 8.", "It is 9."))
    os.utime(source, (1_000_000_000, 1_000_000_000))
    heard = made(recipe)
    assert "read sums" in heard.stages


def test_what_no_time_tells_rehash_finds(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("orca_recipes.store.source_digests._stamp", lambda status: "a clock that stands still")
    monkeypatch.setattr("orca_recipes.store.source_digests._SETTLED_NS", -1)
    made(recipe)
    source = recipe.parent / "sums.jsonl"
    source.write_text(source.read_text().replace("It is 8.", "It is 9."))
    assert made(recipe).stages == []
    assert "read sums" in made(recipe, rehash=True).stages


def test_a_source_that_changed_a_moment_ago_is_read_again_next_time(recipe: Path):
    # A time ahead of the clock stays within a moment of it, however long the build takes.
    os.utime(recipe.parent / "sums.jsonl", (4_000_000_000, 4_000_000_000))
    made(recipe)
    with sqlite3.connect(recipe.parent / "store" / "digests.sqlite") as memory:
        paths = {Path(path).name for (path,) in memory.execute("select path from digests")}
    memory.close()
    assert "sums.jsonl" not in paths


# Kills


@pytest.mark.slow
def test_a_build_killed_at_any_rename_or_flush_goes_on_to_the_same_bytes(recipe: Path, tmp_path: Path):
    log = tmp_path / "log"
    assert run_stopped(recipe, log, "-").returncode == 0
    before, points = promised_and_tables(recipe.parent / "out"), log.read_text().splitlines()
    assert len(points) >= 20
    swap = number_of_swap(recipe, log)
    for stop in (f"{len(points) // 3}:after", f"{len(points) // 2}:before", f"{swap}:before", f"{swap}:after"):
        for left in (recipe.parent / "out", recipe.parent / "store"):
            shutil.rmtree(left)
        assert run_stopped(recipe, log, f"{stop}:SIGKILL").returncode == -signal.SIGKILL
        made(recipe)
        assert promised_and_tables(recipe.parent / "out") == before, stop
        assert [path.name for path in recipe.parent.iterdir() if path.name.startswith(".out")] == []


def test_an_older_build_is_put_back_where_its_successor_was_killed(recipe: Path, tmp_path: Path):
    made(recipe)
    older, text = promised_and_tables(recipe.parent / "out"), recipe.read_text()
    recipe.write_text(text.replace("row_tokens = 128", "row_tokens = 256"))
    shutil.copytree(recipe.parent, tmp_path / "rehearsal")
    rehearsed = tmp_path / "rehearsal" / recipe.name
    run_stopped(rehearsed, tmp_path / "log", "-")
    swap = number_of_swap(rehearsed, tmp_path / "log")
    run_stopped(recipe, tmp_path / "log", f"{swap}:before:SIGKILL")
    assert not (recipe.parent / "out").exists()
    recipe.write_text(text)
    assert made(recipe).stages == []
    assert promised_and_tables(recipe.parent / "out") == older


@pytest.mark.parametrize(("how", "status"), [("SIGINT", 130), ("SIGTERM", -signal.SIGTERM)])
def test_a_build_that_is_told_to_stop_goes_on_to_the_same_bytes(recipe: Path, tmp_path: Path, how: str, status: int):
    made(recipe, store=tmp_path / "store", out=tmp_path / "out")
    stopped = run_stopped(recipe, tmp_path / "log", f"40:before:{how}")
    assert stopped.returncode == status
    assert "Traceback" not in stopped.stderr
    made(recipe)
    assert promised_and_tables(recipe.parent / "out") == promised_and_tables(tmp_path / "out")


# Two at once


def test_two_builds_over_one_store_share_the_work(recipe: Path, tmp_path: Path):
    lines = [[sys.executable, "-m", "orca_recipes.cli", *command(recipe, out=name)] for name in ("one", "two")]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = [subprocess.Popen(line, cwd=HOME, text=True, **streams) for line in lines]
    told = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    stages = [line.partition(":")[0] for text in told for line in text.splitlines()]
    for name in ("read sums", "converse main/chats", "tokenize main/sums", "pack main"):
        assert stages.count(name) == 1, told
    assert promised_and_tables(recipe.parent / "one") == promised_and_tables(recipe.parent / "two")


def test_two_builds_into_one_directory_are_one_sentence(recipe: Path):
    from filelock import FileLock

    with FileLock(recipe.parent / ".out.lock"), pytest.raises(BuildError, match="another build is writing it"):
        made(recipe)
    made(recipe)


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)  # this process still maps files of it


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def fill(place: Path, *, leave: int) -> Path:
    """Take all but so many bytes of a disk."""
    ballast = place / "ballast"
    room = os.statvfs(place)
    ballast.write_bytes(b"\0" * (room.f_bavail * room.f_bsize - leave))
    return ballast


@pytest.mark.parametrize("leave", [30_000, 120_000, 250_000])
def test_a_full_disk_is_one_sentence_and_what_was_finished_is_used(recipe: Path, small_disk: Path, leave: int):
    made(recipe)
    ballast = fill(small_disk, leave=leave)
    with pytest.raises(StoreError) as told:
        made(recipe, store=small_disk / "store", out=recipe.parent / "other")
    assert str(told.value) == (
        f"the store {small_disk / 'store'} cannot be written: no space is left on its disk; what was finished is kept: "
        "make room and run the same command again, or choose another with --store or ORCA_STORE "
        "(`orca-recipe clean` may free some room)"
    )
    finished = {path.parent.name: path.stat().st_ino for path in (small_disk / "store/stages").glob("*/receipt.json")}
    ballast.unlink()
    made(recipe, store=small_disk / "store", out=recipe.parent / "other")
    assert promised_and_tables(recipe.parent / "other") == promised_and_tables(recipe.parent / "out")
    for name, inode in finished.items():
        assert (small_disk / "store" / "stages" / name / "receipt.json").stat().st_ino == inode


def test_a_full_disk_promises_nothing_where_one_file_is_written(tmp_path: Path):
    def full(**options: str) -> str:
        with pytest.raises(Failure) as told, writing(tmp_path, "the signature a.sig", "choose another", **options):
            raise OSError(errno.ENOSPC, "full", str(tmp_path / "a.sig"))
        return str(told.value)

    why = "the signature a.sig cannot be written: no space is left on its disk; "
    way_on = "make room and run the same command again, or choose another"
    assert full() == why + way_on
    assert full(kept=KEPT) == f"{why}what was finished is kept: {way_on}"


def test_a_file_in_the_place_of_a_folder_is_one_sentence(recipe: Path):
    (recipe.parent / "taken").write_text("mine")
    with pytest.raises(Failure, match=r"cannot be written: a part of its path is a file, and no folder; .* --out"):
        made(recipe, out=recipe.parent / "taken" / "out")
    assert (recipe.parent / "taken").read_text() == "mine"


def test_a_disk_that_is_full_of_the_build_itself_is_one_sentence(recipe: Path, small_disk: Path):
    made(recipe)
    ballast = fill(small_disk, leave=40_000)
    with pytest.raises(Failure, match=r"disk/out cannot be written: no space is left on its disk; .* --out"):
        made(recipe, out=small_disk / "out")
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
    ballast.unlink()
    assert made(recipe, out=small_disk / "out").stages == ["write main"]
    assert promised_and_tables(small_disk / "out") == promised_and_tables(recipe.parent / "out")


def test_a_read_only_store_is_one_sentence(recipe: Path, small_disk: Path):
    made(recipe, store=small_disk / "store")
    remount(small_disk, "ro")
    with pytest.raises(StoreError, match=r"cannot be written: its disk is read-only; .* --store or ORCA_STORE"):
        made(recipe, "packing.row_tokens=256", store=small_disk / "store")
    with pytest.raises(StoreError, match="choose another with --store or ORCA_STORE"):
        made(recipe, store=small_disk / "another")


def test_a_read_only_store_that_holds_everything_is_built_from(recipe: Path, small_disk: Path):
    made(recipe, store=small_disk / "store")
    remount(small_disk, "ro")
    views = planned(asked(recipe, store=small_disk / "store")).preview.stages
    assert {view.state for view in views} == {"cached"}
    assert made(recipe, store=small_disk / "store", out=recipe.parent / "again").stages == ["write main"]
    assert promised_and_tables(recipe.parent / "again") == promised_and_tables(recipe.parent / "out")


def test_a_read_only_place_for_the_build_is_one_sentence(recipe: Path, small_disk: Path):
    remount(small_disk, "ro")
    for place in (small_disk / "out", small_disk / "deep" / "out"):
        with pytest.raises(Failure, match=r"the build .* cannot be written: its disk is read-only; .* --out"):
            made(recipe, out=place)


@pytest.mark.parametrize("limit_bytes", [2_000, 20_000, 60_000])
def test_a_limit_for_the_size_of_files_is_one_sentence(recipe: Path, limit_bytes: int):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        with pytest.raises(StoreError, match=r"the store .*cannot be written: .*run the same command again"):
            made(recipe)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((recipe.parent / "store" / "stages").rglob(".*")) == []
    made(recipe)
    assert verify(recipe.parent / "out").is_sound
