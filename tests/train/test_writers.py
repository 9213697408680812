"""Writers of checkpoints: they end with the rank that forked them."""

import ctypes
import multiprocessing
import signal
import subprocess
import sys
from contextlib import nullcontext

import pytest

from orca_recipes.train.checkpoints.writers import ending_with_their_rank
from tests.patience import SECONDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")

RANK = """
import multiprocessing, time
from orca_recipes.train.checkpoints.writers import ending_with_their_rank
def write():
    print("writing", flush=True)
    time.sleep(600)

with ending_with_their_rank():
    multiprocessing.get_context("fork").Process(target=write).start()
    time.sleep(600)
"""
PR_GET_PDEATHSIG = 2


def test_a_writer_ends_with_a_rank_that_is_killed_and_lets_its_output_go():
    with subprocess.Popen([sys.executable, "-c", RANK], stdout=subprocess.PIPE, text=True) as rank:
        assert rank.stdout is not None
        assert rank.stdout.readline() == "writing\n"
        rank.send_signal(signal.SIGKILL)
        assert rank.communicate(timeout=SECONDS)[0] == ""


def test_only_processes_that_are_forked_inside_are_tied():
    assert signal_at_the_end_of_the_parent(tied=True) == signal.SIGKILL
    assert signal_at_the_end_of_the_parent(tied=False) == 0


def signal_at_the_end_of_the_parent(*, tied: bool) -> int:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def tell() -> None:
        found = ctypes.c_int()
        ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(found))
        answers.put(found.value)

    with ending_with_their_rank() if tied else nullcontext():
        process = context.Process(target=tell)
        process.start()
        process.join(60)
    return int(answers.get())
