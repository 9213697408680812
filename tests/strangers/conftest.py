"""Packages outside of the house: installed beside ours, in a folder of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TOKENIZER = HERE.parents[1] / "recipes" / "quickstart" / "tokenizer.json"


def installed(folder: Path, package: str, *needed: str) -> None:
    """Install a package of this folder, and what it needs, in `site`; skips where pip cannot fetch that."""
    shutil.copytree(HERE / package, folder / "package")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", "site"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([*pip, "./package", *needed], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode and needed:
        pytest.skip(f"pip could not fetch {', '.join(needed)}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    assert done.returncode == 0, done.stderr


def orca(folder: Path, *words: str, site: str = "site") -> subprocess.CompletedProcess[str]:
    """Run the command line with what is installed in a folder."""
    beside = os.pathsep.join(filter(None, [str(folder / site), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "orca_recipes.cli", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": beside},
    )
