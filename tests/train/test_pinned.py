"""A training reads the build that it began with, whatever becomes of the directory meanwhile."""

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orca_recipes.errors import BuildError, DamagedShard, NonFiniteLoss
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.train import journal, passes
from orca_recipes.train.checkpoints.description import newest_checkpoint
from orca_recipes.train.journal import read_log
from orca_recipes.train.processes import rank
from orca_recipes.train.processes.rank import train_as_rank
from orca_recipes.train.training_settings import Request
from tests.train.builds import make_build, run_command

Fork = Callable[..., list[Any]]

CURRICULUM = """
[[curriculum]]
dataset = "sums"
epochs = 3

[training]
batch_rows = 8
micro_batch_rows = 8
learning_rate = 1e-3
checkpoint_every = 2
validation = "odds"
validate_every = 2
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, its data and its build."""
    return make_build(tmp_path_factory.mktemp("pinned") / "project", CURRICULUM, sums=40, odds=20).parent


@pytest.fixture(scope="module")
def undisturbed(project: Path, tmp_path_factory: pytest.TempPathFactory, fork_from_here: Fork) -> list[float]:
    """The losses of a training whose build nobody touched."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    asked = Request(build=project / "build", out=run)
    fork_from_here(1, lambda rendezvous: train_as_rank(asked, rendezvous=rendezvous))
    return losses(run)


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """The project, for a test to change."""
    return Path(shutil.copytree(project, tmp_path / "copy"))


def losses(run: Path) -> list[float]:
    """Of steps and validations, as they came."""
    return [line.get("loss", line.get("validation_loss")) for line in read_log(run / "log.jsonl")]


def train(fork_ranks: Fork, request: Request, after_step: int, then: Callable[[], None]) -> None:
    """Train, and do something after a step, while the training goes on."""
    step = journal.RunJournal.step

    def told(self: Any, found: journal.Step, glance: journal.Glance) -> None:
        step(self, found, glance)
        if found.step == after_step:
            then()

    def body(rendezvous: str) -> None:
        with pytest.MonkeyPatch.context() as patching:
            patching.setattr(journal.RunJournal, "step", told)
            train_as_rank(request, rendezvous=rendezvous)

    fork_ranks(1, body)


def changed(project: Path) -> None:
    """Other rows of the same sizes, so that another build would be read without a fault."""
    for name in ("sums", "odds"):
        path = project / f"{name}.jsonl"
        path.write_text(path.read_text().replace("It is ", "It be "))


def build(project: Path, *, status: int = 0, out: str = "build") -> str:
    return run_command("build", "sums.toml", "--out", out, "--store", "store", folder=project, status=status)


@pytest.mark.slow
def test_a_build_into_a_directory_that_a_training_reads_is_refused_and_the_training_goes_on(
    copy: Path, tmp_path: Path, fork_ranks: Fork, undisturbed: list[float]
):
    said: list[str] = []

    def build_at_once() -> None:
        changed(copy)
        said.append(build(copy, status=2))
        (tmp_path / "said").write_text(said[0])

    before = read_manifest(copy / "build").digest
    train(fork_ranks, Request(build=copy / "build", out=tmp_path / "run"), 3, build_at_once)
    assert "build is being read by process " in (tmp_path / "said").read_text()
    assert "choose another place with --out" in (tmp_path / "said").read_text()
    assert read_manifest(copy / "build").digest == before
    assert losses(tmp_path / "run") == undisturbed
    build(copy)
    assert read_manifest(copy / "build").digest != before


def test_building_what_is_there_already_disturbs_no_training(
    copy: Path, tmp_path: Path, fork_ranks: Fork, undisturbed: list[float]
):
    build(copy)
    train(fork_ranks, Request(build=copy / "build", out=tmp_path / "run"), 3, lambda: (build(copy), None)[1])
    assert losses(tmp_path / "run") == undisturbed


def test_a_build_that_is_replaced_by_force_is_trained_on_as_it_was(
    copy: Path, tmp_path: Path, fork_ranks: Fork, undisturbed: list[float]
):
    def replace_by_force() -> None:
        changed(copy)
        build(copy, out="other")
        shutil.rmtree(copy / "build")
        (copy / "other").rename(copy / "build")
        (copy / "build" / "tokenizer" / "tokenizer.json").write_text("{}")

    tokenizer = (copy / "build" / "tokenizer" / "tokenizer.json").read_bytes()
    train(fork_ranks, Request(build=copy / "build", out=tmp_path / "run"), 1, replace_by_force)
    assert losses(tmp_path / "run") == undisturbed
    newest = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert newest is not None
    assert (newest / "tokenizer" / "tokenizer.json").read_bytes() == tokenizer


def test_a_training_that_was_killed_keeps_nobody_from_building(copy: Path, tmp_path: Path, fork_ranks: Fork):
    with pytest.raises(AssertionError, match="rank 0 died"):
        train(
            fork_ranks,
            Request(build=copy / "build", out=tmp_path / "run"),
            2,
            lambda: os.kill(os.getpid(), signal.SIGKILL),
        )
    changed(copy)
    build(copy)


def test_a_build_that_is_replaced_while_a_training_begins_is_not_trained_on(
    copy: Path, tmp_path: Path, fork_ranks: Fork, monkeypatch: pytest.MonkeyPatch
):
    changed(copy)
    build(copy, out="other")
    examine = rank.examine

    def examine_and_swap(*words: Any, **more: Any) -> None:
        examine(*words, **more)
        (copy / "build").rename(copy / "gone")
        (copy / "other").rename(copy / "build")

    monkeypatch.setattr(rank, "examine", examine_and_swap)
    asked = Request(build=copy / "build", out=tmp_path / "run")
    with pytest.raises(BuildError, match="was replaced while the training began to read it; run the same command"):
        fork_ranks(1, lambda rendezvous: train_as_rank(asked, rendezvous=rendezvous))
    assert not (tmp_path / "run").exists()


def test_ranks_that_read_different_builds_do_not_train(copy: Path, tmp_path: Path, fork_ranks: Fork):
    changed(copy)
    build(copy, out="other")

    def body(rendezvous: str) -> None:
        mine = "build" if os.environ["RANK"] == "0" else "other"
        asked = Request(build=copy / mine, out=tmp_path / "run", data_parallel=2)
        train_as_rank(asked, rendezvous=rendezvous)

    with pytest.raises(BuildError, match=r"is not the same build to all ranks \(rank 0 has manifest blake2b:.*rank 1"):
        fork_ranks(2, body)


def test_a_tokenizer_that_was_changed_is_found_at_the_start(copy: Path, tmp_path: Path, fork_ranks: Fork):
    path = copy / "build" / "tokenizer" / "chat_template.jinja"
    path.write_text(path.read_text() + " ")
    asked = Request(build=copy / "build", out=tmp_path / "run")
    with pytest.raises(DamagedShard, match=r"tokenizer/chat_template\.jinja: it does not have the digest"):
        fork_ranks(1, lambda rendezvous: train_as_rank(asked, rendezvous=rendezvous))


def test_rows_of_a_build_that_is_gone_are_not_said_to_be_made_of_anothers_lines(
    copy: Path, tmp_path: Path, fork_ranks: Fork
):
    real, calls = passes.losses, [0]

    def poisoned(model: Any, batch: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            (copy / "build").rename(copy / "gone")
        found = real(model, batch)
        return found * float("nan") if calls[0] >= 2 else found

    def body(rendezvous: str) -> None:
        with pytest.MonkeyPatch.context() as patching:
            patching.setattr(passes, "losses", poisoned)
            train_as_rank(Request(build=copy / "build", out=tmp_path / "run"), rendezvous=rendezvous)

    with pytest.raises(NonFiniteLoss, match=r"of what it was made is not known: its build was replaced or removed"):
        fork_ranks(1, body)


def test_more_shards_than_a_process_may_have_open_are_opened_all_the_same(
    copy: Path, tmp_path: Path, fork_ranks: Fork, undisturbed: list[float]
):
    shards = sum(len(counts.shards) for counts in read_manifest(copy / "build").datasets.values())
    assert shards > 2

    def body(rendezvous: str) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        open_now = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + shards, hard))
        train_as_rank(Request(build=copy / "build", out=tmp_path / "run"), rendezvous=rendezvous)

    fork_ranks(1, body)
    assert losses(tmp_path / "run") == undisturbed
