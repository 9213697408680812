"""Where `ulimit -v` leaves too little, a command says so in one sentence, however the libraries beneath say it."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from orca_recipes.cli.memory_limit import without_memory

HOME = Path(__file__).parents[2]


def limited(limit: int, *words: str) -> subprocess.CompletedProcess[str]:
    """A command that may map so many bytes."""
    command = [sys.executable, "-m", "orca_recipes.cli", *words]
    # Polars tells its allocator by a variable of this process, and a shell has none.
    environment = {name: value for name, value in os.environ.items() if name != "_RJEM_MALLOC_CONF"}
    streams = {"cwd": HOME, "capture_output": True, "text": True, "env": environment}
    bound = (limit, limit)
    return subprocess.run(command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, bound), **streams)


@pytest.mark.parametrize("command", ["check", "plan", "build"])
def test_a_command_that_may_map_too_little_says_so_before_it_begins(command: str):
    done = limited(300 << 20, command, "recipes/quickstart.toml")
    assert (done.returncode, done.stdout) == (1, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith("this process may map 0.315 GB of memory (`ulimit -v`), and its libraries need more")


@pytest.mark.parametrize("limit", [1_000_000 << 10, 2_050_000 << 10])
def test_a_build_in_want_of_memory_prints_few_lines_however_it_ends(limit: int, tmp_path: Path):
    places = ("--store", str(tmp_path / "store"), "--out", str(tmp_path / "out"))
    done = limited(limit, "build", "recipes/quickstart.toml", *places)
    assert 1 <= len(done.stderr.splitlines()) < 40


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("numbers.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        caused(NameError("name 'Frame' is not defined"), ImportError("frames.so: failed to map segment")),
    ],
)
def test_each_way_of_saying_that_there_is_no_memory_is_known_under_a_limit(
    error: Exception, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("orca_recipes.cli.memory_limit.memory_limit", lambda: 2_000_000_000)
    assert without_memory(error).startswith("this process may map 2 GB of memory (`ulimit -v`)")
    assert without_memory(OSError(errno.ENOSPC, "No space left on device")) is None
    monkeypatch.setattr("orca_recipes.cli.memory_limit.memory_limit", lambda: None)
    assert without_memory(error) is None
