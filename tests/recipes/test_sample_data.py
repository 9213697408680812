"""The data of the sample profiles: the command of its README makes the committed files again, byte for byte."""

import gzip
import json
import shlex
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "recipes" / "samples"


def content(path: Path) -> bytes:
    """What a file holds, whichever zlib compressed it."""
    data = path.read_bytes()
    if path.suffix != ".gz" or "zlib-ng" not in zlib.ZLIB_RUNTIME_VERSION:
        return data
    return gzip.decompress(data)


def contents(folder: Path) -> dict[str, bytes]:
    """What each file of a folder holds, by its path inside."""
    return {str(path.relative_to(folder)): content(path) for path in folder.rglob("*") if path.is_file()}


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in gzip.decompress((FOLDER / name).read_bytes()).splitlines()]


def test_the_samples_are_made_again_byte_for_byte(tmp_path):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    command = next(line for line in readme.splitlines() if line.startswith("python -m "))
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    kept = contents(FOLDER)
    del kept["README.md"]
    assert contents(tmp_path / "recipes/samples") == kept


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "orca_plugins.sources.generate_samples", "--out", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_rationale_ends_in_its_answer_and_options_hold_it():
    assert all(row["answer"] in row["options"] for row in rows("flan2021.jsonl.gz") if row["options"])
    assert all(row["response"].split("The answer is: ")[1] for row in rows("openorca.jsonl.gz"))
    for row in rows("math.jsonl.gz"):
        rationale, answer = row["answer"].split("\n#### ")
        assert answer in rationale


def test_no_question_stands_twice_in_a_file_or_in_two_of_them():
    questions = [row["question"] for name in ("flan2021", "openorca") for row in rows(f"{name}.jsonl.gz")]
    questions += [row["inputs"] for row in rows("t0.jsonl.gz")]
    assert [question for question, times in Counter(questions).items() if times > 1] == []


def test_the_samples_take_little_room():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.*")) < 300_000
