"""Engine `ray` on clusters with one node whose processes find other plugins, or another Python, than the build's."""

import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from orca_plugins.engines.ray import Ray
from orca_recipes.errors import EngineError
from tests.campaign.ray_nodes import RayNodes
from tests.patience import SECONDS, awaited

HOME = Path(__file__).parents[2]
LACKS = 'engine "ray": the node node-2 lacks stranger, of which 1.0 is here: pip install stranger==1.0 there'
ANOTHER_PYTHON = "import platform\nplatform.python_version = lambda: '3.11.99'\n"


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders for the path of a process: two plugins, and another version of one of them."""
    root = tmp_path_factory.mktemp("plugins")
    for folder, name, version in (
        ("stranger", "stranger", "1.0"),
        ("guest", "guest", "1.0"),
        ("later", "guest", "2.0"),
    ):
        held = root / folder / f"{name}-{version}.dist-info"
        held.mkdir(parents=True)
        (held / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (held / "entry_points.txt").write_text(f"[orca_recipes]\n{name} = {name}\n")
        (root / folder / f"{name}.py").touch()
    return root


@pytest.fixture(scope="module")
def nodes(plugins: Path) -> Iterator[RayNodes]:
    """The first node has both plugins as here; the second lacks one, and has the other in another version."""
    first = {"PYTHONPATH": f"{plugins}/stranger{os.pathsep}{plugins}/guest"}
    with RayNodes(2, apart=[first, {"PYTHONPATH": f"{plugins}/later"}]) as found:
        yield found


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return pytest.importorskip("engine_tasks")


@pytest.mark.parametrize(
    ("plugin", "told"),
    [
        ("stranger", LACKS),
        ("guest", 'engine "ray": the node node-2 has guest 2.0, and 1.0 is here: have the same on all nodes'),
    ],
)
def test_the_one_node_whose_plugins_differ_is_named_before_any_part_runs(
    nodes: RayNodes,
    plugins: Path,
    work: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plugin: str,
    told: str,
) -> None:
    monkeypatch.syspath_prepend(plugins / plugin)
    engine = Ray(address=nodes.address)
    try:
        with pytest.raises(EngineError) as raised:
            list(engine.map(function=work.report_and_sleep, tasks=[(tmp_path, 0.0)] * 4, workers=2))
    finally:
        engine.close()
    assert str(raised.value) == told
    assert list(tmp_path.iterdir()) == []


def test_a_build_whose_plugin_a_node_lacks_says_so_and_writes_nothing(
    nodes: RayNodes, plugins: Path, tmp_path: Path
) -> None:
    words = ["build", "recipes/quickstart.toml", "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "orca_recipes.cli", *words),
            *("--set", "engine.kind=ray", "--set", f"engine.address={nodes.address}"),
        ],
        cwd=HOME,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | {"PYTHONPATH": str(plugins / "stranger")},
    )
    assert (done.returncode, done.stderr) == (2, f"{LACKS}\n")
    assert not (tmp_path / "out").exists()


def test_a_node_of_another_python_that_joins_a_build_is_named_by_its_first_part(
    work: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(ANOTHER_PYTHON)
    begun = tmp_path / "begun"
    begun.mkdir()
    with RayNodes(1, apart=[{}, {"PYTHONPATH": str(tmp_path)}]) as nodes:
        engine = Ray(address=nodes.address, parts_in_flight=2)
        raised: list[BaseException] = []

        def mapped() -> None:
            try:
                list(engine.map(function=work.report_and_wait, tasks=[(begun, at) for at in range(2)], workers=1))
            except EngineError as error:
                raised.append(error)

        mapping = threading.Thread(target=mapped)
        mapping.start()
        try:
            awaited(lambda: list(begun.iterdir()))  # the first part holds the only core until the second has ended
            nodes.add()
            awaited(lambda: raised)
        finally:
            (begun / "go").touch()
            mapping.join(SECONDS)
            engine.close()
    told = f"the node node-2 runs Python 3.11.99, and this is {platform.python_version()}: have the same on all nodes"
    assert [str(error) for error in raised] == [f'engine "ray": {told}']
