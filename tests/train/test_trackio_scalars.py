"""A run's curve stands in Trackio's own database, also of a run that went on; nothing leaves the machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orca_recipes.train.trackio_scalars import TRACKIO, TrackioScalars, is_installed

# Not imported here: where it writes is settled when it is.
pytestmark = pytest.mark.skipif(not is_installed(), reason="needs trackio")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks up a host fails; variables of a user would have numbers sent to one."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("Trackio looked for a host")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("TRACKIO_SERVER_URL", "TRACKIO_SPACE_ID", "TRACKIO_WEBHOOK_URL", "TRACKIO_DIR"):
        monkeypatch.setenv(name, "http://trackio.example/x")


def test_a_run_that_goes_on_has_the_curve_of_an_undisturbed_one(tmp_path: Path):
    run = tmp_path / "run"
    script = (
        "import os, pathlib, sys\nfrom orca_recipes.train.trackio_scalars import TrackioScalars\n"
        "scalars = TrackioScalars(pathlib.Path(sys.argv[1]), [])\n"
        "for step in range(1, 6):\n    scalars.add_scalar('loss', 1 / step, step)\n"
        "os._exit(9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, run], capture_output=True, text=True)
    assert (killed.returncode, killed.stdout) == (9, ""), killed.stderr
    lines: list[dict[str, Any]] = [{"step": n, "loss": 1 / n, "seconds": 2.0, "target_tokens": 8} for n in (1, 2)]
    lines.append({"step": 2, "validation_loss": 0.25})
    again = TrackioScalars(run, lines)
    again.add_scalar("loss", 0.125, 3)
    again.close()
    assert os.environ["TRACKIO_DIR"] == str(run / TRACKIO)
    assert "TRACKIO_SERVER_URL" not in os.environ
    assert (run / TRACKIO / "run.db").is_file()
    from trackio.sqlite_storage import SQLiteStorage

    logs = SQLiteStorage.get_logs("run", "train")
    told = [{name: value for name, value in line.items() if name != "timestamp"} for line in logs]
    assert told == [
        {"step": 1, "loss": 1.0, "target_tokens_per_second": 4.0},
        {"step": 2, "loss": 0.5, "target_tokens_per_second": 4.0, "validation_loss": 0.25},
        {"step": 3, "loss": 0.125},
    ]
