"""A build on many nodes, as a model of discrete events: what it takes, what it costs, and what holds it up.

Verbs follow each other, as they do in a recipe of one collection. Parts of a verb run on cores that fetch and send
files; a driver hands them out one at a time and works alone between verbs, and shards pass through its network; an
object store answers after a while, so many requests a second; nodes die and are replaced, and some parts are slow.
Costs are measured, rates are assumptions: each is a field with its unit.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
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
class Alone:
    """What the driver does alone for each example: seconds of one core, bytes that pass through its network."""

    verb: str
    seconds: float
    moved_bytes: float = 0.0


@dataclass(frozen=True)
class Costs:
    """What was measured.

    Attributes:
        steps: in the order of a build.
        begin_seconds: of a build of next to nothing. ready_seconds: of a process until it can begin its first part.
        handing_seconds: of the driver for each part: given, heard of, accounted for.
        driver_bytes: that the driver holds for each example. begin_bytes: that it holds whatever it builds.
    """

    steps: Sequence[PartCost | Alone]
    begin_seconds: float
    ready_seconds: float
    handing_seconds: float
    driver_bytes: float
    begin_bytes: float


@dataclass(frozen=True)
class Cluster:
    """What is assumed of machines.

    Attributes:
        shared_cores: cores that all nodes together have, where they are nodes of one machine.
        node_bytes_second: what a node's network carries, the driver's too. store_seconds: until a request is answered.
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
    driver_bytes: float = 0.0
    waits: Counter[str] = field(default_factory=Counter)

    @property
    def bottleneck(self) -> str:
        """What would have taken longest alone, and its share of the time."""
        name, seconds = self.waits.most_common(1)[0]
        return f"{name} {seconds / self.seconds:.0%}"


def foretold(costs: Costs, cluster: Cluster, examples: float, seed: int = 1) -> Foretold:
    """Run a build of so many examples in the model."""
    world = _World(costs, cluster, Random(seed))
    for step in costs.steps:
        if isinstance(step, Alone):
            world.alone(step, examples)
        else:
            world.run(step, examples)
    return world.told(examples)


class _World:
    def __init__(self, costs: Costs, cluster: Cluster, chance: Random) -> None:
        self._costs, self._cluster, self._chance = costs, cluster, chance
        self._now = costs.begin_seconds
        self._found = Foretold()
        self._requests = 0.0
        self._unready = set(range(cluster.nodes * cluster.cores))
        self._dies = [self._death(self._now) for _ in range(cluster.nodes)]
        """When each node dies; it is back some time later, and dies again."""
        self._found.waits["start"] = costs.begin_seconds

    def alone(self, step: Alone, examples: float) -> None:
        """The driver works, and all else waits."""
        works, moves = step.seconds * examples, step.moved_bytes * examples / self._cluster.node_bytes_second
        self._now += max(works, moves)
        name = f"driver's {'network' if moves > works else 'core'} ({step.verb})"
        self._found.waits[name] += max(works, moves)

    def run(self, step: PartCost, examples: float) -> None:
        """Run the parts of a verb; the next verb begins when the last of them has ended."""
        cluster, costs, found = self._cluster, self._costs, self._found
        number = max(1, math.ceil(examples / step.examples))
        share = examples / number / step.examples
        moved = (step.read_bytes + step.written_bytes) * share
        moving = 2 * cluster.store_seconds + moved / (cluster.node_bytes_second / cluster.cores)
        working = step.cpu_seconds * share
        # Cores take parts in turn, one of each node before a second of any.
        free = [(self._now, core) for core in range(cluster.nodes * cluster.cores)]
        waiting = [self._now] * number
        running: list[float] = []
        driver = store = ends = self._now
        while waiting:
            driver = max(driver, heapq.heappop(waiting)) + costs.handing_seconds
            begins, core = self._taken(free, driver)
            node = core % cluster.nodes
            store = max(store, begins) + step.files / cluster.store_requests_second
            self._requests += step.files
            works = self._ready(core) + working * self._slowness()
            if cluster.shared_cores is not None:
                while running and running[0] <= begins:
                    heapq.heappop(running)
                works *= max(1.0, (len(running) + 1) / cluster.shared_cores)
            done = max(begins, store) + moving + works
            if done > self._dies[node]:
                # Lost: the part runs again, and the node's place is empty for a while.
                heapq.heappush(waiting, self._dies[node] + cluster.noticed_seconds)
                heapq.heappush(free, (self._dies[node] + cluster.replaced_seconds, core))
                found.retried += 1
                continue
            found.parts += 1
            heapq.heappush(running, done)
            heapq.heappush(free, (done, core))
            ends = max(ends, done)
        cores = cluster.nodes * cluster.cores
        found.waits["handing out parts"] += number * costs.handing_seconds
        found.waits["cores"] += number * working / min(cores, cluster.shared_cores or cores)
        found.waits["nodes' network and store"] += number * moving / cores
        found.waits["store's requests"] += number * step.files / cluster.store_requests_second
        self._now = ends

    def _taken(self, free: list[tuple[float, int]], now: float) -> tuple[float, int]:
        """The first core that is free and whose node lives, and when."""
        while True:
            free_at, core = heapq.heappop(free)
            node, begins = core % self._cluster.nodes, max(now, free_at)
            if begins < self._dies[node]:
                return begins, core
            back = self._dies[node] + self._cluster.replaced_seconds
            self._unready.add(core)
            if begins >= back:
                self._dies[node] = self._death(back)
            heapq.heappush(free, (max(begins, back), core))

    def told(self, examples: float) -> Foretold:
        cluster, found = self._cluster, self._found
        found.seconds = self._now
        hours = self._now / 3600
        found.usd = hours * (cluster.nodes * cluster.node_usd_hour + cluster.head_usd_hour)
        found.usd += self._requests * cluster.request_usd
        found.driver_bytes = self._costs.begin_bytes + self._costs.driver_bytes * examples
        return found

    def _death(self, after: float) -> float:
        rate = self._cluster.failures_hour / 3600
        return after + self._chance.expovariate(rate) if rate else float("inf")

    def _ready(self, core: int) -> float:
        """What a core's process takes before its first part."""
        if core not in self._unready:
            return 0.0
        self._unready.discard(core)
        return self._costs.ready_seconds

    def _slowness(self) -> float:
        cluster = self._cluster
        return cluster.slow_factor if self._chance.random() < cluster.slow_share else 1.0
