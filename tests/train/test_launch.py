"""The real launcher: the command, torchrun's agent, ranks as processes of their own."""

import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orca_recipes.errors import LayoutError, ModelError, TrainingError, UserError
from orca_recipes.train.checkpoints.description import newest_checkpoint
from orca_recipes.train.journal import read_log
from orca_recipes.train.processes import launch
from orca_recipes.train.training_settings import Request
from tests.patience import SECONDS, awaited
from tests.train.builds import HOME, make_build, read_steps, run_command
from tests.train.ranks import forked_command

FOREVER = """
[[curriculum]]
dataset = "sums"
epochs = 1000

[training]
batch_rows = 4
checkpoint_every = 2
"""

SYLLOGISM = """\
Consider these statements:
1. All dolphins are teachers
2. No teachers are lawyers

Does it logically follow that:
Some dolphins are not lawyers?
(Answer Yes or No)"""


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build whose training lasts longer than a test."""
    return make_build(tmp_path_factory.mktemp("endless") / "project", FOREVER, sums=30)


@pytest.mark.slow
def test_the_quickstart_trained_as_its_page_says_comes_well_under_the_uniform_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    recipe = HOME / "recipes" / "quickstart"
    (tmp_path / "recipes").mkdir()
    for name in ("quickstart.toml", "quickstart"):
        (tmp_path / "recipes" / name).symlink_to(recipe.with_name(name))
    run_command("build", "recipes/quickstart.toml", folder=tmp_path)
    training = ("train", "build/quickstart", "--tensor-parallel", "2")
    plan = forked_command(*training, "--dry-run", folder=tmp_path).stdout
    assert re.search(r"phase 1: main 3 times; 429 rows, 215 steps of 2, 868,950 tokens \(55,026 trained\)", plan)
    assert "time: unknown until" in plan
    told = run_command(*training, "--steps", "40", folder=tmp_path)
    assert re.match(r"40 steps at learning rate \S+ \w+; starting 2 ranks\n", told)
    assert not [*temporary.glob("torchelastic*"), *temporary.glob("orca*")]
    assert "step 40/40  phase 1  loss" in told
    losses = [step["loss"] for step in read_steps(tmp_path / "runs" / "quickstart")]
    assert len(losses) == 40
    assert sum(losses[-10:]) / 10 < 0.35 * math.log(4096)
    assert run_command("sample", "runs/quickstart", SYLLOGISM, folder=tmp_path) in ("Yes\n", "No\n")
    folder = forked_command("export-hf", "runs/quickstart", "hf", folder=tmp_path).stdout
    assert folder.startswith("hf: exported")
    again = forked_command("train", "build/quickstart", "--steps", "40", "--dry-run", folder=tmp_path).stdout
    assert re.search(r"time: about \d+:\d\d, at the \S+ seconds a row", again)


def test_what_cannot_be_trained_is_one_sentence(endless: Path, tmp_path: Path):
    words = ("train", str(endless), "--out", str(tmp_path / "run"), "--tensor-parallel", "3")
    told = forked_command(*words, folder=tmp_path)
    assert (told.status, told.stdout) == (2, "")
    assert told.stderr.count("\n") == 1
    assert told.stderr.startswith("tensor parallel 3 does not divide")


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"tensor_parallel": 3}, LayoutError),
        ({"sequence_parallel": True}, LayoutError),
        ({"model": "gigantic"}, ModelError),
        ({"first_phase": 7}, TrainingError),
    ],
)
def test_what_a_layout_or_a_model_forbids_is_told_before_any_rank_starts(
    wrong: dict[str, Any], fault: type[UserError], endless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(launch, "elastic_launch", lambda *_: pytest.fail("ranks were started"))
    with pytest.raises(fault):
        launch.launch(Request(build=endless, out=tmp_path / "run", device="cpu", **wrong))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_others_and_the_last_checkpoint_stands(endless: Path, tmp_path: Path):
    run = tmp_path / "run"
    with started(endless, run, "--data-parallel", "2") as process:
        wait_for_steps(run, 3)
        os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
        told = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 1
    assert "the last checkpoint stands: run the same command again to go on" in told
    assert "Traceback" not in told
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    assert int(newest.name[-8:]) % 2 == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_no_rank_outlives_a_launcher_that_is_killed(endless: Path, tmp_path: Path):
    run = tmp_path / "run"
    with started(endless, run, "--data-parallel", "2") as process:
        wait_for_steps(run, 3)
        assert len(ranks_of(process.pid)) == 2
        process.kill()
        # Ranks and writers hold the output: it ends with the last of them.
        process.communicate(timeout=SECONDS)


@pytest.mark.slow
def test_ctrl_c_waits_for_the_step_however_long_and_leaves_its_checkpoint(endless: Path, tmp_path: Path):
    run = tmp_path / "run"
    # torch would kill the ranks after so many seconds, 30 where nothing is said (2.12 and newer read this).
    with started(endless, run, "--data-parallel", "2", TORCH_ELASTIC_SHUTDOWN_TIMEOUT="0") as process:
        wait_for_steps(run, 3)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "stopping after this step, with a checkpoint" in told
    assert "run the same command again to go on from" in told
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    assert int(newest.name[-8:]) == read_steps(run)[-1]["step"]


def test_a_second_ctrl_c_ends_at_once(endless: Path, tmp_path: Path):
    run = tmp_path / "run"
    with started(endless, run) as process:
        wait_for_steps(run, 3)
        [rank] = ranks_of(process.pid)
        os.kill(rank, signal.SIGSTOP)  # as one whose step takes for ever
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert any("Ctrl-C again ends at once" in line for line in process.stdout)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "Traceback" not in told
    assert not Path(f"/proc/{rank}").exists()


def started(build: Path, run: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "orca_recipes.cli", "train", str(build), "--out", str(run), *words],
        cwd=HOME,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_steps(run: Path, steps: int) -> None:
    assert awaited(lambda: len(read_log(run / "log.jsonl")) >= steps), f"{run} has not come to step {steps}"


def ranks_of(launcher: int) -> list[int]:
    """The processes that the launcher started as ranks, in order."""
    children = [int(child) for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]
    commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child in children if b"orca_recipes.train" in commands[child].split(b"\0")]
