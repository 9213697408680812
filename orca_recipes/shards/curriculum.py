"""The curriculum of a build, `DIR/curriculum.json`: which rows a model is trained on, in which order, how often.

A trainer reads it beside the manifest, and never a recipe. A phase says how many rows it takes of each dataset, as
exact integers: row k of a dataset's n in a phase is row k mod size of pass k div size, in the order that trainer draws
from seed, phase and pass. So the file fixes what is trained on and says nothing of ranks, batches or machines. A build
without a curriculum has no phases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from orca_recipes.shards.digests import canonical_json
from orca_recipes.shards.files import damage, read_whole, write_whole
from orca_recipes.shards.training import ModelChoice, Training

NAME = "curriculum.json"


def _positive(text: str) -> str:
    if not Decimal(text):
        raise ValueError("must be above 0")
    return text


Weight = Annotated[str, Field(pattern=r"^[0-9]{1,18}(\.[0-9]{1,18})?$"), AfterValidator(_positive)]
Count = Annotated[int, Field(ge=0)]


class CurriculumPhase(BaseModel):
    """One step of the curriculum.

    datasets: dataset to its weight, a share of the phase's rows relative to the other weights.
    epochs, tokens: what the recipe asked for, one of the two: passes over all rows of the datasets together, or tokens.
    rows: dataset to the rows that it gives. first_row: rows of all phases before this one.
    seen_tokens, seen_trained_tokens: what the rows hold; a pass that is not finished counts by its share of the rows.
    training: the recipe's settings, passed through.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    datasets: Annotated[Mapping[str, Weight], Field(min_length=1)]
    epochs: Annotated[int, Field(gt=0)] | None = None
    tokens: Annotated[int, Field(gt=0)] | None = None
    rows: Mapping[str, Count]
    first_row: Count
    seen_tokens: Count
    seen_trained_tokens: Count
    training: Mapping[str, JsonValue] = {}

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.epochs is None) == (self.tokens is None):
            raise ValueError("must have epochs or tokens, one of the two")
        if self.rows.keys() != self.datasets.keys():
            raise ValueError("must say the rows of each of its datasets")
        return self


class Curriculum(BaseModel):
    """The phases in order."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    phases: tuple[CurriculumPhase, ...] = ()
    model: ModelChoice | None = None
    training: Training | None = None


@dataclass(frozen=True)
class AskedPhase:
    """A phase as a recipe asks for it; datasets without a weight are gone through whole."""

    datasets: Mapping[str, str | None]
    epochs: int | None
    tokens: int | None
    training: Mapping[str, JsonValue]


@dataclass(frozen=True)
class DatasetSize:
    """Size of a dataset: rows, their tokens without pads, and those that carry loss."""

    rows: int
    tokens: int
    trained_tokens: int


def compiled_curriculum(phases: Sequence[AskedPhase], sizes: Mapping[str, DatasetSize]) -> Curriculum:
    """Compile the phases to exact numbers of rows; every dataset named must have rows."""
    compiled, first_row = [], 0
    for phase in phases:
        weights = {name: weight or str(sizes[name].rows) for name, weight in phase.datasets.items()}
        rows = phase_rows(weights, epochs=phase.epochs, tokens=phase.tokens, sizes=sizes)
        compiled.append(
            CurriculumPhase(
                datasets=weights,
                epochs=phase.epochs,
                tokens=phase.tokens,
                rows=rows,
                first_row=first_row,
                seen_tokens=sum(_share(rows[name], sizes[name], sizes[name].tokens) for name in rows),
                seen_trained_tokens=sum(_share(rows[name], sizes[name], sizes[name].trained_tokens) for name in rows),
                training=phase.training,
            )
        )
        first_row += sum(rows.values())
    return Curriculum(phases=tuple(compiled))


def phase_rows(
    weights: Mapping[str, str], *, epochs: int | None, tokens: int | None, sizes: Mapping[str, DatasetSize]
) -> dict[str, int]:
    """Compute each dataset's rows in a phase: the phase's rows dealt by weight, with the largest remainder.

    Under `epochs` the phase has as many rows as so many passes over all its datasets; under `tokens` the fewest that
    hold so many tokens, taking each dataset's rows at their mean.
    """
    shares = {name: Fraction(Decimal(weight)) for name, weight in weights.items()}
    whole = sum(shares.values(), Fraction())
    if tokens is None:
        total = (epochs or 1) * sum(sizes[name].rows for name in shares)
    else:
        means = (share * Fraction(sizes[name].tokens, sizes[name].rows) for name, share in shares.items())
        total = math.ceil(tokens * whole / sum(means, Fraction()))
    exact = {name: total * share / whole for name, share in shares.items()}
    rows = {name: int(number) for name, number in exact.items()}
    # Ties go by name: the order of a table in a file decides nothing.
    left = sorted(exact, key=lambda name: (rows[name] - exact[name], name))
    for name in left[: total - sum(rows.values())]:
        rows[name] += 1
    return rows


def write_curriculum(directory: Path, curriculum: Curriculum) -> Path:
    """Publish `directory/curriculum.json`."""
    path = directory / NAME
    told = curriculum.model_dump(mode="json", exclude={"model", "training"})
    tables = {"model": curriculum.model, "training": curriculum.training}
    write_whole(path, canonical_json(told | {name: table.given() for name, table in tables.items() if table}))
    return path


def read_curriculum(directory: Path) -> Curriculum:
    """Read the curriculum of a build.

    Raises: DamagedShard where it is missing or cannot be read.
    """
    path = directory / NAME
    try:
        return Curriculum.model_validate_json(read_whole(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise damage(path, f"it is no curriculum: {where}: {first['msg']}") from error


def _share(rows: int, size: DatasetSize, tokens: int) -> int:
    """Compute the share of a dataset's tokens in some of its rows, to the nearest; exact after whole passes."""
    # In whole numbers, so that every machine writes the same curriculum.
    return (2 * tokens * rows + size.rows) // (2 * size.rows)
