"""The phases of a training: which rows of which datasets, with which settings, in which order.

A build without a curriculum is one phase that goes once through every dataset. The validation dataset is held out: a
phase that names it is refused, since a loss on rows that were trained on says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from orca_recipes.errors import TrainingError
from orca_recipes.shards import curriculum as curricula
from orca_recipes.shards.curriculum import Curriculum
from orca_recipes.shards.manifest import Manifest
from orca_recipes.shards.training import PhaseTraining, Training, adapter_refusal
from orca_recipes.train.data.order import PhaseOrder


@dataclass(frozen=True)
class TrainingPhase:
    """One phase, resolved.

    number: from 1. held: rows that each of its datasets holds. taken: rows to train on of each, epochs counted.
    """

    number: int
    held: Mapping[str, int]
    taken: Mapping[str, int]
    training: Training

    @property
    def rows(self) -> int:
        return sum(self.taken.values())

    @property
    def steps(self) -> int:
        """Count the steps; the last one is short where rows do not divide."""
        return -(-self.rows // self.training.batch_rows)

    def order(self) -> PhaseOrder:
        return PhaseOrder(seed=self.training.seed, phase=self.number, held=self.held, taken=self.taken)

    def step_rows(self, step: int) -> tuple[int, int]:
        """Return the first and one past the last position of a step's rows; step: from 0."""
        start = step * self.training.batch_rows
        return start, min(start + self.training.batch_rows, self.rows)


def phases_of(manifest: Manifest, curriculum: Curriculum, flags: Mapping[str, Any]) -> tuple[TrainingPhase, ...]:
    """List the phases of a build, in order.

    Args:
        flags: settings from the command line; they win over a phase's own, and those over the curriculum's.
    Raises: TrainingError, naming the setting or the phase.
    """
    common = curriculum.training.given() if curriculum.training is not None else {}
    phases = []
    for number, (taken, own) in enumerate(_asked(manifest, curriculum, {**common, **flags}), start=1):
        training = _training(common, own, flags, number)
        _check(manifest, taken, training, number)
        held = {name: manifest.datasets[name].rows for name in taken}
        phases.append(TrainingPhase(number, held, taken, training))
    if not phases:
        raise TrainingError(
            f"{curricula.NAME}: no dataset is left to train on; the only one is held out for validation"
        )
    return tuple(phases)


def _asked(
    manifest: Manifest, curriculum: Curriculum, settings: Mapping[str, Any]
) -> Iterator[tuple[Mapping[str, int], Mapping[str, Any]]]:
    """Yield for each phase the rows to take of each dataset, and the phase's own settings."""
    for phase in curriculum.phases:
        yield {name: rows for name, rows in phase.rows.items() if rows}, phase.training
    if not curriculum.phases:
        held_out = settings.get("validation")
        everything = {name: counts.rows for name, counts in manifest.datasets.items() if name != held_out}
        if everything:
            yield everything, {}


def _training(common: Mapping[str, Any], own: Mapping[str, Any], flags: Mapping[str, Any], number: int) -> Training:
    shared = sorted(own.keys() & (Training.model_fields.keys() - PhaseTraining.model_fields.keys()))
    if shared:
        raise TrainingError(
            f"phase {number} sets {shared[0]}, which holds for all phases; set it in the recipe's [training]"
        )
    try:
        training = Training.model_validate({**common, **own, **flags})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(step) for step in first["loc"])
        unknown = adapter_refusal(name) or "there is no such setting"
        words = unknown if first["type"] == "extra_forbidden" else _lowered(first["msg"])
        if name in flags:
            raise TrainingError(f"--{name.replace('_', '-')} {flags[name]}: {words}; give another value") from error
        raise TrainingError(f"training.{name} of phase {number}: {words}; correct it in the recipe") from error
    if training.recompute and training.recompute_modules != "none":
        raise TrainingError(
            f'phase {number}: recompute recomputes whole layers, and recompute_modules "{training.recompute_modules}" '
            "parts of them alone; choose one of the two"
        )
    return training


def _check(manifest: Manifest, taken: Mapping[str, int], training: Training, number: int) -> None:
    names = [*taken, *([training.validation] if training.validation is not None else [])]
    for name in names:
        if name not in manifest.datasets:
            known = ", ".join(manifest.datasets)
            raise TrainingError(f'phase {number} names dataset "{name}", and the build holds {known}; name one of them')
    if training.validation in taken:
        raise TrainingError(
            f'phase {number} trains on "{training.validation}", which is held out for validation; '
            "validate on a dataset that no phase names"
        )


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
