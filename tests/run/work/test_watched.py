"""A command that goes on in a fork: whatever a file does ends in a sentence; signals and statuses are as without."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run.work.test_limited import ENDS
from tests.servers.objects import CREDENTIALS, new_bucket, serving_objects

HOME = Path(__file__).parents[3]
COMMAND = """
import os, resource, signal, sys, time
from orca_recipes.errors import OutOfMemory, SourceError, TokenizerError
from orca_recipes.run.work.limited import Limits
from orca_recipes.run.work.watched import watched
from tests.run.work.test_limited import ENDS, loads, never_ends

started = os.getpid()
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
try:
    work = watched(Limits(memory_bytes=256 << 20, seconds=60.0))
    if sys.argv[1] == "loads":
        assert os.getppid() == started
        print(*(work.do(loads, 1, what="it", failure=SourceError)[1] == os.getpid() for _ in range(2)))
        sys.exit(7)
    if sys.argv[1] == "aborts":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()
    if sys.argv[1] == "waits":
        print("begun", flush=True)
        time.sleep(600)
    work.do(ENDS[int(sys.argv[1])][0], None, what="tokenizer.json", failure=TokenizerError)
except (OutOfMemory, SourceError, TokenizerError) as fault:
    print(fault)
    sys.exit(fault.exit_status)
except KeyboardInterrupt:
    print("stopped")
    sys.exit(130)
"""


def command(*words: str) -> "subprocess.Popen[str]":
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], cwd=HOME, text=True, start_new_session=True, **streams
    )


def test_work_is_done_by_the_process_that_needs_it_and_its_status_is_the_commands() -> None:
    done = command("loads")
    assert (*done.communicate(), done.returncode) == ("True True\n", 2 * "a library's warning\n", 7)


@pytest.mark.parametrize("number", range(len(ENDS)))
def test_whatever_a_file_does_ends_in_a_sentence(number: int) -> None:
    done = command(str(number))
    said, _ = done.communicate()
    assert (said, done.returncode) == (f"{ENDS[number][1]}\n", 2)


def test_an_abort_is_a_sentence_where_memory_is_limited_and_else_ends_the_command_alike() -> None:
    done = command("aborts", str(64 << 30))
    said, _ = done.communicate()
    assert (said.split(",")[0], done.returncode) == ("SIGABRT ended this command", 1)
    assert "which may map 68.7 GB of memory (`ulimit -v`)" in said
    done = command("aborts")
    assert (done.communicate()[0], done.returncode) == ("", -signal.SIGABRT)


def begun() -> "subprocess.Popen[str]":
    waiting = command("waits")
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "begun\n"
    return waiting


@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_an_interrupt_of_the_process_or_of_its_group_is_heard_once(send: object) -> None:
    waiting = begun()
    send(waiting.pid, signal.SIGINT)  # type: ignore[operator]
    assert (*waiting.communicate(), waiting.returncode) == ("stopped\n", "", 130)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_leaves_no_process(how: signal.Signals) -> None:
    waiting = begun()
    waiting.send_signal(how)
    # The fork holds the other ends of these pipes: they end with it.
    assert (*waiting.communicate(), waiting.returncode) == ("", "", -how)


def test_a_build_into_a_store_at_an_address_starts_no_process_to_load_files_in(tmp_path: Path) -> None:
    started = "import os, sys\nfrom orca_recipes.run.work import limited\nfrom orca_recipes.cli.__main__ import run\n"
    started += "limited._Served._started = lambda _: os._exit(99)\nrun()\n"
    words = ["build", "recipes/quickstart.toml", "--limit", "10", "--workers", "1"]
    with serving_objects() as address:
        place = f"s3://{new_bucket(address)}"
        done = subprocess.run(
            [sys.executable, "-c", started, *words, "--store", f"{place}/store", "--out", f"{place}/out"],
            cwd=HOME,
            env=os.environ | CREDENTIALS | {"AWS_ENDPOINT_URL": address, "ORCA_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert f"{place}/out" in done.stdout
