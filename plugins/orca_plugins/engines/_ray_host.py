"""The process that speaks to Ray on behalf of a build.

Ray's driver takes signals over, keeps threads and settings of the environment, and ends its process where a cluster
goes away. Here it may: the build hears of it as of any other fault. This process ends when the build does, however that
ends, and with it everything that the build has running on the cluster.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orca_plugins.engines import _node_facts
from orca_recipes.counted import counted

_LISTENING_SECONDS = 5.0
"""How long is waited for an address to take a connection."""
_LEAVING_SECONDS = 2.0
"""How long Ray may take to say goodbye: it waits for parts that run, and a cluster sees whom it lost anyway."""
_LOOK_SECONDS = 2.0
"""How often nodes are looked at."""
_STORE_BYTES = 100 << 20
"""Of shared memory for each node of this machine: parts hand on files, and no objects."""


@dataclass(frozen=True)
class Wanted:
    """A build's requirements on a cluster.

    Attributes:
        address: of a cluster that runs; None for one of this machine, of `nodes` nodes with `node_cpus` each.
        folder: where a cluster of this machine keeps its files.
        terms: as for `serving`.
    """

    address: str | None
    nodes: int
    node_cpus: int
    folder: str
    part_cpus: float
    part_bytes: int | None
    terms: Mapping[str, Any]


@dataclass(frozen=True)
class Joined:
    """The cluster answers; its nodes are being looked at, which takes as long as their processes take to start."""


@dataclass(frozen=True)
class Ready:
    """The cluster is there: name of each node by id, what is installed on it, and how many parts run at once."""

    names: Mapping[str, str]
    facts: Mapping[str, Mapping[str, str]]
    slots: int


@dataclass(frozen=True)
class Refused:
    """The cluster cannot be used: why."""

    sentence: str


@dataclass(frozen=True)
class Changed:
    """Nodes came or went."""

    names: Mapping[str, str]
    slots: int
    gone: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """An order was carried out on a node, or refused there for what is installed."""

    number: int
    node: str
    facts: Mapping[str, str] | None
    outcome: bytes


@dataclass(frozen=True)
class Lost:
    """An order that was lost: its process or node is gone, or it never arrived."""

    number: int
    why: str
    is_worth_another_try: bool


def main(descriptor: int) -> None:
    """Serve the build at the other end of a pipe until it ends; this process leads a session of its own."""
    pipe = Connection(descriptor)
    wanted: Wanted = pipe.recv()
    host = _Host(pipe, wanted)
    try:
        try:
            host.begin()
        except Exception as fault:
            pipe.send(Refused(_sentence(wanted, fault)))
            return
        host.serve()
    except (EOFError, OSError):
        pass  # the build has ended
    finally:
        host.end()


class _Host:
    """Orders that come from a pipe, handed to Ray; what becomes of them goes back."""

    def __init__(self, pipe: Connection, wanted: Wanted) -> None:
        self._pipe, self._wanted = pipe, wanted
        self._sending = threading.Lock()
        self._running: dict[int, Any] = {}
        self._dropped: set[int] = set()
        self._cluster: Any = None
        self._names: dict[str, str] = {}

    def begin(self) -> None:
        """Start or join the cluster, and tell what it is. Raises: whatever Ray raises."""
        import ray

        wanted = self._wanted
        address = wanted.address
        if address is None:
            self._cluster = _started(wanted)
            address = self._cluster.address
        else:
            _knock(address)
        # 50 is CRITICAL: nothing of what Ray says is for who builds.
        ray.init(address=address, logging_level=50, log_to_driver=False)
        self._send(Joined())
        # A node without this package can then still say what it lacks.
        ray.cloudpickle.register_pickle_by_value(_node_facts)  # type: ignore[no-untyped-call]
        alive = _alive()
        self._names = _names(alive)
        terms = {**wanted.terms, "names": self._names}
        # Lost parts are given again by the build, which counts and tells them.
        options: dict[str, Any] = {"num_cpus": wanted.part_cpus, "max_retries": 0}
        if wanted.part_bytes is not None:
            options["memory"] = wanted.part_bytes
        self._serve = ray.remote(_node_facts.serving(terms)).options(**options)
        self._send(Ready(self._names, self._facts(), self._slots(alive)))
        threading.Thread(target=self._watch, daemon=True).start()

    def serve(self) -> None:
        """Hand on orders until the build wants no more. Raises: EOFError, OSError where it is gone."""
        while True:
            kind, *told = self._pipe.recv()
            if kind == "order":
                number, order = told
                reference = self._serve.remote(order)
                self._running[number] = reference
                reference.future().add_done_callback(partial(self._over, number))
            elif kind == "drop":
                self._drop(told[0])
            else:
                return

    def end(self) -> None:
        """End this process: a cluster ends what runs there for it, and one of this machine ends whole."""
        import ray

        if self._cluster is not None:
            end_session(os.getpid())  # Ray 2.60 leaves agents and idle workers behind
        shutil.rmtree(self._wanted.folder, ignore_errors=True)
        if self._wanted.address is not None:
            leaving = threading.Thread(target=ray.shutdown, daemon=True)
            leaving.start()
            leaving.join(_LEAVING_SECONDS)
        os._exit(0)

    def _facts(self) -> dict[str, dict[str, str]]:
        """Look up the packages on each node, by id; nodes about to leave are left out."""
        import ray
        from ray import exceptions
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = ray.remote(_node_facts.facts)
        references = {
            node: asked.options(
                num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(self._wanted.terms["distributions"])
            for node in self._names
        }
        found = {}
        for node, reference in references.items():
            try:
                found[node] = ray.get(reference)
            except exceptions.RayTaskError:
                raise
            except exceptions.RayError:
                continue  # who runs a part there all the same looks once more
        return found

    def _slots(self, alive: list[dict[str, Any]]) -> int:
        """Count the parts that the nodes can run at once."""
        wanted = self._wanted
        slots = 0
        for node in alive:
            held = node["Resources"]
            here = held.get("CPU", 0) // wanted.part_cpus
            if wanted.part_bytes is not None:
                here = min(here, held.get("memory", 0) // wanted.part_bytes)
            slots += int(here)
        return slots

    def _over(self, number: int, future: Any) -> None:
        """Tell what became of an order."""
        self._running.pop(number, None)
        if number in self._dropped:
            self._dropped.discard(number)
            return
        fault = future.exception()
        if fault is None:
            node, facts, outcome = future.result()
            self._send(Done(number, node, facts, outcome))
        else:
            self._send(Lost(number, _said(fault), _is_loss(fault)))

    def _drop(self, numbers: list[int]) -> None:
        """Let go of orders: forget waiting ones, interrupt running ones."""
        import ray

        for number in numbers:
            reference = self._running.get(number)
            if reference is not None:
                self._dropped.add(number)
                ray.cancel(reference, force=False)

    def _watch(self) -> None:
        """Tell of nodes that come and go."""
        while True:
            time.sleep(_LOOK_SECONDS)
            try:
                alive = _alive()
            except Exception:
                continue  # whoever waits for an order hears of a cluster that is gone
            names = _names(alive)
            if names != self._names:
                gone = tuple(sorted(name for node, name in self._names.items() if node not in names))
                self._names = names
                self._send(Changed(names, self._slots(alive), gone))

    def _send(self, told: Any) -> None:
        with suppress(OSError), self._sending:  # where the build has ended, this process does too
            self._pipe.send(told)


def end_session(leader: int) -> None:
    """Kill all processes of a session but its leader, as Linux tells of them."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, _, rest = path.read_text().partition(" ")
            # Behind the name, which may hold blanks and brackets: state, parent, group, session.
            if int(rest.rpartition(") ")[2].split()[3]) == leader and int(pid) != leader:
                os.kill(int(pid), signal.SIGKILL)


def _started(wanted: Wanted) -> Any:
    """Start a cluster of this machine, whose token only this build has."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for number in range(wanted.nodes):
        cluster.add_node(
            # The first node is the head; the others start side by side.
            wait=number == 0,
            node_name=f"node-{number + 1}",
            num_cpus=wanted.node_cpus,
            object_store_memory=_STORE_BYTES,
            include_dashboard=False,
            include_log_monitor=False,
        )
    cluster.wait_for_nodes()
    return cluster


def _knock(address: str) -> None:
    """Test if anything listens at an address, for which Ray itself takes minutes. Raises: ConnectionError."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.hostname is None or parts.port is None:
        return  # "auto" and its like: Ray looks them up on this machine
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=_LISTENING_SECONDS).close()
    except OSError as error:
        raise ConnectionError(f"nothing listens at {address} ({error.strerror or error})") from None


def _alive() -> list[dict[str, Any]]:
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _names(alive: list[dict[str, Any]]) -> dict[str, str]:
    """Map node ids to names for people: a node's own name, else host and address."""
    return {
        node["NodeID"]: node["NodeName"]
        if node["NodeName"] not in ("", node["NodeManagerAddress"])
        else f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in alive
    }


def _is_loss(fault: BaseException) -> bool:
    """Tell whether the same order is likely to succeed elsewhere."""
    from ray import exceptions

    hopeless = (exceptions.RayTaskError, exceptions.RuntimeEnvSetupError, exceptions.TaskUnschedulableError)
    return isinstance(fault, exceptions.RayError) and not isinstance(fault, hopeless)


def _said(fault: BaseException) -> str:
    """Return the first line of Ray's message about a fault, or the last line of a traceback."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()] or [type(fault).__name__]
    return lines[-1] if "Traceback" in str(fault) or "ray::" in lines[0] else lines[0]


def _sentence(wanted: Wanted, fault: Exception) -> str:
    """Explain why a cluster cannot be used."""
    if wanted.address is None:
        return f"a cluster of {counted(wanted.nodes, 'node')} could not be started on this machine: {_said(fault)}"
    versions = re.findall(r"Ray: (\S+)\s+Python: (\S+)", str(fault))
    if len(versions) == 2:
        (ray_there, python_there), (ray_here, python_here) = versions
        return (
            f"the cluster at {wanted.address} runs Python {python_there} and Ray {ray_there}, and here are Python "
            f"{python_here} and Ray {ray_here}: have the same on all nodes"
        )
    told = _said(fault)
    if isinstance(fault, ConnectionError) and not told.startswith("nothing listens"):
        told = f"no Ray cluster answers at {wanted.address} ({told})"
    return (
        f"{told}; start one there with `ray start --head`, or leave `address` out for one of this machine"
        if isinstance(fault, ConnectionError)
        else f"the cluster at {wanted.address} cannot be used: {told}"
    )
