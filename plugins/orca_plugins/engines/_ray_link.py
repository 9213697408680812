"""The link of a build to the process that speaks to Ray: orders go there, and what becomes of them comes back.

A part is an order; all that it does is publish files that are named by what they are made of. So an order whose process
or node is lost is given again, and one that is carried out twice does no harm.
"""

from __future__ import annotations

import gc
import math
import os
import pickle
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from orca_plugins.engines._node_facts import PYTHON, facts
from orca_plugins.engines._orders import order_for_elsewhere
from orca_plugins.engines._ray_host import Changed, Done, Joined, Lost, Ready, Refused, Wanted, end_session
from orca_recipes.contract.kinds import Result, Task
from orca_recipes.errors import EngineError, Failure

_STOPPED = "the work on the cluster was stopped; the finished parts are kept"
_AGAIN = "the finished parts are kept: run the same command again"
_TRIES = 4
"""How often a part is begun: what four nodes or processes did not survive is likelier to be the part's own doing."""
_LOOK_UP_SECONDS = 0.2
"""How long is waited before an interrupt is looked for."""
_JOINING_SECONDS = 120.0
"""For a cluster that runs already to answer at all: seconds on a machine with something to spare."""
_STARTING_SECONDS = 900.0
"""For one of this machine: three nodes take 20 seconds on two cores, and many times that on busy ones."""
_NAMING_SECONDS = 10.0
"""How long the name of a node that joined is waited for: nodes are looked at every two seconds."""
# A driver that hangs (its cluster is gone) must not hang the build that is already over.
_ENDING_SECONDS = 10.0
_HOST = "from orca_plugins.engines._ray_host import main; main({})"
_OURS = "orca-recipes"
_GROUP = "orca_recipes"
"""The group of entry points that plugins register in."""


class Settings(Protocol):
    """The options of the engine."""

    @property
    def address(self) -> str | None: ...
    @property
    def nodes(self) -> int: ...
    @property
    def part_cpus(self) -> float: ...
    @property
    def part_bytes(self) -> int | None: ...
    @property
    def parts_in_flight(self) -> int | None: ...


class Link:
    """Maps of several threads over one cluster, from its first use to `close`."""

    def __init__(self, settings: Settings, workers: int, say: Callable[[str], None]) -> None:
        """Begin to start or join the cluster; nobody waits for it before there is a part.

        Args:
            workers: how many processes a cluster of this machine has, at least one a node.
        """
        self.retried = 0
        self.nodes = 0
        self._settings, self._say = settings, say
        self._distributions = _distributions()
        self._folder = tempfile.mkdtemp(prefix="orca-ray-", dir="/tmp" if os.path.isdir("/tmp") else None)
        self._said = Path(self._folder) / "said"
        self._answers: dict[int, SimpleQueue[Done | Lost | None]] = {}
        self._names: Mapping[str, str] = {}
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._slots = self._taken = self._numbers = 0
        self._is_joined = self._is_ready = False
        self._ended: Failure | EngineError | None = None
        self._begin(workers)

    def map(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Position and result of each task, as they finish.

        Raises: what a task raised, its node in a note; EngineError where a node is not fit; Failure where a part was
            lost again and again, or the cluster is gone.
        """
        self._wait_until_ready()
        answers: SimpleQueue[Done | Lost | None] = SimpleQueue()
        running: dict[int, int] = {}
        tries: Counter[int] = Counter()
        begun = 0
        try:
            while begun < len(tasks) or running:
                while begun < len(tasks) and self._has_room(waits=not running):
                    running[self._order(function, tasks[begun], answers)] = begun
                    begun += 1
                answer = self._next(answers)
                position = running.pop(answer.number)
                if isinstance(answer, Lost) and answer.is_worth_another_try and tries[position] + 1 < _TRIES:
                    tries[position] += 1
                    self._tell_of(answer, position, len(tasks))
                    running[self._order(function, tasks[position], answers)] = position
                    continue
                self._give_room()
                yield position, self._result(answer, position, len(tasks))
        finally:
            self._let_go(list(running))

    def close(self) -> None:
        """Leave the cluster; what runs there for this build ends within seconds. One of this machine ends whole."""
        self._end(Failure(_STOPPED))
        self._send("end")
        try:
            self._process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        end_session(self._process.pid)
        self._listener.join()
        self._pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _begin(self, workers: int) -> None:
        settings = self._settings
        self._pipe, theirs = Pipe()
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                # -P: no module is looked for in the current folder.
                [sys.executable, "-P", "-c", _HOST.format(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                cwd=self._folder,  # Ray has all processes look for modules in its driver's folder
                env=self._environment(),
                start_new_session=True,  # Ctrl-C is for the build, which says what is to end
            )
        # With both ends open here, the end of the other process would never be seen.
        theirs.close()
        self._expected = facts(self._distributions)
        terms = {
            "distributions": self._distributions,
            "expected": self._expected,
            "threads": max(1, int(settings.part_cpus)),
            "collections": gc.get_threshold(),
            "path": [entry for entry in sys.path if os.path.isabs(entry)],
        }
        node_cpus = max(1, -(-workers // settings.nodes))
        wanted = Wanted(
            settings.address,
            settings.nodes,
            max(node_cpus, math.ceil(settings.part_cpus)),
            self._folder,
            settings.part_cpus,
            settings.part_bytes,
            terms,
        )
        with suppress(OSError):  # a process that ended at once is missed by who waits for it
            self._pipe.send(wanted)
        self._listener = threading.Thread(target=self._listen, args=(self._pipe,), name="orca-ray", daemon=True)
        self._listener.start()

    def _environment(self) -> dict[str, str]:
        """Return the environment of the process that speaks to Ray: no usage statistics, no records of tasks."""
        own = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_task_events_report_interval_ms": "0",
            "RAY_enable_timeline": "0",
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if os.path.isabs(entry)),
        }
        if self._settings.address is None:
            # Ray's workers are nice to others by 15, and starve on a machine that has anything else to do.
            own["RAY_worker_niceness"] = "0"
            # Orders are code: nobody else on this machine may join the cluster.
            own |= {"RAY_TMPDIR": self._folder, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        return os.environ | own

    def _listen(self, pipe: Connection) -> None:
        """Hand on what the other process says, until it ends."""
        try:
            while True:
                told = pipe.recv()
                if isinstance(told, Done | Lost):
                    answers = self._answers.pop(told.number, None)
                    if answers is not None:
                        answers.put(told)
                elif isinstance(told, Refused):
                    self._end(EngineError(f'engine "ray": {told.sentence}'))
                elif isinstance(told, Joined):
                    self._is_joined = True
                else:
                    self._hear(told)
        except (EOFError, OSError):
            self._end(Failure(f"the process that speaks to Ray ended{self._last_words()}; {_AGAIN}"))

    def _hear(self, told: Ready | Changed) -> None:
        """Take in which nodes there are."""
        if isinstance(told, Ready):
            for node, found in told.facts.items():
                fault = self._unfit(told.names.get(node, node), found)
                if fault is not None:
                    self._end(fault)
                    return
        else:
            for name in told.gone:
                self._say(f"the node {name} is gone; its parts run again elsewhere")
        with self._changed:
            self._names = {**self._names, **told.names}
            self.nodes = max(self.nodes, len(told.names))
            self._slots, self._is_ready = told.slots, True
            self._changed.notify_all()

    def _unfit(self, name: str, found: Mapping[str, str]) -> EngineError | None:
        """Return the error for a node with other packages than here, unfit for this build; None where all agree."""
        for what, here in self._expected.items():
            there = found.get(what, "")
            if there != here:
                return EngineError(f'engine "ray": {_difference(what, name, here, there)}')
        return None

    def _wait_until_ready(self) -> None:
        seconds = _STARTING_SECONDS if self._settings.address is None else _JOINING_SECONDS
        ends = time.monotonic() + seconds
        with self._changed:
            while not self._is_ready:
                if self._ended is None and not self._is_joined and time.monotonic() > ends:
                    where = "of this machine" if self._settings.address is None else f"at {self._settings.address}"
                    self._end(EngineError(f'engine "ray": the cluster {where} did not answer in {seconds:.0f} seconds'))
                self._refuse_ended()
                self._changed.wait(_LOOK_UP_SECONDS)

    def _has_room(self, *, waits: bool) -> bool:
        """Take room for one more part in flight, if there is any or once there is."""
        with self._changed:
            while self._taken >= self._most():
                if not waits:
                    return False
                self._refuse_ended()
                self._changed.wait(_LOOK_UP_SECONDS)
            self._taken += 1
            return True

    def _most(self) -> int:
        """Return twice what runs at once: nobody waits for an order, and a cluster that grows sees a reason to."""
        return self._settings.parts_in_flight or max(2, 2 * self._slots)

    def _give_room(self, parts: int = 1) -> None:
        with self._changed:
            self._taken -= parts
            self._changed.notify()

    def _order(self, function: Callable[[Task], Result], task: Task, answers: SimpleQueue[Done | Lost | None]) -> int:
        """Send an order; its number."""
        order = order_for_elsewhere(function, task)
        with self._changed:
            self._refuse_ended()
            self._numbers += 1
            number = self._numbers
            self._answers[number] = answers
        self._send("order", number, order)
        return number

    def _send(self, *words: Any) -> None:
        """Send to the other process; where that is gone, the listening thread says why."""
        with self._sending, suppress(OSError):
            self._pipe.send(words)

    def _next(self, answers: SimpleQueue[Done | Lost | None]) -> Done | Lost:
        """Wait for the next answer; an interrupt is raised meanwhile. Raises: the reason why none comes any more."""
        while True:
            self._refuse_ended()
            with suppress(Empty):
                answer = answers.get(timeout=_LOOK_UP_SECONDS)
                if answer is not None:
                    return answer

    def _tell_of(self, lost: Lost, position: int, parts: int) -> None:
        with self._changed:
            self.retried += 1
        self._say(f"part {position + 1} of {parts} was lost ({lost.why}); it runs again")

    def _result(self, answer: Done | Lost, position: int, parts: int) -> Any:
        """Return the result of a part. Raises: its error, or Failure where it was lost."""
        if isinstance(answer, Lost):
            what = f"part {position + 1} of {parts}"
            if answer.is_worth_another_try:
                raise Failure(f"{what} was lost {_TRIES} times, at last because {answer.why}; {_AGAIN}")
            raise Failure(f"{what} could not be given to the cluster: {answer.why}")
        if answer.facts is not None:
            name = self._name_of(answer.node)
            raise self._unfit(name, answer.facts) or EngineError(f'engine "ray": {name} is not fit')
        finished, outcome = pickle.loads(answer.outcome)
        if finished:
            return outcome
        raise outcome

    def _name_of(self, node: str) -> str:
        """Return a node's name; of one that has just joined, it comes a moment after its first answer."""
        with self._changed:
            self._changed.wait_for(lambda: node in self._names or self._ended is not None, _NAMING_SECONDS)
            return self._names.get(node, node)

    def _let_go(self, numbers: Sequence[int]) -> None:
        """Forget orders whose results nobody wants any more."""
        if not numbers:
            return
        self._give_room(len(numbers))
        with self._changed:
            for number in numbers:
                self._answers.pop(number, None)
        if self._ended is None:
            self._send("drop", list(numbers))

    def _end(self, why: Failure | EngineError) -> None:
        """Have all maps end; the first reason counts."""
        with self._changed:
            self._ended = self._ended or why
            waiting, self._answers = list(self._answers.values()), {}
            self._changed.notify_all()
        for answers in waiting:
            answers.put(None)

    def _refuse_ended(self) -> None:
        if self._ended is not None:
            raise type(self._ended)(str(self._ended))

    def _last_words(self) -> str:
        """Return the last line of Ray's output, in brackets."""
        with suppress(OSError):
            lines = self._said.read_text(encoding="utf-8", errors="replace").split("\n")
            said = [line.strip() for line in lines if line.strip()]
            if said:
                return f" ({said[-1][:300]})"
        return ""


def _distributions() -> dict[str, tuple[str, ...]]:
    """List the distributions to be equal on all nodes, with packages to compare by files: ours, plugins, requirements.

    Two of one version may differ where somebody works on them, so the files of our own and of plugins count.
    """
    found: dict[str, set[str]] = {_OURS: {_GROUP}}
    for point in metadata.entry_points(group=_GROUP):
        if point.dist is not None:
            found.setdefault(point.dist.name, set()).add(point.module.partition(".")[0])
    for requirement in metadata.requires(_OURS) or ():
        # One with a marker is of an extra or of another platform.
        if ";" not in requirement:
            found.setdefault(_name_in(requirement), set())
    return {name: tuple(sorted(packages)) for name, packages in found.items()}


def _name_in(requirement: str) -> str:
    """Parse the name of a requirement without marker."""
    from packaging.requirements import Requirement

    return Requirement(requirement).name


def _difference(what: str, node: str, here: str, there: str) -> str:
    """Describe a node's difference from here, with what to do."""
    version_here, version_there = here.partition(" ")[0], there.partition(" ")[0]
    if what == PYTHON:
        return f"the node {node} runs Python {there}, and this is {here}: have the same on all nodes"
    if not there:
        return (
            f"the node {node} lacks {what}, of which {version_here} is here: pip install {what}=={version_here} there"
        )
    if version_here != version_there:
        return f"the node {node} has {what} {version_there}, and {version_here} is here: have the same on all nodes"
    return f"the node {node} has {what} {version_there} with other files than here: install the same on all nodes"
