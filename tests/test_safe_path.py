"""Modules that lie in the current folder run in no process that a command starts."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

from orca_plugins.engines.local import Local
from orca_plugins.sources.files.kind import Files
from orca_plugins.teachers.llamacpp.server_process import serving
from orca_plugins.teachers.openai.endpoint import Endpoint
from orca_plugins.teachers.openai.http import Reply
from orca_plugins.teachers.openai.http_processes import ProcessWire
from orca_recipes.contract.testing import check_source
from orca_recipes.errors import TeacherError
from tests.plugins.engine_tasks import environment, squared
from tests.servers.running import running
from tests.servers.stub import Stub

HOME = Path(__file__).parents[1]
PLANTED = """\
import os

with open({ran!r}, "a", encoding="utf-8") as ran:
    ran.write(__name__ + chr(10))
raise SystemExit("a module beside the recipe was run")
"""
OURS = {"orca_plugins", "orca_recipes", "tests"}


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: in it lies a module by the name of everything that can be imported; none may have run."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    folder, ran = tmp_path / "beside", tmp_path / "ran"
    folder.mkdir()
    installed = {name for name in metadata.packages_distributions() if name.isidentifier()} - OURS
    for name in sorted(installed | set(sys.stdlib_module_names)):
        (folder / f"{name}.py").write_text(PLANTED.format(ran=str(ran)), encoding="utf-8")
    monkeypatch.chdir(folder)
    yield folder
    assert not ran.exists(), f"these ran: {sorted(set(ran.read_text(encoding='utf-8').split()))}"


def command(*words: str, timeout: int = 300, **environment: str) -> str:
    """What a command prints that begins as words say and ends well."""
    done = subprocess.run(
        words,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def spare_what_python_needs(begins: list[str]) -> None:
    """`python -m` imports a few modules before the first of ours: only PYTHONSAFEPATH=1 or -P keeps those out."""
    if "-m" in begins:
        needed = "import __future__, runpy, sys; print(*sys.modules)"
        for name in {found.partition(".")[0] for found in command(sys.executable, "-P", "-c", needed).split()}:
            Path(f"{name}.py").unlink(missing_ok=True)


def quickstart(folder: Path = Path()) -> str:
    """A copy of the quickstart in a folder, because its lock is written beside it."""
    text = (HOME / "recipes" / "quickstart.toml").read_text(encoding="utf-8")
    recipe = folder / "recipe.toml"
    recipe.write_text(text.replace('"quickstart/', f'"{(HOME / "recipes" / "quickstart").as_posix()}/'))
    return str(recipe)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small build of the quickstart, made where no module lies."""
    folder = tmp_path_factory.mktemp("small")
    places = ("--out", str(folder / "built"), "--store", str(folder / "store"))
    command(script("orca-recipe"), "build", quickstart(folder), "--limit", "60", *places)
    return folder / "built"


def test_planted_modules_do_run_where_python_is_asked_to_look_there(tmp_path: Path):
    (tmp_path / "socket.py").write_text(PLANTED.format(ran=str(tmp_path / "ran")), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-c", "import socket"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
        capture_output=True,
    )
    assert (tmp_path / "ran").read_text(encoding="utf-8") == "socket\n"


def test_workers_of_an_engine_and_their_tracker(beside: Path):
    engine = Local()
    try:
        assert sorted(engine.map(function=squared, tasks=[1, 2, 3], workers=2)) == [(0, 1), (1, 4), (2, 9)]
    finally:
        engine.close()
    assert "PYTHONSAFEPATH" not in os.environ


def test_workers_still_look_where_the_user_says(beside: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", "/where/the/user/says")
    engine = Local()
    try:
        found = dict(engine.map(function=environment, tasks=["PYTHONPATH", "PYTHONSAFEPATH"], workers=2))
    finally:
        engine.close()
    assert found == {0: "/where/the/user/says", 1: "1"}


@pytest.mark.parametrize(
    "begins",
    [
        [script("orca-recipe")],
        pytest.param([sys.executable, "-m", "orca_recipes.cli"], marks=pytest.mark.slow),
    ],
)
def test_a_build_with_workers(beside: Path, begins: list[str]):
    spare_what_python_needs(begins)
    # So many shards are worth workers.
    words = ("--workers", "2", "--set", "output.shard_tokens=50000")
    told = command(*begins, "build", quickstart(), *words, "--out", "built")
    assert "built, data blake2b:" in told


def test_processes_that_carry_questions_to_a_server(beside: Path):
    async def ask(base_url: str) -> object:
        async with ProcessWire([Endpoint(base_url=base_url)], timeout_seconds=20, processes=1) as wire:
            return await wire.chat(0, {"model": "m", "messages": [{"role": "user", "content": "Why?"}]})

    with running(Stub()) as base_url:
        assert isinstance(asyncio.run(ask(base_url)), Reply)


@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="needs xllamacpp")
def test_a_process_that_serves_a_model(beside: Path):
    (beside / "no.gguf").write_bytes(b"no model")

    async def load() -> None:
        async with serving(beside / "no.gguf", {"alias": "m", "context_tokens": 64, "threads": 1}):
            raise AssertionError("it serves what is no model")

    with pytest.raises(TeacherError, match="does not load"):
        asyncio.run(load())


@pytest.mark.parametrize(
    ("begins", "ranks"),
    [
        ([script("orca-recipe"), "train"], "1"),
        pytest.param([sys.executable, "-m", "orca_recipes.cli", "train"], "2", marks=pytest.mark.slow),
        pytest.param(
            [sys.executable, "-P", "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "orca_recipes.train"],
            "2",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["orca-recipe", "python -m", "torchrun"],
)
def test_ranks_of_a_training_and_the_writers_of_its_checkpoint(
    beside: Path, built: Path, begins: list[str], ranks: str
):
    words = ("--tensor-parallel", ranks, "--steps", "1", "--out", "run", "--device", "cpu")
    spare_what_python_needs(begins)
    command(*begins, str(built), *words)
    assert list((beside / "run" / "checkpoints").glob("step-*"))


def test_a_process_that_reads_a_source_for_the_contract(beside: Path, tmp_path: Path):
    rows = "".join(json.dumps({"prompt": f"{n}?", "completion": f"{n}"}) + "\n" for n in range(50))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    columns = {"question": "prompt", "reference": "completion"}
    check_source(Files.model_validate({"path": tmp_path / "rows.jsonl", "columns": columns}), tmp_path)
