"""When stages run: after their inputs, side by side, and the earliest fault is told."""

import os
import signal
import sys
import threading
import time

import pytest

from orca_recipes.errors import BuildError, SourceError
from orca_recipes.progress import Progress, SharedProgress
from orca_recipes.run.work.schedule import run_side_by_side
from tests.patience import SECONDS, awaited

INPUTS = {"read a": (), "read b": (), "mix a": ("read a",), "mix b": ("read b",), "pack": ("mix a", "mix b")}


def side_by_side(work, *, at_once: int = 3, stop=lambda: None) -> None:
    run_side_by_side(list(INPUTS), inputs=INPUTS, work=work, at_once=at_once, stop=stop)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_a_stage_runs_once_all_its_inputs_are_there(at_once: int):
    done: list[str] = []

    def work(name: str) -> None:
        assert set(INPUTS[name]) <= set(done)
        done.append(name)

    side_by_side(work, at_once=at_once)
    assert sorted(done) == sorted(INPUTS)


def test_stages_that_need_nothing_of_each_other_run_at_the_same_time():
    met = threading.Barrier(2)

    def work(name: str) -> None:
        if name.startswith("read"):
            met.wait(timeout=SECONDS)  # raises where the other does not come

    side_by_side(work)


def test_no_more_stages_run_at_once_than_asked_for():
    running: list[str] = []

    def work(name: str) -> None:
        running.append(name)
        assert len(running) == 1
        time.sleep(0.01)
        running.remove(name)

    side_by_side(work, at_once=1)


def test_of_several_faults_the_earliest_stages_is_told_whichever_came_first():
    later_failed = threading.Event()

    def work(name: str) -> None:
        if name == "read b":
            later_failed.set()
            raise BuildError("b")
        assert later_failed.wait(timeout=SECONDS)
        raise SourceError("a")

    with pytest.raises(SourceError, match="a"):
        side_by_side(work)


def test_after_a_fault_no_stage_begins():
    begun: list[str] = []

    def work(name: str) -> None:
        begun.append(name)
        raise SourceError(name)

    with pytest.raises(SourceError, match="read a"):
        side_by_side(work, at_once=1)
    assert begun == ["read a"]


def test_an_interrupt_stops_what_runs_and_waits_for_it():
    stopped, tidied = threading.Event(), []

    def work(name: str) -> None:
        if name == "read a":
            os.kill(os.getpid(), signal.SIGINT)
        stopped.wait(timeout=SECONDS)
        tidied.append(name)

    with pytest.raises(KeyboardInterrupt):
        side_by_side(work, stop=stopped.set)
    assert stopped.is_set()
    assert tidied in (["read a"], ["read a", "read b"], ["read b", "read a"])


def test_an_interrupt_does_not_wait_for_a_stage_that_cannot_hear_of_it():
    let_go, ended = threading.Event(), []

    def work(name: str) -> None:
        if name == "read a":
            os.kill(os.getpid(), signal.SIGINT)
        let_go.wait(timeout=SECONDS)
        ended.append(name)

    with pytest.raises(KeyboardInterrupt):
        side_by_side(work)
    assert ended == []
    let_go.set()


class Heard(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self, stage: str, *, total: int, unit: str) -> None:
        self.said.append(f"begin {stage}")

    def advance(self, amount: int) -> None:
        self.said.append(f"advance {amount}")

    def end(self, summary: str) -> None:
        self.said.append(f"end {summary}")

    def say(self, sentence: str) -> None:
        self.said.append(sentence.rpartition(" (")[0])


def test_an_interrupt_is_heard_though_a_library_has_the_system_go_on_with_a_wait_that_it_broke_off():
    halted, main_thread = threading.Event(), threading.get_ident()
    heard: list[bool] = []

    def work(name: str) -> None:
        awaited(lambda: sys._current_frames()[main_thread].f_code.co_name == "_next")
        os.kill(os.getpid(), signal.SIGINT)
        heard.append(halted.wait(timeout=SECONDS))

    handler = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.siginterrupt(signal.SIGINT, False)  # what polars does once it is imported
    try:
        with pytest.raises(KeyboardInterrupt):
            side_by_side(work, at_once=1, stop=halted.set)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert heard == [True]


def test_one_stage_is_shown_at_a_time_and_each_tells_its_end():
    heard = Heard()
    shared = SharedProgress(heard)
    shared.begin("first", total=10, unit="B")
    others = []
    go_on = threading.Event()

    def second() -> None:
        shared.begin("second", total=5, unit="B")
        shared.advance(2)
        others.append("begun")
        go_on.wait(timeout=SECONDS)
        shared.advance(3)
        shared.end("whole")

    def third() -> None:
        shared.begin("third", total=1, unit="B")
        shared.end("done")

    for work in (second, third):
        thread = threading.Thread(target=work)
        thread.start()
        if work is third:
            thread.join()
        else:
            following = thread
            while not others:
                time.sleep(0.001)
    shared.advance(10)
    shared.end("all")
    go_on.set()
    following.join()
    assert heard.said == [
        "begin first",
        "advance 0",
        "third: done",
        "advance 10",
        "end all",
        "begin second",
        "advance 2",
        "advance 3",
        "end whole",
    ]
