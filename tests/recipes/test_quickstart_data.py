"""The data of the quickstart: the commands of its README make the committed files again, byte for byte."""

import gzip
import json
import shlex
import subprocess
import sys
import zlib
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HOME = Path(__file__).parents[2]
FOLDER = HOME / "recipes" / "quickstart"
MADE_WITH = {"reasoning-gym": "0.1.25", "tokenizers": "0.23"}


def rows() -> list[dict[str, Any]]:
    with gzip.open(FOLDER / "tasks.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def texts() -> list[str]:
    return [text for row in rows() for text in (row["question"], row["answer"])]


def made_again(module: str, folder: Path) -> bytes:
    """What the README's command with this module writes, run in a copy of the place where `recipes/` lies."""
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    command = next(line for line in readme.splitlines() if line.startswith(f"python -m {module} "))
    there = folder / "recipes" / "quickstart"
    there.mkdir(parents=True)
    (there / "tasks.jsonl.gz").write_bytes((FOLDER / "tasks.jsonl.gz").read_bytes())
    arguments = shlex.split(command)
    done = subprocess.run([sys.executable, *arguments[1:]], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return (folder / arguments[arguments.index("--out") + 1]).read_bytes()


def skip_with_another(package: str) -> None:
    try:
        found = version(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    if not found.startswith(MADE_WITH[package]):
        pytest.skip(f"made with {package} {MADE_WITH[package]}; this is {found}")


def test_the_tasks_are_made_again_byte_for_byte(tmp_path: Path) -> None:
    skip_with_another("reasoning-gym")
    made = made_again("orca_plugins.sources.generate_tasks", tmp_path)
    committed = (FOLDER / "tasks.jsonl.gz").read_bytes()
    assert gzip.decompress(made) == gzip.decompress(committed)
    if "zlib-ng" not in zlib.ZLIB_RUNTIME_VERSION:  # which compresses the same content to other bytes
        assert made == committed


def test_the_tokenizer_is_made_again_byte_for_byte(tmp_path: Path) -> None:
    skip_with_another("tokenizers")
    made = made_again("orca_plugins.tokenizers.train_bpe", tmp_path)
    assert made == (FOLDER / "tokenizer.json").read_bytes()


def test_there_are_some_thousands_of_tasks_in_twelve_families_and_little_room() -> None:
    found = rows()
    assert Counter(row["task"] for row in found) == dict.fromkeys({row["task"] for row in found}, 500)
    assert len({row["task"] for row in found}) == 12
    assert len({row["id"] for row in found}) == 6000
    assert all(set(row) == {"id", "task", "question", "answer"} and all(row.values()) for row in found)
    assert (FOLDER / "tasks.jsonl.gz").stat().st_size < 1_000_000


def test_the_fast_tokenizer_agrees_with_the_reference_on_every_text() -> None:
    import gigatoken
    from tokenizers import Tokenizer

    odd = ["", "  a  b\n\n\nc\t\t x", "don't DON'T 12345 ²½", "漢字👩‍🔬 é́", "\u2028 \x00\r\n "]
    content = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    del content["added_tokens"][:]
    all_texts = [*texts(), *odd, "<|im_start|>user<|im_end|>"]
    reference = Tokenizer.from_str(json.dumps(content))
    wanted = [one.ids for one in reference.encode_batch(all_texts, add_special_tokens=False)]
    fast = gigatoken.Tokenizer.from_json(json.dumps(content)).encode_batch(all_texts)
    assert [np.asarray(ids).tolist() for ids in fast] == wanted


def test_the_tokenizer_gives_every_text_back() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    for text in texts():
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_tokenizer_is_small_and_has_the_control_tokens_of_chatml() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 4096
    assert [tokenizer.token_to_id(token) for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("module", "arguments", "sentence"),
    [
        ("sources.generate_tasks", ["--tasks", "acre", "--rows-per-task", "1"], '"acre" cannot be used'),
        ("sources.generate_tasks", ["--tasks", "no_such", "--rows-per-task", "1"], 'no family "no_such"'),
        ("tokenizers.train_bpe", ["--texts", "nowhere.jsonl", "--vocabulary", "300"], "nowhere.jsonl"),
    ],
)
def test_a_mistake_is_a_sentence_and_exit_status_2(
    module: str, arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    if "no_such" in arguments:
        skip_with_another("reasoning-gym")
    command = [sys.executable, "-m", f"orca_plugins.{module}", *arguments, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
