"""The parts of stages, run by a Ray cluster: several machines over one file system, or several nodes of this machine.

Ray schedules; a part is an order that can be given twice (`_ray_link`), and Ray itself lives in a process of its own
(`_ray_host`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from threading import RLock
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from orca_plugins.engines._ray_link import Link
from orca_recipes.contract.destination import Destination
from orca_recipes.contract.kinds import Engine, Reach, Result, Say, Task
from orca_recipes.contract.spelling import quoted
from orca_recipes.errors import EngineError, PluginError


class _Kept:
    """Holder of an engine's link beside its options, so that no copy, pickle or comparison of the engine sees it."""

    def __init__(self) -> None:
        self.say: Say | None = None
        self._link: Link | None = None
        self._changing = RLock()

    def of(self, engine: Ray, workers: int) -> Link:
        with self._changing:
            if self._link is None:
                self._link = Link(engine, workers, self._told)
            return self._link

    def reach(self) -> Reach:
        with self._changing:
            return Reach(0, 0) if self._link is None else Reach(self._link.nodes, self._link.retried)

    def close(self) -> None:
        with self._changing:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def _told(self, sentence: str) -> None:
        if self.say is not None:
            self.say(sentence)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Kept, ())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept)

    __hash__ = None  # type: ignore[assignment]


class Ray(Engine):
    """Run parts on a Ray cluster, whose nodes see the sources, the store and the build under the same paths.

        [engine]
        kind = "ray"
        address = "auto"

    Without `address` a cluster of this machine is started for the build and ended with it. A part whose process or node
    is lost runs again elsewhere; what a part raises ends the build, as with `local`. All nodes must have the same
    Python, orca-recipes, plugins and libraries: that is looked at before the first part. Needs the extra `ray`.
    """

    kind: Literal["ray"] = "ray"
    spreads: ClassVar[bool] = True
    address: Annotated[
        str | None,
        Field(
            min_length=1,
            description='a cluster that runs: "auto" for the one of this machine, "HOST:PORT", or "ray://HOST:PORT"',
        ),
    ] = None
    nodes: Annotated[int, Field(ge=1, le=64, description="nodes of a cluster of this machine")] = 1
    part_cpus: Annotated[float, Field(ge=0.1, description="cores that a part takes")] = 1.0
    part_bytes: Annotated[int | None, Field(gt=0, description="memory that a part takes; Ray counts it")] = None
    parts_in_flight: Annotated[
        int | None, Field(ge=1, description="most parts given to the cluster at once; twice what runs, if not said")
    ] = None

    _kept: _Kept = PrivateAttr(default_factory=_Kept)

    @model_validator(mode="after")
    def _refuse_nodes_elsewhere(self) -> Self:
        if self.address is not None and self.nodes != 1:
            raise ValueError("nodes is for a cluster of this machine: leave it out, or address")
        return self

    @model_validator(mode="after")
    def _refuse_passwords(self) -> Self:
        if self.address is not None and "@" in self.address:
            raise ValueError(
                "address may hold no user and no password: leave them out; a cluster's token is set as RAY_AUTH_TOKEN"
            )
        return self

    def map(
        self, *, function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
    ) -> Iterator[tuple[int, Result]]:
        """Map the function over tasks, as in the contract; `workers`: size of a cluster here, at least one a node.

        Raises: what the task raised; EngineError where the cluster or a node of it cannot be used; Failure where parts
            were lost again and again.
        """
        if tasks:
            yield from self._link(workers).map(function, tasks)

    def warm(self, *, function: Callable[[Task], object], task: Task, workers: int) -> None:
        """Begin to start or join the cluster; its processes get ready with their first parts."""
        self._link(workers)

    def destinations(self) -> Sequence[Destination]:
        """Return the host of `address`: a cluster gets the user's data and code, and its answers are unpickled here."""
        if self.address is None or self.address == "auto":
            return ()
        try:
            return (Destination.of_url(f"http://{self.address.removeprefix('ray://')}", None),)
        except ValueError as fault:
            raise EngineError(f'engine "ray": address {quoted(self.address)} names no host ({fault})') from fault

    def report_to(self, *, say: Say) -> None:
        self._kept.say = say

    def reach(self) -> Reach:
        return self._kept.reach()

    def close(self) -> None:
        self._kept.close()

    def _link(self, workers: int) -> Link:
        if importlib.util.find_spec("ray") is None:
            raise PluginError("engine \"ray\" needs an extra package: pip install 'orca-recipes[ray]'")
        return self._kept.of(self, workers)
