"""The plan: stages in an order they can run in, each with a fingerprint of its output."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orca_recipes.contract.kinds import Kind
from orca_recipes.plan.fingerprint import canonical_json, digest_of_text
from orca_recipes.plan.plugins import PluginPin, plugins_of
from orca_recipes.plan.stage_inputs import Line, ManyInputs, told_by

REVISIONS = {
    "tokenizer": 1,
    "template": 6,
    "read": 4,
    "contexts": 2,
    "questions": 2,
    "measure": 6,
    "allot": 2,
    "mix": 2,
    "prepare": 1,
    "ask": 4,
    "answer": 2,
    "converse": 6,
    "compare": 2,
    "sift": 2,
    "keep": 1,
    "tokenize": 11,
    "pack": 5,
    "write": 6,
}
"""Revision of the core's own work in each verb: raise it when equal inputs would give other output."""


@dataclass(frozen=True)
class Stage:
    """A node of the plan.

    Args:
        verb: what the core does. subject: a collection, mixture, dataset, "mixture/collection" or "dataset/collection".
        kind: the kinds that do the work, "hook:name" joined by " ".
        decisive: everything that decides the output but the inputs, as JSON values.
        inputs: names of stages.
    """

    verb: str
    subject: str
    kind: str
    decisive: Mapping[str, Any]
    inputs: tuple[str, ...] | ManyInputs
    fingerprint: str

    @cached_property
    def name(self) -> str:
        return f"{self.verb} {self.subject}".strip()

    @property
    def label(self) -> str:
        """Return its folder name in the store, without dataset and mixture: two datasets share one equal stage."""
        subject = "" if self.verb in ("compare", "pack", "write") else self.subject.rpartition("/")[2]
        return f"{self.verb} {subject}".strip()


@dataclass(frozen=True)
class Plan:
    """All stages, inputs before those that need them."""

    stages: Mapping[str, Stage]

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages.values())

    def __getitem__(self, name: str) -> Stage:
        return self.stages[name]


class PlanBuilder:
    """Collects stages and takes each one's fingerprint from its inputs'."""

    def __init__(self, plugins: Mapping[str, PluginPin] | None = None) -> None:
        self._stages: dict[str, Stage] = {}
        self._fingerprints: dict[str, str] = {}
        self._plugins = plugins or {}
        self._written: dict[str, tuple[Mapping[str, Any], str]] = {}

    def add(
        self,
        verb: str,
        subject: str,
        *,
        kind: str,
        decisive: Mapping[str, Any],
        inputs: tuple[str, ...] | ManyInputs = (),
        kinds: Iterable[Kind] = (),
    ) -> str:
        """Add a stage and return its name.

        Args:
            decisive: one object for the stages of a verb that it decides alike is written out once for all of them.
            kinds: what does the work; the plugins of strangers that offer some of them decide it too.
        """
        plugins = plugins_of(kinds, self._plugins)
        decisive = {**decisive, "plugins": plugins} if plugins else decisive
        stage = Stage(verb, subject, kind, decisive, inputs, self._fingerprint(verb, decisive, inputs))
        self._stages[stage.name] = stage
        self._fingerprints[stage.name] = stage.fingerprint
        return stage.name

    def _fingerprint(self, verb: str, decisive: Mapping[str, Any], inputs: tuple[str, ...] | ManyInputs) -> str:
        """Digest the canonical JSON of {decisive, inputs, verb, verb_revision}."""
        known, text = self._written.get(verb, (None, ""))
        if known is not decisive:
            text = canonical_json(decisive)
            self._written[verb] = decisive, text
        # Digits and words of ours, in which JSON escapes nothing.
        told = '","'.join(told_by(inputs, self._fingerprints))
        told = f'"{told}"' if told else ""
        return digest_of_text(
            f'{{"decisive":{text},"inputs":[{told}],"verb":"{verb}","verb_revision":{REVISIONS[verb]}}}'
        )

    def once(self, verb: str, subject: str, *, decisive: Mapping[str, Any], inputs: tuple[str, ...]) -> str:
        """Return the name of a stage that many ask for, and add it for the first."""
        name = f"{verb} {subject}"
        return name if name in self._stages else self.add(verb, subject, kind="", decisive=decisive, inputs=inputs)

    def line(self, names: Iterable[str] = ()) -> Line:
        """Begin a line of stages, which others take in up to a place; names: of those that are there."""
        return Line(self._fingerprints, names)

    def plan(self) -> Plan:
        return Plan(dict(self._stages))
