"""A slice of the campaigns `strangers`, `faults` and `secrets`; by hand they run for as long as one likes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaign.secrets import tried_short
from tests.campaign.watching import watched
from tests.servers.echoes import PLACES

HOME = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("strangers", ("--count", "12", "--seed", "7")),
        pytest.param("faults", ("--count", "1", "--only", "a disk that is full"), marks=pytest.mark.slow),
    ],
)
def test_what_strangers_hand_over_and_machines_that_fail_end_in_sentences(name: str, more: tuple[str], tmp_path: Path):
    command = [sys.executable, "-m", "tests.campaign", name, *more, "--json", str(tmp_path / "told.json")]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True)
    told = json.loads((tmp_path / "told.json").read_bytes())
    assert done.returncode == 0, done.stdout + done.stderr
    assert (told["tried"], told["failed"], told["unknowable"]) == (int(more[1]), [], [])


def test_the_processes_that_load_strangers_files_are_watched_too(tmp_path: Path):
    with watched(tmp_path) as seen:
        subprocess.run([sys.executable, "-c", "open('/nowhere/x', 'w')"], stderr=subprocess.DEVNULL)
        assert seen.told() == ["in the process that loads: 'it writes /nowhere/x'"]
        seen.forget()
        assert seen.told() == []


def test_a_key_that_a_server_says_again_stands_in_nothing_that_is_written(tmp_path: Path):
    found = tried_short(tmp_path)
    assert [one.failed for one in found.values()] == [[], []]
    assert found["one by one"].tried == len(PLACES)
