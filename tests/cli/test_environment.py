"""What `orca-recipe env` tells, and what it keeps to itself; and that a shell completes commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orca_recipes import __version__
from orca_recipes.cli.main import main


def test_env_tells_versions(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(["env", "--json"])
    assert not stop.value.code
    told = json.loads(capsys.readouterr().out)
    assert told["orca_recipes"] == __version__
    assert told["packages"].keys() >= {"polars", "pyarrow", "tokenizers", "click"}
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))


def test_env_tells_no_secret_and_no_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("HF_TOKEN", "hf_not_for_anyone")
    monkeypatch.setenv("ORCA_STORE", "/somewhere/of/mine")
    for words in (["env"], ["env", "--json"]):
        with pytest.raises(SystemExit):
            main(words)
        said = capsys.readouterr().out
        assert "hf_not" not in said
        assert "/somewhere" not in said
        assert "ORCA_STORE" in said


@pytest.mark.parametrize(
    ("begun", "place", "offered"),
    [("orca-recipe rep", 1, ["plain,report"]), ("orca-recipe export build --to mes", 4, ["plain,messages"])],
)
def test_a_shell_completes_commands_and_exporters(begun: str, place: int, offered: list[str], tmp_path: Path):
    script = (
        "import sys; sys.argv = ['orca-recipe']; from orca_recipes.cli.main import main; main(prog_name='orca-recipe')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "_ORCA_RECIPE_COMPLETE": "bash_complete",
            "COMP_WORDS": begun,
            "COMP_CWORD": str(place),
            **({"PYTHONPATH": path} if (path := os.environ.get("PYTHONPATH")) else {}),
        },
    )
    assert done.stdout.splitlines() == offered, done.stderr
