"""Resolved settings of a training: flags over a phase's settings over the curriculum's over defaults.

The result is written beside the checkpoints, so that a run says by itself what it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orca_recipes.counted import counted
from orca_recipes.errors import TrainingError
from orca_recipes.shards.curriculum import Curriculum, read_curriculum
from orca_recipes.shards.digests import canonical_json
from orca_recipes.shards.files import write_whole
from orca_recipes.shards.manifest import Manifest, read_manifest
from orca_recipes.shards.training import ModelChoice
from orca_recipes.train.data.training_phases import TrainingPhase, phases_of

NAME = "settings.json"


@dataclass(frozen=True)
class Request:
    """The options of a command line.

    out: the run's folder. model: where it is named. data_parallel, device: None where the machine decides.
    steps: stop after so many, counted over the whole run. first_phase: from 1. training: only what was given.
    """

    build: Path
    out: Path | None = None
    model: str | None = None
    tensor_parallel: int = 1
    data_parallel: int | None = None
    sequence_parallel: bool = False
    device: Literal["cpu", "cuda"] | None = None
    steps: int | None = None
    first_phase: int = 1
    verify: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)
    pipeline_parallel: int = 1

    @property
    def run(self) -> Path:
        """Return the folder of the run: log, settings, checkpoints."""
        return self.out if self.out is not None else Path("runs") / self.build.resolve().name


@dataclass(frozen=True)
class Settings:
    """A request beside what the build says.

    phases: all of the curriculum; those before `request.first_phase` are passed over.
    """

    request: Request
    manifest: Manifest
    model: str
    phases: tuple[TrainingPhase, ...]

    @property
    def steps(self) -> int:
        """Count the steps of the run, over its phases."""
        whole = sum(phase.steps for phase in self.chosen)
        return whole if self.request.steps is None else min(whole, self.request.steps)

    @property
    def fewer_steps(self) -> str | None:
        """Say so where more steps were asked for than the phases have."""
        asked = self.request.steps
        if asked is None or asked <= self.steps:
            return None
        phases = ", ".join(f"phase {phase.number}: {counted(phase.rows, 'row')}" for phase in self.chosen)
        return (
            f"--steps {asked:,}: the curriculum ends after {counted(self.steps, 'step')} ({phases}); "
            "for more, give its phases more epochs or tokens and build again, or take fewer --batch-rows"
        )

    @property
    def chosen(self) -> tuple[TrainingPhase, ...]:
        """Return the phases that are trained."""
        return self.phases[self.request.first_phase - 1 :]

    @property
    def rates(self) -> str:
        """Return learning rates and schedules of the phases, for a person."""
        return ", ".join(f"{phase.training.learning_rate:g} {phase.training.schedule}" for phase in self.chosen)

    def as_json(self) -> dict[str, Any]:
        """Return all settings that decide the result, and the layout and device it ran on."""
        asked = self.request
        return {
            "build": self.manifest.name,
            "manifest_digest": self.manifest.digest,
            "model": self.model,
            "tensor_parallel": asked.tensor_parallel,
            "data_parallel": asked.data_parallel,
            "sequence_parallel": asked.sequence_parallel,
            "pipeline_parallel": asked.pipeline_parallel,
            "device": asked.device,
            "steps": self.steps,
            "phases": [
                {
                    "phase": phase.number,
                    "rows": dict(phase.taken),
                    "steps": phase.steps,
                    "training": phase.training.model_dump(mode="json"),
                }
                for phase in self.chosen
            ],
        }

    def write(self) -> None:
        """Publish `RUN/settings.json`."""
        write_whole(self.request.run / NAME, canonical_json(self.as_json()))


def resolve(request: Request) -> Settings:
    """Resolve the settings of a request; only manifest and curriculum are read.

    Raises: BuildError, DamagedShard, TrainingError.
    """
    manifest = read_manifest(request.build)
    curriculum = read_curriculum(request.build)
    phases = phases_of(manifest, curriculum, request.training)
    if request.first_phase > len(phases):
        raise TrainingError(
            f"--phase {request.first_phase}: the curriculum has {len(phases)}, counted from 1; name one of them"
        )
    return Settings(request, manifest, _model(request, curriculum), phases)


def _model(request: Request, curriculum: Curriculum) -> str:
    return request.model or (curriculum.model or ModelChoice()).config
