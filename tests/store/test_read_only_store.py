"""A store that may only be read serves whoever finds everything in it."""

import ctypes
import subprocess
import sys
from pathlib import Path

from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from tests.run.small import STUDENT, SUMS, asked, promised, sums, write_rows

_PR_CAPBSET_DROP = 24
_READER = """
import sys
from click.testing import CliRunner
from orca_recipes.cli.main import main
recipe, store, out, other = sys.argv[1:]
for words in (["plan"], ["build", "--workers", "1"], ["build", "--workers", "1", "--set", "seed=8"]):
    done = CliRunner().invoke(main, [*words, recipe, "--store", store, "--out", other if "--set" in words else out])
    print(done.exit_code, done.output.splitlines()[-1])
"""


def as_others_do() -> None:
    """Be bound by permissions, though the superuser runs this."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(_PR_CAPBSET_DROP, capability)


def test_a_store_that_may_only_be_read_is_accepted_by_plan_and_build(tmp_path: Path) -> None:
    write_rows(tmp_path / "sums.jsonl", sums(20))
    recipe = tmp_path / "small.toml"
    recipe.write_text(SUMS + STUDENT)
    build(asked(recipe), Progress())
    folders = [path for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    words = [recipe, tmp_path / "store", tmp_path / "again", tmp_path / "other"]
    command = [sys.executable, "-c", _READER, *map(str, words)]
    done = subprocess.run(command, preexec_fn=as_others_do, capture_output=True, text=True)
    for folder in folders:
        folder.chmod(0o755)
    planned, built, other = done.stdout.splitlines()
    assert planned.startswith("0 ")
    assert built.startswith("0 ")
    assert other.startswith("1 the store ")
    assert promised(tmp_path / "again") == promised(tmp_path / "out")
