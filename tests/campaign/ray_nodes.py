"""A Ray cluster of several nodes of this machine in a process of its own, whose nodes can be killed and replaced.

What builds join it by its address, as they would join one of other machines, and can be killed themselves.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Self

from orca_recipes import trust

_TRIES = 3
"""How often a node, or the whole cluster, is started before that counts as a fault."""
_SERVING = """
import itertools, json, os, signal, sys
from contextlib import suppress
from pathlib import Path
from ray.cluster_utils import Cluster
from orca_plugins.engines._ray_host import end_session

numbers, apart = itertools.count(), json.loads(sys.argv[4])

def family(pid):
    found = [pid]
    for one in found:
        for path in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, path.read_text().split())
    return found

def add(wait=True):
    number = next(numbers)
    own = {"ORCA_CACHE": f"{os.environ['RAY_TMPDIR']}/cache-{number}"} | (apart[number] if apart else {})
    name = {"node_name": f"node-{number + 1}"} if apart else {}
    cluster.add_node(wait=wait, num_cpus=int(sys.argv[2]), object_store_memory=100 << 20, include_dashboard=False,
        include_log_monitor=False, env_vars=own, **name)

def add_at_last(tries):
    before = set(cluster.worker_nodes)
    try:
        add()
    except Exception:
        for node in set(cluster.worker_nodes) - before:
            with suppress(Exception):
                cluster.remove_node(node, allow_graceful=False)
        print("failed", file=sys.__stderr__, flush=True)
        if tries == 1:
            raise
        add_at_last(tries - 1)

cluster = Cluster()
for number in range(int(sys.argv[1])):
    add(wait=number == 0)
cluster.wait_for_nodes()
print(cluster.address, file=sys.__stderr__, flush=True)
for line in sys.stdin:
    if line == "kill\\n":
        node = sorted(cluster.worker_nodes, key=id)[0]
        (raylet,) = node.all_processes["raylet"]
        for pid in family(raylet.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        cluster.remove_node(node, allow_graceful=False)
    elif line == "add\\n":
        add_at_last(int(sys.argv[3]))
    print("done", file=sys.__stderr__, flush=True)
end_session(os.getpid())
os._exit(0)
"""


class RayNodes(AbstractContextManager["RayNodes"]):
    """Nodes of `cpus` each, with caches of their own; the first holds the cluster together and cannot be killed.

    As long as they run, a list of what recipes may send (ORCA_CONFIG) allows builds to join them.

    Attributes:
        address: what an engine joins it by. failed_starts: of nodes and of the whole cluster, each tried again.
    """

    def __init__(
        self,
        nodes: int,
        *,
        cpus: int = 1,
        environment: Mapping[str, str] | None = None,
        apart: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """Start the cluster.

        Args:
            environment: of all nodes. apart: of each node, those that join later included; nodes then have names, too.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True)
        quiet = {"RAY_TMPDIR": self._folder.name, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        quiet |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "PYTHONSAFEPATH": "1", "RAY_worker_niceness": "0"}
        command = [sys.executable, "-W", "ignore", "-c", _SERVING, str(nodes), str(cpus), str(_TRIES)]
        command.append(json.dumps(list(map(dict, apart))))
        self.failed_starts = 0
        self.address = self._begun(command, os.environ | quiet | dict(environment or {}))
        self._config = os.environ.get("ORCA_CONFIG")
        os.environ["ORCA_CONFIG"] = f"{self._folder.name}/config"
        trust.add(trust.destination(f"http://{self.address}", "-"))

    def kill(self) -> None:
        """Kill a node as a power cut does: its raylet and all of its workers at one moment."""
        self._tell("kill")

    def add(self) -> None:
        """Have a new node join."""
        self._tell("add")

    @property
    def pid(self) -> int:
        """The process whose descendants the nodes are."""
        return self._process.pid

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._config is None:
            del os.environ["ORCA_CONFIG"]
        else:
            os.environ["ORCA_CONFIG"] = self._config
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()
        self._process.stderr.close()  # type: ignore[union-attr]
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def _begun(self, command: list[str], environment: Mapping[str, str]) -> str:
        """Start the cluster, several times if need be: a machine that is busy may keep a node from starting in time.

        Returns: its address.
        """
        for tries_left in reversed(range(_TRIES)):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
                start_new_session=True,
            )
            try:
                return self._heard()
            except RuntimeError:
                self._process.communicate()
                # What it started is of its session, and would keep its ports.
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self.failed_starts += 1
                if not tries_left:
                    raise
        raise AssertionError("a last try returns or raises")

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        assert self._heard() == "done"

    def _heard(self) -> str:
        """The next line that is of ours, among those that Ray logs."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.failed_starts += line == "failed\n"
            if line.strip() == "done" or line.strip().rpartition(":")[2].isdigit():
                return line.strip()
        raise RuntimeError("the cluster did not start")
