"""The curriculum of a build against the phases, model and settings that its recipe asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from orca_recipes.errors import OrcaError
from orca_recipes.recipe.model import Phase
from orca_recipes.shards.checks.verify_report import Finding
from orca_recipes.shards.curriculum import (
    NAME,
    AskedPhase,
    Curriculum,
    DatasetSize,
    compiled_curriculum,
    read_curriculum,
)
from orca_recipes.shards.manifest import Manifest
from orca_recipes.shards.training import ModelChoice, Training


def check_curriculum(directory: Path, promised: Manifest) -> Iterator[Finding]:
    """Compile the recipe's curriculum anew and compare; nothing is said of one that is damaged, or of words unknown."""
    try:
        held = read_curriculum(directory)
        asked = _asked(promised)
    except (OrcaError, ValidationError, TypeError):
        return
    except (KeyError, ZeroDivisionError):
        yield Finding(NAME, "its recipe's curriculum names a dataset that the build does not hold, or without rows")
        return
    for part in Curriculum.model_fields:
        if getattr(held, part) != getattr(asked, part):
            yield Finding(NAME, f"{part}: it holds other values than the recipe in the manifest asks for")


def _asked(promised: Manifest) -> Curriculum:
    recipe = promised.recipe
    tables = recipe.get("curriculum")
    # As JSON: the grammar is strict, and pydantic then takes a list for a tuple from JSON alone.
    phases = [Phase.model_validate_json(json.dumps(table)) for table in (tables if isinstance(tables, list) else ())]
    sizes = {
        name: DatasetSize(counts.rows, counts.tokens, counts.trained_tokens)
        for name, counts in promised.datasets.items()
    }
    compiled = compiled_curriculum(
        [AskedPhase(phase.weights, phase.passes, phase.tokens, phase.training.given()) for phase in phases], sizes
    )
    model, training = (recipe.get(name) for name in ("model", "training"))
    return compiled.model_copy(
        update={
            "model": None if model is None else ModelChoice.model_validate_json(json.dumps(model)),
            "training": None if training is None else Training.model_validate_json(json.dumps(training)),
        }
    )
