"""The commands of the trainer, as programs read them: one object on stdout, progress on stderr."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orca_recipes.train.outcome import outcome_json
from tests.train.builds import make_build, read_steps
from tests.train.ranks import forked_command


def told(*words: str, folder: Path) -> tuple[dict, str]:
    """What a command tells programs, and what it prints for people."""
    done = forked_command(*words, "--json", folder=folder)
    assert done.status == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_build(tmp_path_factory.mktemp("outcome") / "project", sums=30, odds=12).parent


@pytest.mark.slow
def test_a_training_its_plan_its_export_its_import_and_a_sample_are_each_one_object(project: Path):
    train = ("train", "build", "--out", "run", "--steps", "2")
    plan, _ = told(*train, "--dry-run", folder=project)
    assert (plan["steps"], plan["seconds"], plan["ranks"]) == (2, None, plan["layout"]["tensor_parallel"])
    assert plan["phases"][0].keys() >= {"datasets", "rows", "steps", "tokens", "trained_tokens", "learning_rate"}
    done = subprocess.run(
        [sys.executable, "-m", "orca_recipes.cli", *train, "--json"],
        cwd=project,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    found, progress = json.loads(done.stdout), done.stderr
    assert "step 2/2" in progress
    assert (found["run"], found["status"], found["step"]) == ("run", 0, 2)
    assert found["loss"] == read_steps(project / "run")[-1]["loss"]
    assert (project / found["checkpoint"]).is_dir()
    again, _ = told(*train, "--dry-run", folder=project)
    assert again["seconds"] > 0
    answer, _ = told("sample", "run", "What is 1 + 1?", "--max-tokens", "3", folder=project)
    assert (answer["checkpoint"], answer["question"]) == (found["checkpoint"], "What is 1 + 1?")
    assert isinstance(answer["answer"], str)
    exported, _ = told("export-hf", "run", "hf", folder=project)
    assert (exported["folder"], exported["parameters"]) == ("hf", plan["parameters"])
    imported, _ = told("import-hf", "hf", "imported", folder=project)
    assert (imported["model_type"], imported["parameters"]) == ("llama", plan["parameters"])
    assert imported["peak_bytes"] > 10_000_000


def test_a_run_that_has_not_begun_has_come_to_nothing(tmp_path: Path):
    nothing = dict.fromkeys(("step", "loss", "validation_loss", "validation_losses", "checkpoint"))
    assert outcome_json(tmp_path / "run", status=1) == {"run": str(tmp_path / "run"), "status": 1, **nothing}
