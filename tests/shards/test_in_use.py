"""Who reads a build keeps it from being replaced, as long as the reader lives and no longer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orca_recipes.errors import BuildError
from orca_recipes.shards import in_use
from orca_recipes.shards.in_use import begin_to_read, refuse_in_use, replacing

READER = """
import sys, time
from pathlib import Path
from orca_recipes.shards.in_use import begin_to_read
reading = begin_to_read(Path(sys.argv[1]))
print("reading", flush=True)
time.sleep(600)
"""


@pytest.fixture
def build(tmp_path: Path) -> Path:
    directory = tmp_path / "build"
    directory.mkdir()
    (directory / "manifest.json").write_text("{}")
    return directory


def started(build: Path) -> subprocess.Popen[str]:
    """A process that reads a build for long."""
    process = subprocess.Popen([sys.executable, "-c", READER, str(build)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    return process


def test_a_build_that_is_read_is_not_replaced_and_the_reader_is_named(build: Path):
    with started(build) as process:
        with pytest.raises(BuildError) as fault, replacing(build):
            pytest.fail("it was replaced")
        assert str(fault.value).startswith(f"{build} is being read by process {process.pid} (")
        assert str(fault.value).endswith("wait for it or stop it, or choose another place with --out")
        process.kill()


def test_a_reader_that_is_killed_holds_nothing(build: Path):
    with started(build) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        refuse_in_use(build)


def test_several_may_read_and_the_last_one_lets_go(build: Path):
    with begin_to_read(build), begin_to_read(build), pytest.raises(BuildError, match="is being read"):
        refuse_in_use(build)
    refuse_in_use(build)


def test_nobody_begins_to_read_while_a_build_is_replaced(build: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(in_use, "_PAUSE_SECONDS", 0)
    with replacing(build), pytest.raises(BuildError, match="is being replaced by a build"):
        begin_to_read(build)
    begin_to_read(build).close()


def test_a_reader_that_opened_the_older_manifest_reads_the_new_build(build: Path, monkeypatch: pytest.MonkeyPatch):
    new = build.parent / "new"
    new.mkdir()
    (new / "manifest.json").write_text("new")
    real, swapped = in_use.fcntl.flock, False

    def swap_first(file: object, how: int) -> None:
        nonlocal swapped
        if not swapped:
            build.rename(build.parent / "old")
            new.rename(build)
            swapped = True
        real(file, how)

    monkeypatch.setattr(in_use, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(in_use.fcntl, "flock", swap_first)
    with begin_to_read(build) as reading:
        assert swapped
        assert reading.is_still_there()


def test_a_reader_knows_that_its_build_was_replaced_by_other_means(build: Path):
    with begin_to_read(build) as reading:
        assert reading.is_still_there()
        build.rename(build.parent / "old")
        assert not reading.is_still_there()
        build.mkdir()
        (build / "manifest.json").write_text("{}")
        assert not reading.is_still_there()


def test_what_is_no_build_is_said_as_everywhere(tmp_path: Path):
    with pytest.raises(BuildError, match=r"is not a complete build: it has no manifest\.json"):
        begin_to_read(tmp_path)
    refuse_in_use(tmp_path)
    file = tmp_path / "rows.jsonl"
    file.write_text("{}\n")
    with pytest.raises(BuildError, match=r"rows\.jsonl is a file; name the folder"):
        begin_to_read(file)


def test_a_file_system_without_locks_keeps_nobody_from_reading(build: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(file: object, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(in_use.fcntl, "flock", refuse)
    with begin_to_read(build):
        refuse_in_use(build)
