"""A planted key: after failures of each kind it stands nowhere."""

import ast
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from tests.servers.collecting import Collected, collected, requests_of, teacher
from tests.servers.faults import Faults
from tests.servers.running import HOME, running
from tests.servers.stub import Stub

PLANTED = "sk-planted-0123456789abcdefghij"
FAULTS = (
    "401",
    "429",
    "500",
    "503",
    "hang",
    "cut",
    "cut_at_once",
    "not_json",
    "truncated",
    "quota",
    "unknown_model",
    "context",
    "policy",
    "bad_option",
    "empty_choices",
    "null_content",
    "refused connection",
    "echo",
)


class Echoing(Stub):
    """A server that says the key that it was sent in its answers."""

    def completion(self, body: object) -> dict[str, object]:
        good = super().completion(body)  # type: ignore[arg-type]
        good["choices"][0]["message"]["content"] = f"Your key is {PLANTED}."
        return good


def after(fault: str, mode: str, folder: Path) -> Collected:
    """Collect from a server with this fault on every try."""
    shares = {} if fault in ("401", "refused connection", "echo") else {fault: 1.0}
    stub = Echoing() if fault == "echo" else Stub(faults=Faults(shares, most=3))
    stub.key = "another" if fault == "401" else PLANTED
    with running(stub) as url:
        base_url = "http://127.0.0.1:9/v1" if fault == "refused connection" else url
        asked = teacher(base_url, key_env="PLANTED", concurrency=2, timeout_seconds=0.3, mode=mode)
        return collected(asked, requests_of(asked, ["a", "b"]), notes=folder)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_key_is_nowhere_after_a_failure(
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import orca_plugins.teachers.openai.live as live

    monkeypatch.setenv("PLANTED", PLANTED)
    monkeypatch.setattr(live, "FIRST_PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(live, "PATIENCE_SECONDS", 2.0)
    monkeypatch.setattr(live, "_LONGEST_DELAY_SECONDS", 0.1)
    caplog.set_level(logging.DEBUG)
    found = after(fault, "live", tmp_path)
    words = [repr(found), caplog.text, *capfd.readouterr()]
    if found.fault is not None:
        words += traceback.format_exception(found.fault)
        words += [repr(found.fault.__cause__), repr(found.fault.__context__)]
    assert not [text for text in words if PLANTED in text or PLANTED[3:20] in text]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and PLANTED.encode() in path.read_bytes()]


@pytest.mark.parametrize("fault", ["401", "echo", "500"])
def test_the_key_is_nowhere_after_a_failure_of_a_batch(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PLANTED", PLANTED)
    caplog.set_level(logging.DEBUG)
    found = after(fault, "batch", tmp_path)
    assert found.fault is not None or found.answers
    words = [repr(found), caplog.text, *(traceback.format_exception(found.fault) if found.fault else [])]
    assert not [text for text in words if PLANTED in text]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and PLANTED.encode() in path.read_bytes()]


def test_a_fault_nobody_foresaw_shows_no_key_in_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", PLANTED)

    async def keep(_: object) -> None:
        raise RuntimeError("unforeseen")

    with running(Stub(key=PLANTED)) as url:
        found = collected(asked := teacher(url, key_env="PLANTED"), requests_of(asked, ["a"]), keep=keep)
    assert isinstance(found.fault, RuntimeError)
    assert PLANTED not in "".join(traceback.format_exception(found.fault))


def test_a_teacher_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", PLANTED)
    asked = teacher("http://127.0.0.1:9/v1", key_env="PLANTED")
    assert PLANTED not in f"{asked!r} {asked.model_dump_json()} {asked.identity()} {asked.sampling()}"


def test_the_openai_package_logs_no_key_when_it_is_told_to_log(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from tests.servers.collecting import collected, requests_of, teacher\n"
        "asked = teacher(sys.argv[1], key_env='PLANTED')\n"
        "found = collected(asked, requests_of(asked, ['a', 'b']))\n"
        "print(found)\n"
    )
    with running(Stub(key="another")) as url:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", script, url],
            env={**os.environ, "PLANTED": PLANTED, "OPENAI_LOG": "debug"},
            capture_output=True,
            text=True,
            cwd=HOME,
        )
    assert "the key is refused" in done.stdout
    assert PLANTED not in done.stdout + done.stderr


def test_no_module_of_the_teacher_prints_or_logs() -> None:
    for path in (HOME / "plugins" / "orca_plugins" / "teachers").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            assert name != "print", path
            assert not (isinstance(node, ast.Import) and any(alias.name == "logging" for alias in node.names)), path
