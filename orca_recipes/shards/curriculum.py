"""The curriculum of a build, `DIR/curriculum.json`: which datasets a model is trained on, in which order, how often.

A trainer reads it beside the manifest, and never a recipe. A build without a curriculum has no phases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orca_recipes.shards.digests import canonical_json
from orca_recipes.shards.files import damage, read_whole, write_whole

NAME = "curriculum.json"


class CurriculumPhase(BaseModel):
    """One step: so many epochs of one dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dataset: str
    epochs: Annotated[int, Field(gt=0)]


class Curriculum(BaseModel):
    """The phases in order."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    phases: tuple[CurriculumPhase, ...] = ()


def write_curriculum(directory: Path, curriculum: Curriculum) -> Path:
    """Publish `directory/curriculum.json`."""
    path = directory / NAME
    write_whole(path, canonical_json(curriculum.model_dump(mode="json")))
    return path


def read_curriculum(directory: Path) -> Curriculum:
    """The curriculum of a build.

    Raises: DamagedShard where it is missing or cannot be read.
    """
    path = directory / NAME
    try:
        return Curriculum.model_validate_json(read_whole(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise damage(path, f"it is no curriculum: {where}: {first['msg']}") from error
