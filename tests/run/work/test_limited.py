"""Files that would take all memory, never end, or end the process: one sentence each, and this process goes on."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orca_recipes.errors import SourceError, TokenizerError
from orca_recipes.run.work.limited import Limited, Limits

LIMITED = Limited(Limits(memory_bytes=256 << 20, seconds=60.0))


def loads(task: int) -> tuple[int, int]:
    print("a library's warning", file=sys.stderr)
    return task + 1, os.getpid()


def never_ends(_: Any) -> None:
    """Never ends where Python cannot be interrupted, as a library does."""
    ctypes.CDLL(None).pause()


def allocates(_: Any) -> int:
    return len(bytearray(1 << 30))


def exits(_: Any) -> None:
    os._exit(3)


def aborts(_: Any) -> None:
    os.write(2, b"first line\nmemory allocation of 17179869184 bytes failed\n")
    os.abort()


def fails(_: Any) -> None:
    raise KeyError("vocab\nand much more")


def refuses(_: Any) -> None:
    raise SourceError("data.parquet: no such thing")


ENDS = [
    (allocates, "tokenizer.json: to load it takes more than 0.25 GiB of memory; use another"),
    (exits, "tokenizer.json: it ended the process that loaded it (exit status 3); use another"),
    (aborts, "tokenizer.json: to load it takes more than 0.25 GiB of memory; use another"),
    (fails, r"tokenizer.json: it cannot be loaded: 'vocab\nand much more'"),
    (refuses, "data.parquet: no such thing"),
]


def test_what_never_ends_is_ended() -> None:
    with pytest.raises(TokenizerError, match=r"^tokenizer.json: to load it takes more than 0.2 seconds; use another$"):
        Limited(Limits(seconds=0.2)).do(never_ends, None, what="tokenizer.json", failure=TokenizerError)


@pytest.mark.parametrize(("function", "sentence"), ENDS)
def test_whatever_a_file_does_ends_in_a_sentence(function: Any, sentence: str) -> None:
    with pytest.raises((TokenizerError, SourceError)) as told:
        LIMITED.do(function, None, what="tokenizer.json", failure=TokenizerError)
    assert str(told.value) == sentence


def test_a_process_that_was_started_is_kept_and_one_that_ended_is_started_anew() -> None:
    import polars  # noqa: F401  with its threads this process is not forked

    (first, one), (second, other) = (LIMITED.do(loads, n, what="it", failure=SourceError) for n in (1, 2))
    assert (first, second, one == other, one == os.getpid()) == (2, 3, True, False)
    with pytest.raises(SourceError):
        LIMITED.do(exits, None, what="it", failure=SourceError)
    assert LIMITED.do(loads, 1, what="it", failure=SourceError)[1] != one


def test_what_this_process_alone_knows_is_done_by_it() -> None:
    assert LIMITED.do(lambda task: (task, os.getpid()), 5, what="it", failure=SourceError) == (5, os.getpid())


FORKED = """
import os, sys
from orca_recipes.errors import SourceError, TokenizerError
from orca_recipes.run.work import limited
from tests.run.work.test_limited import ENDS, LIMITED, loads
assert limited.may_fork()
LIMITED.begin()
import polars  # once it is begun it serves, though this process has threads now
(told, one), (_, other) = (LIMITED.do(loads, 1, what="it", failure=SourceError) for _ in range(2))
assert (told, one == other, one != os.getpid()) == (2, True, True)
LIMITED.rest()
del sys.modules["polars"]
assert limited.may_fork()
for function, sentence in ENDS:
    try:
        LIMITED.do(function, None, what="tokenizer.json", failure=TokenizerError)
    except (TokenizerError, SourceError) as fault:
        assert str(fault) == sentence, fault
assert LIMITED.do(lambda task: task, 5, what="it", failure=SourceError) == 5
LIMITED.rest()
assert not limited._server.cache_info().currsize
"""


def test_a_process_without_threads_is_forked() -> None:
    home = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", FORKED], cwd=home, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, 2 * "a library's warning\n")
