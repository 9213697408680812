"""A build on many nodes, as a model of discrete events: what it takes, what it costs, and what holds it up.

Parts run on cores that fetch and send files; a driver hands them out one at a time and works alone between some verbs;
an object store answers after a while, so many requests a second; nodes die and are replaced, and some parts are slow.
Costs are measured, rates are assumptions: each is a field with its unit.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random


@dataclass(frozen=True)
class PartCost:
    """What a part of a verb takes: the examples in it, seconds of one core, bytes fetched and sent, files of them."""

    verb: str
    examples: float
    cpu_seconds: float
    read_bytes: float
    written_bytes: float
    files: float = 4.0


@dataclass(frozen=True)
class Costs:
    """What was measured.

    Attributes:
        steps: verbs in the order of a build: a part's cost, or seconds an example of the driver alone.
        begin_seconds: of a build of next to nothing.
        driver_part_seconds: of the driver for each part: given, heard of, accounted for.
    """

    steps: Sequence[PartCost | tuple[str, float]]
    begin_seconds: float
    driver_part_seconds: float


@dataclass(frozen=True)
class Cluster:
    """What is assumed of machines.

    Attributes:
        shared_cores: cores that all nodes together have, where they are nodes of one machine.
        node_bytes_second: what a node's network carries. store_seconds: until a request is answered.
        store_requests_second: what the store takes of one bucket's prefix. failures_hour: of a node.
        replaced_seconds: until a dead node's place is taken; noticed_seconds: until its parts run elsewhere.
        slow_share, slow_factor: how many parts are slow, and how slow.
    """

    nodes: int
    cores: int = 32
    shared_cores: float | None = None
    node_bytes_second: float = 1.5e9
    store_seconds: float = 0.03
    store_requests_second: float = 3_500
    failures_hour: float = 0.02
    replaced_seconds: float = 180
    noticed_seconds: float = 10
    slow_share: float = 0.02
    slow_factor: float = 3
    node_usd_hour: float = 1.4
    head_usd_hour: float = 0.4
    request_usd: float = 5e-6


@dataclass
class Foretold:
    """A build as the model sees it; waits: seconds that each thing alone would have taken."""

    seconds: float = 0.0
    usd: float = 0.0
    parts: int = 0
    retried: int = 0
    waits: dict[str, float] = field(default_factory=dict)

    @property
    def bottleneck(self) -> str:
        return max(self.waits, key=lambda name: self.waits[name])


def foretold(costs: Costs, cluster: Cluster, examples: float, seed: int = 1) -> Foretold:
    """Run a build of so many examples in the model."""
    world = _World(costs, cluster, Random(seed))
    for group in _groups(costs.steps):
        if isinstance(group, tuple):
            world.alone(group[1] * examples)
        else:
            world.run(group, max(1, round(examples / group[0].examples)))
    return world.told()


def _groups(steps: Sequence[PartCost | tuple[str, float]]) -> list[list[PartCost] | tuple[str, float]]:
    """Verbs whose parts follow each other without waiting for all others, and what the driver does between them."""
    found: list[list[PartCost] | tuple[str, float]] = []
    for step in steps:
        if isinstance(step, PartCost):
            if found and isinstance(found[-1], list):
                found[-1].append(step)
            else:
                found.append([step])
        else:
            found.append(step)
    return found


class _World:
    def __init__(self, costs: Costs, cluster: Cluster, chance: Random) -> None:
        self._costs, self._cluster, self._chance = costs, cluster, chance
        self._now = costs.begin_seconds
        self._driver = self._cores = self._network = self._requests = 0.0
        self._found = Foretold()

    def alone(self, seconds: float) -> None:
        """The driver works, and all else waits."""
        self._now += seconds
        self._driver += seconds

    def run(self, verbs: Sequence[PartCost], parts: int) -> None:
        """Run so many chains of parts, one part after the other in each.

        Sizes of later verbs' parts follow from the examples of the first.
        """
        cluster, costs = self._cluster, self._costs
        free = [(self._now, core % cluster.nodes) for core in range(cluster.nodes * cluster.cores)]
        heapq.heapify(free)
        dies = {node: self._dies(self._now) for node in range(cluster.nodes)}
        ready: list[tuple[float, int, int]] = [(self._now, part, 0) for part in range(parts)]
        heapq.heapify(ready)
        driver = store = self._now
        running: list[float] = []
        ends = self._now
        while ready:
            since, part, place = heapq.heappop(ready)
            driver = max(driver, since) + costs.driver_part_seconds
            self._driver += costs.driver_part_seconds
            free_at, node = heapq.heappop(free)
            begins = max(driver, free_at)
            while begins >= dies[node]:
                begins = max(begins, dies[node] + cluster.replaced_seconds)
                dies[node] = self._dies(begins)
            cost = verbs[place]
            share = verbs[0].examples / cost.examples
            store = max(store, begins) + cost.files * share / cluster.store_requests_second
            self._requests += cost.files * share
            moved = (cost.read_bytes + cost.written_bytes) * share
            waits = 2 * cluster.store_seconds + moved / (cluster.node_bytes_second / cluster.cores)
            works = cost.cpu_seconds * share * self._slowness(running, begins)
            done = max(begins, store) + waits + works
            if done > dies[node]:
                # Lost: the part runs again, and the node's place is empty for a while.
                heapq.heappush(ready, (dies[node] + cluster.noticed_seconds, part, place))
                heapq.heappush(free, (dies[node], node))
                self._found.retried += 1
                continue
            self._cores += works
            self._network += waits
            self._found.parts += 1
            if cluster.shared_cores is not None:
                heapq.heappush(running, done)
            heapq.heappush(free, (done, node))
            ends = max(ends, done)
            if place + 1 < len(verbs):
                heapq.heappush(ready, (done, part, place + 1))
        self._now = max(ends, driver)

    def told(self) -> Foretold:
        cluster, found = self._cluster, self._found
        cores = cluster.nodes * cluster.cores
        if cluster.shared_cores is not None:
            cores = min(cores, cluster.shared_cores)
        found.seconds = self._now
        found.waits = {
            "start": self._costs.begin_seconds,
            "driver": self._driver,
            "cores": self._cores / cores,
            "network and store": self._network / (cluster.nodes * cluster.cores),
            "requests": self._requests / cluster.store_requests_second,
        }
        hours = self._now / 3600
        found.usd = hours * (cluster.nodes * cluster.node_usd_hour + cluster.head_usd_hour)
        found.usd += self._requests * cluster.request_usd
        return found

    def _dies(self, after: float) -> float:
        rate = self._cluster.failures_hour / 3600
        return after + self._chance.expovariate(rate) if rate else float("inf")

    def _slowness(self, running: list[float], now: float) -> float:
        """How much slower a part is than alone: a straggler, or one of many on few cores."""
        cluster = self._cluster
        slow = cluster.slow_factor if self._chance.random() < cluster.slow_share else 1.0
        if cluster.shared_cores is None:
            return slow
        while running and running[0] <= now:
            heapq.heappop(running)
        return slow * max(1.0, (len(running) + 1) / cluster.shared_cores)


def steps_of(
    verbs: Sequence[str], parts: Mapping[str, PartCost], driver: Mapping[str, float]
) -> list[PartCost | tuple[str, float]]:
    """Put what was measured into the order of verbs."""
    found: list[PartCost | tuple[str, float]] = []
    for verb in verbs:
        if verb in driver:
            found.append((verb, driver[verb]))
        if verb in parts:
            found.append(parts[verb])
    return found
