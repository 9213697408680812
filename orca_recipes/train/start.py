"""Start of a training: model, weights and position.

A run's folder that holds checkpoints is gone on with, so the same command begins a training, goes on with one that was
interrupted, and says that nothing is left to do. Everything that can be wrong is found here, before any process group
starts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_recipes.errors import CheckpointError, ModelError, TrainingError
from orca_recipes.json_text import json_value
from orca_recipes.shards.digests import canonical_json
from orca_recipes.train.checkpoints import description as checkpoints
from orca_recipes.train.checkpoints.description import Checkpoint, newest_checkpoint, read_checkpoint
from orca_recipes.train.checkpoints.position import Position
from orca_recipes.train.data.vocabulary import what_is_unknown
from orca_recipes.train.hf.configuration import architecture_from_hf
from orca_recipes.train.hf.conversion import added_tokens
from orca_recipes.train.hf.model_folder import CONFIG, read_config
from orca_recipes.train.model.architecture import Architecture, named_architecture
from orca_recipes.train.training_settings import Settings

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Start:
    """resumed: the checkpoint of this run that is gone on with. weights: a checkpoint or a Hugging Face folder whose
    weights the run begins with. Where both are None, weights are drawn from the seed. unknown: a sentence on what could
    not be checked. model: as it was named when the run began. changed: a sentence on settings that are others now."""

    architecture: Architecture
    position: Position
    resumed: Path | None = None
    weights: Path | None = None
    unknown: str | None = None
    model: str = ""
    changed: str | None = None


def starting_point(settings: Settings) -> Start:
    """Find how the run in `settings.request.run` begins or resumes.

    Raises: ModelError, CheckpointError, TrainingError; one sentence each.
    """
    newest = newest_checkpoint(settings.request.run / CHECKPOINTS)
    start = _begun(settings) if newest is None else _resumed(settings, newest)
    _check_positions(settings, start.architecture)
    return start


def _begun(settings: Settings) -> Start:
    position = Position(step=0, phase=settings.request.first_phase)
    place, build, unknown = Path(settings.model), settings.request.build, None
    if (place / checkpoints.NAME).is_file():
        found = read_checkpoint(place)
        known, unknown = found.architecture, unknown_tokens(place, found, build)
    elif place.is_dir():
        known = architecture_from_hf(read_config(place), str(place / CONFIG))
        unknown = what_is_unknown(place, place, build, known=known.vocabulary_size)
    elif place.is_file():
        known = architecture_from_hf(_json(place), str(place))
    elif os.sep in settings.model:
        raise ModelError(f"--model {settings.model}: there is no such file or folder; name one, or tiny, small or 1b")
    else:
        known = named_architecture(settings.model)
    fitted = known.with_vocabulary(settings.manifest.vocabulary_size, added=added_tokens(build))
    return Start(fitted, position, weights=place if place.is_dir() else None, unknown=unknown, model=settings.model)


def _resumed(settings: Settings, newest: Path) -> Start:
    found = read_checkpoint(newest)
    if found.manifest_digest != settings.manifest.digest:
        raise CheckpointError(
            f"{newest} was trained on another build (manifest {found.manifest_digest}); "
            "name another --out, or train on the build that it belongs to"
        )
    if settings.request.model is not None:
        _check_same_model(settings, newest, found)
    _check_same_run(settings, newest, found)
    unknown = unknown_tokens(newest, found, settings.request.build)
    return Start(
        found.architecture,
        Position.from_json(found.position),
        resumed=newest,
        unknown=unknown,
        model=str(found.settings.get("model", settings.model)),
        changed=_changed(settings, found),
    )


def unknown_tokens(place: Path, found: Checkpoint, build: Path) -> str | None:
    """Describe unknown tokens of a checkpoint, as `what_is_unknown`; also where its tokenizer may not be the one its
    weights were trained with."""
    if not found.tokenizer_is_known:
        return f"{place} is of a model that brought no tokenizer: whether its tokens are those of {build} is not known"
    return what_is_unknown(place, place / checkpoints.TOKENIZER, build, known=found.architecture.vocabulary_size)


def _check_same_model(settings: Settings, newest: Path, found: Checkpoint) -> None:
    asked = _begun(settings).architecture
    ours, theirs = asked.as_json(), found.architecture.as_json()
    differ = [f"{name} {theirs[name]} where it has {ours[name]}" for name in ours if ours[name] != theirs[name]]
    if differ:
        raise CheckpointError(
            f"{newest} is of another model than {settings.model} ({', '.join(differ)}); "
            "name another --out, or leave --model out to go on"
        )


def _check_same_run(settings: Settings, newest: Path, found: Checkpoint) -> None:
    """Order and phases must be those it began with: else rows would be repeated and others never seen."""
    for name, value in begun_with(settings).items():
        if found.settings.get(name) != value:
            raise TrainingError(
                f"{newest} began with {name.replace('_', ' ')} {json.dumps(found.settings.get(name))}, and "
                f"{json.dumps(value)} is asked for now; name another --out, or go on as it began"
            )


def _changed(settings: Settings, found: Checkpoint) -> str | None:
    """Name the settings of the phases still to come that are not those of the checkpoint; a flag may be forgotten."""
    before = {phase["phase"]: phase["training"] for phase in found.settings.get("phases", ())}
    position, differ = Position.from_json(found.position), dict[str, None]()
    for phase in settings.chosen[position.phase - settings.request.first_phase :]:
        had, has = before.get(phase.number, {}), phase.training.model_dump(mode="json")
        # Checkpoints of older versions know fewer settings.
        for name in (name for name in has if name in had and had[name] != has[name]):
            differ[f"{name} {json.dumps(has[name])} where it had {json.dumps(had[name])}"] = None
    return f"goes on with {', '.join(differ)}" if differ else None


def begun_with(settings: Settings) -> dict[str, object]:
    """Return the settings fixed for a whole run: seed, first phase, and the rows of each phase."""
    told = {
        "seed": settings.chosen[0].training.seed,
        "first_phase": settings.request.first_phase,
        "rows": [dict(phase.taken) for phase in settings.chosen],
    }
    as_read: dict[str, object] = json.loads(canonical_json(told))
    return as_read


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json_value(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: it cannot be read as JSON ({error}); name a model's folder or config.json"
        ) from error
    return found


def _check_positions(settings: Settings, architecture: Architecture) -> None:
    longest = settings.manifest.longest_example
    if longest > architecture.longest_example:
        raise ModelError(
            f"{settings.request.build} holds an example of {longest:,} tokens, and the model has positions for "
            f"{architecture.longest_example:,}; build with a smaller row_tokens, or choose a model with more positions"
        )
