"""Engines: the parts of stages, run by processes of this machine."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest

from orca_plugins.engines import _pool
from orca_plugins.engines.local import Local
from orca_recipes.contract.testing import check_kind
from orca_recipes.errors import Failure, RecipeError, SourceError
from tests.patience import SECONDS, awaited


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tasks of engine_tasks.py, importable by workers too."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return pytest.importorskip("engine_tasks")


@pytest.fixture
def engine() -> Iterator[Local]:
    local = Local()
    yield local
    local.close()


def pids(engine: Local, work: ModuleType, workers: int) -> set[int]:
    with TemporaryDirectory() as folder:
        tasks = [(Path(folder), workers)] * 2 * workers
        return {pid for _, pid in engine.map(function=work.process_id, tasks=tasks, workers=workers)}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(") ")[2][0] != "Z"


def gone(found: set[int]) -> bool:
    return awaited(lambda: not any(alive(pid) for pid in found))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_is_answered_with_its_position(engine: Local, work: ModuleType, workers: int) -> None:
    found = engine.map(function=work.squared, tasks=[3, 1, 2], workers=workers)
    assert sorted(found) == [(0, 9), (1, 1), (2, 4)]


@pytest.mark.parametrize("workers", [1, 2])
def test_no_tasks_give_no_results(engine: Local, work: ModuleType, workers: int) -> None:
    assert list(engine.map(function=work.squared, tasks=[], workers=workers)) == []


def test_one_worker_works_in_this_process(engine: Local, work: ModuleType) -> None:
    assert pids(engine, work, 1) == {os.getpid()}


def test_results_come_as_they_finish(engine: Local, work: ModuleType, tmp_path: Path) -> None:
    arrived = []
    tasks = [tmp_path / "others came", None, None, None]
    for position, _ in engine.map(function=work.waited_for, tasks=tasks, workers=2):
        arrived.append(position)
        if len(arrived) == 3:
            (tmp_path / "others came").touch()
    assert arrived[-1] == 0


def test_the_same_processes_serve_map_after_map(engine: Local, work: ModuleType) -> None:
    first = pids(engine, work, 2)
    assert len(first) == 2
    assert pids(engine, work, 2) == first


def test_another_number_of_workers_replaces_the_processes(engine: Local, work: ModuleType) -> None:
    first, second = pids(engine, work, 2), pids(engine, work, 3)
    assert not first & second
    assert gone(first)


def test_close_ends_the_processes_and_the_engine_can_be_used_again(engine: Local, work: ModuleType) -> None:
    first = pids(engine, work, 2)
    engine.close()
    assert gone(first)
    assert len(pids(engine, work, 2)) == 2


def test_what_a_task_leaves_for_the_end_of_its_process_is_done_when_the_engine_is_closed(
    engine: Local, work: ModuleType, tmp_path: Path
) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    list(engine.map(function=work.touch_at_the_end, tasks=paths, workers=2))
    assert not any(path.exists() for path in paths)
    engine.close()
    assert all(path.exists() for path in paths)


def test_an_engine_that_nobody_closes_does_not_keep_the_program_from_ending(tmp_path: Path) -> None:
    script = tmp_path / "forgetful.py"
    script.write_text(
        "import math\nfrom orca_plugins.engines.local import Local\n"
        "if __name__ == '__main__':\n"
        "    engine = Local()\n"
        "    print(sorted(engine.map(function=math.factorial, tasks=[3, 4], workers=2)))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert (done.stdout, done.stderr) == ("[(0, 6), (1, 24)]\n", "")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_is_raised_here(engine: Local, work: ModuleType, workers: int) -> None:
    with pytest.raises(SourceError, match=r"data\.jsonl: cannot be read"):
        list(engine.map(function=work.fail_on_three, tasks=range(6), workers=workers))


def test_the_faults_of_a_recipe_come_through_whole(engine: Local, work: ModuleType) -> None:
    with pytest.raises(RecipeError) as raised:
        list(engine.map(function=work.fail_with_faults, tasks=[0], workers=2))
    assert str(raised.value) == "a.toml:3: x.y\n  wrong\na.toml:4: z\n  wrong too"
    assert [fault.line for fault in raised.value.faults] == [3, 4]


def test_an_exception_that_cannot_travel_keeps_its_name_and_words(engine: Local, work: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="OddError: code 7"):
        list(engine.map(function=work.fail_oddly, tasks=[0], workers=2))


def test_an_exception_tells_where_in_the_worker_it_came_from(engine: Local, work: ModuleType) -> None:
    with pytest.raises(SourceError) as raised:
        list(engine.map(function=work.fail_on_three, tasks=[3], workers=2))
    assert "in fail_on_three" in raised.value.__notes__[0]


def test_a_result_that_cannot_travel_is_an_exception_and_no_hang(engine: Local, work: ModuleType) -> None:
    with pytest.raises(Exception, match="pickle"):
        list(engine.map(function=work.unpicklable, tasks=[0], workers=2))


def test_a_task_that_fails_cancels_what_has_not_begun_and_lets_finish_what_has(
    engine: Local, work: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = _pool._Worker.receive

    def receive(worker: Any, part: str) -> tuple[bool, Any]:
        came = received(worker, part)
        if not came[0]:
            (tmp_path / "heard").touch()
        return came

    monkeypatch.setattr(_pool._Worker, "receive", receive)
    with pytest.raises(SourceError):
        list(engine.map(function=work.record_then_fail_on_zero, tasks=[(n, tmp_path) for n in range(20)], workers=2))
    assert [path.name for path in tmp_path.glob("*.done")] == ["1.done"]
    assert sorted(engine.map(function=work.squared, tasks=[1, 2], workers=2)) == [(0, 1), (1, 4)]


def test_a_killed_worker_is_a_failure_that_says_what_to_do(engine: Local, work: ModuleType) -> None:
    with pytest.raises(Failure) as raised:
        list(engine.map(function=work.die, tasks=[0, 1], workers=2))
    assert str(raised.value) == (
        "a worker process was killed (out of memory?) while it worked on part 2 of 2; "
        "the finished parts are kept: run the same command again"
    )


def test_a_worker_that_ends_by_itself_is_a_failure(engine: Local, work: ModuleType) -> None:
    with pytest.raises(Failure, match="a worker process ended with exit status 3 while it worked on part 1 of 1"):
        list(engine.map(function=work.leave, tasks=[0], workers=2))


def test_the_engine_goes_on_after_a_worker_was_killed(engine: Local, work: ModuleType) -> None:
    first = pids(engine, work, 2)
    with pytest.raises(Failure):
        list(engine.map(function=work.die, tasks=[1], workers=2))
    assert gone(first)
    assert sorted(engine.map(function=work.squared, tasks=[1, 2], workers=2)) == [(0, 1), (1, 4)]


def test_a_worker_killed_while_idle_is_replaced(engine: Local, work: ModuleType) -> None:
    victim = pids(engine, work, 2).pop()
    os.kill(victim, signal.SIGKILL)
    assert gone({victim})
    assert sorted(engine.map(function=work.squared, tasks=[1, 2, 3], workers=2)) == [(0, 1), (1, 4), (2, 9)]


def test_a_caller_that_wants_no_more_ends_what_is_running(engine: Local, work: ModuleType) -> None:
    first = pids(engine, work, 2)
    results = engine.map(function=work.waited, tasks=[0.0, 600.0, 600.0], workers=2)
    next(results)
    results.close()
    assert gone(first)


def test_one_map_at_a_time(engine: Local, work: ModuleType) -> None:
    results = engine.map(function=work.squared, tasks=range(5), workers=2)
    next(results)
    with pytest.raises(RuntimeError, match="busy with another map"):
        next(engine.map(function=work.squared, tasks=range(5), workers=2))


def test_large_tasks_and_results_do_not_lock_up(engine: Local, work: ModuleType) -> None:
    tasks = [b"x" * (8 << 20)] * 6
    assert [len(result) for _, result in engine.map(function=work.doubled, tasks=tasks, workers=2)] == [16 << 20] * 6


@pytest.mark.parametrize("name", ["POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS"])
def test_workers_share_the_cores(engine: Local, work: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    cores = len(os.sched_getaffinity(0))
    (_, each), *_ = engine.map(function=work.environment, tasks=[name], workers=2)
    assert int(each) == max(1, cores // 2)


def test_polars_in_a_worker_keeps_to_its_share(
    engine: Local, work: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POLARS_MAX_THREADS", raising=False)
    (_, threads), *_ = engine.map(function=work.polars_threads, tasks=[0], workers=1000)
    assert threads == 1


def test_a_limit_that_the_user_set_is_left_alone(
    engine: Local, work: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLARS_MAX_THREADS", "7")
    (_, each), *_ = engine.map(function=work.environment, tasks=["POLARS_MAX_THREADS"], workers=2)
    assert each == "7"


def test_an_engine_with_a_pool_is_still_copied_pickled_and_compared_by_its_options(
    engine: Local, work: ModuleType
) -> None:
    pids(engine, work, 2)
    check_kind(engine)
    for twin in (copy.deepcopy(engine), pickle.loads(pickle.dumps(engine)), Local()):
        assert twin == engine


INTERRUPTED = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
import engine_tasks
from orca_plugins.engines.local import Local
if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[2])
    try:
        print('begun', flush=True)
        list(Local().map(function=engine_tasks.report_and_sleep, tasks=[(folder, 600.0)] * 4, workers=2))
    except KeyboardInterrupt:
        print("interrupted")
"""


def begun(folder: Path, count: int) -> set[int]:
    awaited(lambda: len(list(folder.glob("*.begun"))) >= count)
    return {int(path.stem) for path in folder.glob("*.begun")}


def members(group: int) -> set[int]:
    """Living processes of a process group."""
    stats = [path.read_text().rpartition(") ") for path in Path("/proc").glob("[0-9]*/stat")]
    of_group = [head for head, _, tail in stats if tail.split()[2] == str(group) and tail[0] != "Z"]
    return {int(head.split()[0]) for head in of_group}


@pytest.mark.parametrize("moment", ["as workers start", "as workers work"])
def test_an_interrupt_ends_all_processes_at_once_and_without_a_word(tmp_path: Path, moment: str) -> None:
    arguments: list[Any] = [sys.executable, "-c", INTERRUPTED, Path(__file__).parent, tmp_path]
    # A session of its own is a terminal's foreground group: Ctrl-C reaches the parent and every worker.
    parent = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "begun\n"
    if moment == "as workers work":
        begun(tmp_path, 2)
    os.killpg(parent.pid, signal.SIGINT)
    out, err = parent.communicate(timeout=SECONDS)
    assert (out, err) == ("interrupted\n", "")
    assert gone(members(parent.pid))


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = INTERRUPTED.replace("600.0", "0.2").replace("* 4", "* 1000")
    arguments: list[Any] = [sys.executable, "-c", script, Path(__file__).parent, tmp_path]
    parent = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, start_new_session=True)
    workers = begun(tmp_path, 2)
    parent.kill()
    parent.wait()
    assert gone(workers)


def test_workers_that_were_told_to_get_ready_answer_for_their_tasks_alone(engine: Local, work: ModuleType) -> None:
    engine.warm(function=work.squared, task=1000, workers=2)
    engine.warm(function=work.fail_on_three, task=3, workers=2)
    found = engine.map(function=work.squared, tasks=range(9), workers=2)
    assert sorted(found) == [(number, number * number) for number in range(9)]


def test_an_engine_waits_for_no_worker_that_gets_ready(engine: Local, work: ModuleType) -> None:
    (pid, *_) = found = pids(engine, work, 2)
    engine.warm(function=time.sleep, task=600, workers=2)
    engine.close()
    assert gone(found)
    assert not alive(pid)


def test_maps_of_several_threads_share_the_workers(engine: Local, work: ModuleType) -> None:
    found: dict[int, list[tuple[int, int]]] = {}

    def mapped(start: int) -> None:
        tasks = range(start, start + 12)
        found[start] = sorted(engine.map(function=work.squared, tasks=tasks, workers=2))

    threads = [threading.Thread(target=mapped, args=(start,)) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {start: [(at, (start + at) ** 2) for at in range(12)] for start in (0, 100, 200)}


def test_a_killed_worker_is_told_of_in_every_map_that_it_ends(engine: Local, work: ModuleType, tmp_path: Path) -> None:
    said: list[str] = []

    def mapped(tasks: list[tuple[int, Path]]) -> None:
        try:
            list(engine.map(function=work.wait_or_die, tasks=tasks, workers=2))
        except Failure as failure:
            said.append(str(failure))

    threads = [threading.Thread(target=mapped, args=([(number, tmp_path)],)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(said) == 2
    assert all("out of memory" in sentence for sentence in said)
