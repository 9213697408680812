"""What all tests share: where the real data lies, and Megatron as a witness."""

import gc
import importlib
import os
import shutil
import signal
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, settings

from orca_plugins.tokenizers.hf.hf_encoder import HFEncoder
from orca_plugins.tokenizers.hf.kind import HF
from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.markup import Markup
from orca_recipes.run.pinning import template, template_trial
from orca_recipes.run.pinning.tokenizer import Resolving
from orca_recipes.run.work.limited import Limited
from orca_recipes.run.work.student import TOKENIZER_FILES
from tests.servers.objects import CREDENTIALS, new_bucket, serving_objects

# The same examples on every run, and no clock: the suite says what holds, the campaigns look for what does not.
# How fast inputs are made is the machine's matter, as a deadline is.
settings.register_profile("suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# What tests start reads what the first of them has compiled, as an installed command does: else a third of each start
# is compiling.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_MEMORY = Path("/dev/shm")
_ENOUGH = 12 << 30
_LOADED = 6
_ALIKE = {
    "tests/plugins/test_wrong_settings.py": "tests/plugins/test_trainer_exports.py",
    "tests/test_revisions.py": "tests/test_house.py",
}
"""Modules that are run where another is: they share a cache of their process."""
LEFT_OUT = pytest.StashKey[int]()
"""How many tests were left out because they are slow."""
if "TMPDIR" not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ENOUGH:
    # A build waits fifty times until its files are on the disk, and no test takes the machine's power away.
    tempfile.tempdir = os.environ["TMPDIR"] = str(_MEMORY)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has its background jobs ignore Ctrl-C, and so would everything that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the slow tests be asked for."""
    parser.addoption("--slow", action="store_true", help="run the tests that are marked slow, and no others")
    parser.addoption("--all", action="store_true", help="run the tests that are marked slow beside the others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked slow, or all else; begin with the trainer's modules, the longest: at the end no process
    waits for the other."""
    items.sort(key=lambda item: "train" not in item.path.parts)
    only = config.getoption("--slow")
    if config.getoption("--all") or (not only and all("::" in word for word in config.args)):
        return
    left_out = [item for item in items if (item.get_closest_marker("slow") is None) == only]
    items[:] = [item for item in items if (item.get_closest_marker("slow") is None) != only]
    config.hook.pytest_deselected(items=left_out)
    config.stash[LEFT_OUT] = 0 if only else len(left_out)


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over what is imported by now, a million objects, here and in forks."""
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Have a process of xdist tell how many slow tests it left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Hear it from any of them: all have collected the same tests."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many slow tests were left out, and how they are run."""
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"{left_out} slow {'test' if left_out == 1 else 'tests'} left out: pytest --slow")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Have one process run all tests that share what is dear to make: those of a module, those of the documents, and
    those that unpack the same wheels.

    Not by marks of groups, which xdist 3.8 writes into names that pytest 9.1 and newer do not read.
    """
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder, _, _ = (path := nodeid.partition("::")[0]).rpartition("/")
            return folder if folder.endswith("/docs") else _ALIKE.get(path, path)

    return ByModule(config, log)


@pytest.fixture(autouse=True)
def safe_path_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that a test calls in its own process tells children not to look for modules beside them, and ends
    with that process: the tests that follow are not its children."""
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.delenv("PYTHONSAFEPATH")


@pytest.fixture(autouse=True)
def cache_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What archives hold is unpacked into a cache that the next test does not see."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def verdicts() -> dict[tuple[object, ...], str]:
    """What trials of templates found, by markup and tokenizer."""
    return {}


@pytest.fixture(autouse=True)
def templates_tried_once(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, verdicts: dict[tuple[object, ...], str]
) -> None:
    """Builds of one process share the trials of our own tokenizers, a third of what a small build takes; the tests of
    the trial try each time."""

    def conform(*, markup: Markup, encoder: Encoder, tokenizer: Path) -> str:
        digests = [blake3(file.read_bytes()).digest() for file in sorted(tokenizer.parent.iterdir()) if file.is_file()]
        key = (repr(markup), repr(encoder.vocabulary), *digests)
        if key not in verdicts or type(encoder) is not HFEncoder:
            verdicts[key] = template_trial.conform(markup=markup, encoder=encoder, tokenizer=tokenizer)
        return verdicts[key]

    if request.path.parent.name != "pinning":
        monkeypatch.setattr(template, "conform", conform)


@pytest.fixture(scope="session")
def loaded() -> dict[tuple[bytes, ...], HFEncoder]:
    """Tokenizers that were loaded, the latest few, by their files."""
    return {}


@pytest.fixture(autouse=True)
def tokenizers_loaded_once(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, loaded: dict[tuple[bytes, ...], HFEncoder]
) -> None:
    """Builds of one process share equal tokenizers, as the stages of one build do: loading one is a third of what a
    small build takes. The tests of tokenizers load each time."""
    opened = HF.open

    def open_once(kind: HF, *, folder: Path) -> HFEncoder:
        key = tuple(blake3((folder / name).read_bytes()).digest() for name in TOKENIZER_FILES)
        loaded[key] = encoder = loaded.pop(key, None) or opened(kind, folder=folder)
        if len(loaded) > _LOADED:
            del loaded[next(iter(loaded))]
        return encoder

    if not {"plugins", "pinning", "contract"} & {*request.path.parts}:
        monkeypatch.setattr(HF, "open", open_once)


@pytest.fixture(scope="session")
def seen_to_load() -> set[tuple[str, ...]]:
    """What was seen to load in a process with limits."""
    return set()


@pytest.fixture(autouse=True)
def limits_tried_once(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, seen_to_load: set[tuple[str, ...]]
) -> None:
    """A tokenizer of ours that a process with limits was seen to load, and a template that it has tried with it, are
    loaded by the process of the tests from then on, which shares them. The tests of limits and trials try each time."""
    do = Limited.do

    def do_once(limited: Limited, function: Any, task: Any, **told: Any) -> Any:
        if isinstance(task, Resolving):
            key: tuple[str, ...] = (repr(task.tokenizer), *(found.pin.digest for found in task.pinned))
        elif isinstance(task, template.Dissecting):
            files = (blake3((task.resolved / name).read_bytes()).hexdigest() for name in TOKENIZER_FILES)
            key = (repr(task.template), *files)
        else:
            return do(limited, function, task, **told)
        if key in seen_to_load:
            return function(task)
        found = do(limited, function, task, **told)
        seen_to_load.add(key)
        return found

    if not {"work", "pinning"} & {*request.path.parts}:
        monkeypatch.setattr(Limited, "do", do_once)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared real data; tests that need it are skipped where it is absent."""
    place = Path(os.environ.get("ORCA_SHARED", Path(__file__).parents[2] / "shared"))
    if not (place / "data").is_dir():
        pytest.skip(f"no shared data at {place} (set ORCA_SHARED)")
    return place


@pytest.fixture(scope="session")
def objects_server() -> Iterator[str]:
    """The address of an S3 server on loopback."""
    with serving_objects() as address:
        yield address


@pytest.fixture
def bucket(objects_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a new bucket; the environment names its server and credentials."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": objects_server}.items():
        monkeypatch.setenv(name, value)
    return new_bucket(objects_server)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with a build of format 1, its recipe, lock, store and bought answers; see tests/old/README.md."""
    folder = tmp_path / "old"
    with tarfile.open(Path(__file__).parent / "old" / "format-1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def indexed_dataset() -> ModuleType:
    """Megatron's own reader and writer of pairs; torch warns of itself while it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("megatron.core.datasets.indexed_dataset")
