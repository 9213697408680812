"""Engine `ray`: the parts of stages, run by a real cluster of three nodes on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from orca_plugins.engines._ray_link import _difference
from orca_plugins.engines.ray import Ray
from orca_recipes.contract.testing import check_kind
from orca_recipes.errors import EngineError, Failure, SourceError
from tests.campaign.ray_nodes import RayNodes
from tests.patience import SECONDS, awaited
from tests.servers.objects import CREDENTIALS, new_bucket, serving_objects

HOME = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, str]]:
    """A bucket of a real S3 server: what the environment must hold to reach it, and its name as BUCKET."""
    with serving_objects() as address:
        yield {**CREDENTIALS, "AWS_ENDPOINT_URL": address, "BUCKET": new_bucket(address)}


@pytest.fixture(scope="module")
def nodes(bucket: dict[str, str]) -> Iterator[RayNodes]:
    """One cluster for all tests: it takes ten seconds to start."""
    with RayNodes(3, environment=bucket) as found:
        yield found


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tasks of engine_tasks.py, importable by nodes too."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return pytest.importorskip("engine_tasks")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def engine(nodes: RayNodes, said: list[str]) -> Iterator[Ray]:
    found = Ray(address=nodes.address)
    found.report_to(say=said.append)
    yield found
    found.close()


def test_tasks_are_answered_with_their_positions_and_their_faults_name_the_node(
    engine: Ray, work: ModuleType, said: list[str]
) -> None:
    found = engine.map(function=work.squared, tasks=[3, 1, 2], workers=2)
    assert sorted(found) == [(0, 9), (1, 1), (2, 4)]
    with pytest.raises(SourceError, match=r"data\.jsonl: cannot be read") as raised:
        list(engine.map(function=work.fail_on_three, tasks=range(6), workers=2))
    assert raised.value.__notes__[0].startswith(f"on the node {socket.gethostname()}")
    with pytest.raises(RuntimeError, match="OddError: code 7"):
        list(engine.map(function=work.fail_oddly, tasks=[0], workers=2))
    assert engine.reach().nodes == 3
    assert engine.reach().retried == 0
    assert said == []


def test_maps_of_several_threads_share_the_cluster(engine: Ray, work: ModuleType) -> None:
    found: dict[int, list[tuple[int, int]]] = {}

    def mapped(start: int) -> None:
        found[start] = sorted(engine.map(function=work.squared, tasks=range(start, start + 40), workers=2))

    threads = [threading.Thread(target=mapped, args=(start,)) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert found == {start: [(at, (start + at) ** 2) for at in range(40)] for start in (0, 100, 200)}


def test_a_part_whose_process_is_killed_runs_again_and_is_counted(
    engine: Ray, work: ModuleType, said: list[str], tmp_path: Path
) -> None:
    tasks = [tmp_path / str(number) for number in range(3)]
    assert len(list(engine.map(function=work.die_the_first_time, tasks=tasks, workers=2))) == 3
    assert engine.reach().retried >= 3
    assert all("was lost" in sentence and "it runs again" in sentence for sentence in said)


def test_a_part_that_kills_every_process_is_a_failure_that_says_so(engine: Ray, work: ModuleType) -> None:
    with pytest.raises(Failure, match=r"part 2 of 2 was lost 4 times, at last because .*run the same command again"):
        list(engine.map(function=work.die, tasks=[0, 1], workers=2))


def test_a_cluster_that_the_user_never_allowed_gets_nothing(tmp_path: Path) -> None:
    words = ["build", "recipes/quickstart.toml", "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    cluster = ["--set", "engine.kind=ray", "--set", "engine.address=ray://198.51.100.7:10001"]
    done = subprocess.run(
        [sys.executable, "-m", "orca_recipes.cli", *words, *cluster],
        cwd=HOME,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | {"ORCA_CONFIG": str(tmp_path / "config")},
    )
    assert done.returncode == 2
    assert "engine sends requests to http://198.51.100.7:10001 (no key), which you have never allowed" in done.stderr
    assert "orca-recipe trust add http://198.51.100.7:10001 -" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("store", ["a folder", "an address"])
def test_a_build_gives_the_bytes_of_the_local_engine(
    nodes: RayNodes, bucket: dict[str, str], tmp_path: Path, store: str
) -> None:
    """Over an address each node works in a cache of its own, and sees no folder of the command."""
    place = str(tmp_path / "store") if store == "a folder" else f"s3://{bucket['BUCKET']}/store"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "orca_recipes.cli", "build", "recipes/quickstart.toml", "--json"),
            *("--store", place, "--out", str(tmp_path / "out")),
            *("--set", "engine.kind=ray", "--set", f"engine.address={nodes.address}"),
        ],
        cwd=HOME,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=os.environ | bucket | {"ORCA_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert f'data = "{told["digest"]}"' in (HOME / "recipes" / "quickstart.lock").read_text(encoding="utf-8")
    assert told["engine"] == {"kind": "ray", "nodes": 3, "parts": told["engine"]["parts"], "retried": 0}
    assert told["engine"]["parts"] >= 4


@pytest.mark.slow
def test_the_parts_of_a_node_that_dies_run_elsewhere(
    engine: Ray, nodes: RayNodes, work: ModuleType, said: list[str], tmp_path: Path
) -> None:
    results = engine.map(function=work.report_and_wait, tasks=[(tmp_path, at) for at in range(6)], workers=3)
    found: list[tuple[int, int]] = []
    mapping = threading.Thread(target=lambda: found.extend(results))
    mapping.start()
    awaited(lambda: len(list(tmp_path.glob("*.begun"))) >= 3)  # one on each node
    nodes.kill()
    awaited(lambda: engine.reach().retried)
    (tmp_path / "go").touch()
    mapping.join(SECONDS)
    nodes.add()
    assert sorted(found) == [(at, at) for at in range(6)]


ENDED = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
import engine_tasks
from orca_plugins.engines.ray import Ray
if __name__ == "__main__":
    engine = Ray(address=sys.argv[3])
    folder = pathlib.Path(sys.argv[2])
    try:
        list(engine.map(function=engine_tasks.report_and_sleep, tasks=[(folder, 600.0)] * 4, workers=2))
    except KeyboardInterrupt:
        print("interrupted")
    finally:
        engine.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_work_ends_with_the_build_however_that_ends(nodes: RayNodes, tmp_path: Path, how: signal.Signals) -> None:
    arguments: list[Any] = [sys.executable, "-c", ENDED, Path(__file__).parent, tmp_path, nodes.address]
    build = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    awaited(lambda: len(list(tmp_path.glob("*.begun"))) >= 2)
    build.send_signal(how)
    out, err = build.communicate(timeout=SECONDS)
    assert (out, err) == ("interrupted\n" if how == signal.SIGINT else "", "")
    begun = [int(path.stem) for path in tmp_path.glob("*.begun")]
    assert awaited(lambda: not any(_is_alive(pid) for pid in begun))


def _is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(") ")[2][0] != "Z"


def test_a_node_that_lacks_a_plugin_is_named_before_any_work(
    nodes: RayNodes, work: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "stranger-1.0.dist-info"
    held.mkdir()
    (held / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (held / "entry_points.txt").write_text("[orca_recipes]\nstranger = stranger\n")
    (tmp_path / "stranger.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    engine = Ray(address=nodes.address)
    try:
        with pytest.raises(EngineError) as raised:
            list(engine.map(function=work.squared, tasks=[1], workers=1))
    finally:
        engine.close()
    assert str(raised.value).startswith('engine "ray": the node ')
    assert str(raised.value).endswith("lacks stranger, of which 1.0 is here: pip install stranger==1.0 there")


def test_an_address_where_nothing_listens_is_said(work: ModuleType) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        engine = Ray(address=address)
        try:
            with pytest.raises(EngineError, match=f"nothing listens at {address} .*leave `address` out"):
                list(engine.map(function=work.squared, tasks=[1], workers=1))
        finally:
            engine.close()


@pytest.mark.parametrize(
    ("what", "here", "there", "sentence"),
    [
        (
            "Python",
            "3.11.7",
            "3.11.9",
            "the node n2 runs Python 3.11.9, and this is 3.11.7: have the same on all nodes",
        ),
        ("polars", "2.1.0", "2.0.0", "the node n2 has polars 2.0.0, and 2.1.0 is here: have the same on all nodes"),
        (
            *("orca-recipes", "0.1.0 a b", "0.1.0 a c"),
            "the node n2 has orca-recipes 0.1.0 with other files than here: install the same on all nodes",
        ),
    ],
)
def test_a_node_that_differs_is_named_with_both_versions(what: str, here: str, there: str, sentence: str) -> None:
    assert _difference(what, "n2", here, there) == sentence


def test_nodes_and_an_address_are_not_said_together() -> None:
    with pytest.raises(ValueError, match="nodes is for a cluster of this machine"):
        Ray(address="auto", nodes=3)


@pytest.mark.parametrize("address", ["ray://me:hush@127.0.0.1:9", "me:hu/sh@127.0.0.1:9"])
def test_an_address_with_a_password_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="no user and no password") as told:
        Ray(address=address)
    assert "me:" not in told.value.errors()[0]["msg"]


def test_an_engine_is_copied_and_compared_by_its_options(engine: Ray, work: ModuleType) -> None:
    check_kind(engine)
    assert engine == Ray(address=engine.address)
    assert os.environ.get("RAY_AUTH_MODE") is None
