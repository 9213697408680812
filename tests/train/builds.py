"""Builds for the tests of the trainer, made by the compiler itself: sums to learn by heart, in two datasets."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HOME = Path(__file__).parents[2]

RECIPE = """\
name = "sums"
seed = 7

[collections.sums]
kind = "files"
path = "sums.jsonl"
columns = {{ question = "q", reference = "a"{task} }}

[collections.odds]
kind = "files"
path = "odds.jsonl"
columns = {{ question = "q", reference = "a"{task} }}

[mixtures.sums]
take.sums = {{ all = true }}

[mixtures.odds]
take.odds = {{ all = true }}

[datasets.sums]
mixture = "sums"

[datasets.odds]
mixture = "odds"

[tokenizer]
kind = "hf"
path = "{tokenizer}"

[template]
kind = "chatml"

[packing]
row_tokens = {row_tokens}

[output]
shard_tokens = 600

{more}
"""

ONE_AFTER_THE_OTHER = """
[[curriculum]]
dataset = "sums"
epochs = 2

[[curriculum]]
dataset = "odds"
training = { learning_rate = 1e-3, batch_rows = 5 }

[model]
config = "tiny"

[training]
batch_rows = 8
learning_rate = 3e-3
schedule = "constant"
checkpoint_every = 2
"""


def question(number: int) -> str:
    return f"{number} + {number * 7}?"


def answer(number: int) -> str:
    return f"It is {number * 8}."


def word_pairs(count: int) -> list[tuple[str, str]]:
    """Questions of one word, each with another word as its answer."""
    vocabulary = json.loads((HOME / "recipes" / "quickstart" / "tokenizer.json").read_bytes())["model"]["vocab"]
    words = [word[1:] for word in sorted(vocabulary) if word.startswith("Ġ") and word[1:].isalpha() and len(word) > 4]
    return [(f"And {asked}?", f"It is {told}.") for asked, told in zip(words[:count], words[-count:], strict=True)]


def make_build(
    folder: Path,
    more: str = ONE_AFTER_THE_OTHER,
    *,
    sums: int = 90,
    odds: int = 40,
    pairs: Sequence[tuple[str, str]] | None = None,
    row_tokens: int = 64,
    tasks: Sequence[str] = (),
) -> Path:
    """Write the recipe and its data, and build it as a user does.

    pairs: in place of the sums. tasks: of rows, in turn.
    """
    folder.mkdir(parents=True)
    for name, first, count in (("sums", 0, sums), ("odds", 1000, odds)):
        told = [(question(number), answer(number)) for number in range(first, first + count)]
        rows = [{"q": q, "a": a} for q, a in (pairs if pairs is not None and name == "sums" else told)]
        rows = [{**row, "t": tasks[number % len(tasks)]} for number, row in enumerate(rows)] if tasks else rows
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = (HOME / "recipes" / "quickstart" / "tokenizer.json").as_posix()
    (folder / "sums.toml").write_text(
        RECIPE.format(tokenizer=tokenizer, more=more, row_tokens=row_tokens, task=', task = "t"' if tasks else "")
    )
    run_command("build", "sums.toml", "--out", "build", "--store", "store", folder=folder)
    return folder / "build"


def run_command(*words: str, folder: Path, status: int = 0) -> str:
    """What `orca-recipe` prints; it ends with this status."""
    done = subprocess.run(
        [sys.executable, "-m", "orca_recipes.cli", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def read_steps(run: Path) -> list[dict]:
    """The steps of a run's log."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]
