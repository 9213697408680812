"""The counts of a build against what its recipe asked for, and stage against stage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise

from pydantic import ValidationError

from orca_recipes.contract.spelling import quoted
from orca_recipes.plan.mixing import fixed_target
from orca_recipes.plan.mixture import with_reserve
from orca_recipes.recipe.mixtures import Mixture, Take
from orca_recipes.shards.checks.verify_report import Finding
from orca_recipes.shards.manifest import NAME, DatasetCounts, Manifest, StageCounts
from orca_recipes.shards.records import NOT_DRAWN

Bounds = tuple[int, int]
"""The fewest and the most rows that a draw may give."""


def check_plan_counts(promised: Manifest) -> Iterator[Finding]:
    """Check that every draw gave the rows recipe and limit ask for, and no stage lost rows on the way."""
    mixtures = mixtures_of(promised)
    if isinstance(mixtures, Finding):
        yield mixtures
        return
    for dataset, counts in promised.datasets.items():
        name = mixture_of(promised, dataset, mixtures)
        yield from _check_chain(dataset, name, counts)
        draws = [stage for stage in counts.stages if stage.name.startswith(f"mix {name}/")]
        for stage in draws:
            yield from _check_draw(stage, mixtures[name], promised.limit)
        if promised.limit is None:
            yield from _check_whole(name, mixtures, draws)


def mixtures_of(promised: Manifest) -> Mapping[str, Mixture] | Finding:
    """Read the mixtures of a build's recipe; without any, the one that takes everything. A Finding tells of a fault in
    them."""
    tables = promised.recipe.get("mixtures")
    if not isinstance(tables, dict) or not tables:
        collections = promised.recipe.get("collections")
        if not isinstance(collections, dict) or not collections:
            return Finding(NAME, "its recipe has no collections")
        return {"main": Mixture(take={name: Take(all=True) for name in collections})}
    try:
        # As JSON: the grammar is strict, and pydantic then takes a list for a tuple from JSON alone.
        mixtures = {name: Mixture.model_validate_json(json.dumps(table)) for name, table in tables.items()}
    except ValidationError:
        return Finding(NAME, "the mixtures of its recipe are none that this program knows")
    named = {other for found in mixtures.values() for other in (found.from_, found.holdout_of, *found.exclude) if other}
    named |= {mixture_of(promised, dataset, mixtures) for dataset in promised.datasets}
    if unknown := sorted(named - mixtures.keys()):
        return Finding(NAME, f"its recipe has no mixture {quoted(unknown[0])}, and names it")
    return mixtures


def mixture_of(promised: Manifest, dataset: str, mixtures: Mapping[str, Mixture]) -> str:
    """Name the mixture of a dataset; the only one, where the recipe does not say it."""
    tables = promised.recipe.get("datasets")
    table = tables.get(dataset) if isinstance(tables, dict) else None
    name = table.get("mixture") if isinstance(table, dict) else None
    return name if isinstance(name, str) else next(iter(mixtures))


def _check_draw(stage: StageCounts, mixture: Mixture, limit: int | None) -> Iterator[Finding]:
    take = mixture.take.get(stage.name.partition("/")[2])
    bounds = None if take is None else _bounds(stage, take, mixture)
    if bounds is None:
        return
    fewest, most = (bound if limit is None else min(bound, limit) for bound in bounds)
    if not fewest <= stage.out <= most:
        asked = f"{most}" if fewest == most else f"{fewest} to {most}"
        yield Finding(NAME, f"stage {stage.name} gave {stage.out} rows, where {asked} were asked for")


def _bounds(stage: StageCounts, take: Take, mixture: Mixture) -> Bounds | None:
    """Bound the rows that a take asks for; None where tasks, rates or tokens decide it, which a build does not tell."""
    if take.all:
        drawable = stage.taken - sum(number for reason, number in stage.rejected.items() if reason != NOT_DRAWN)
        return drawable * take.repeat, drawable * take.repeat
    if take.is_by_rate or take.per_task or take.per_category or (take.divides and mixture.tokens is not None):
        return None
    asked = fixed_target(mixture, stage.name.partition("/")[2]) or 0
    return 0 if take.allow_shortfall else asked, with_reserve(asked, take.reserve)


def _check_whole(name: str, mixtures: Mapping[str, Mixture], draws: list[StageCounts]) -> Iterator[Finding]:
    """Check that a part of a mixture, or a hold-out, has as many rows as were asked for, over all collections."""
    mixture = mixtures[name]
    asked = mixtures[mixture.holdout_of].holdout if mixture.holdout_of is not None else mixture.rows
    given = sum(stage.out for stage in draws)
    if not mixture.take and asked != given:
        yield Finding(NAME, f"mixture {name} gave {given} rows, where {asked} were asked for")


def _check_chain(dataset: str, mixture: str, counts: DatasetCounts) -> Iterator[Finding]:
    """Check that each stage takes in all rows of the one before, and the dataset holds all packed examples."""
    stages = {stage.name: stage for stage in counts.stages}
    tokenized = 0
    for name in stages:
        if not name.startswith("mix "):
            continue
        collection = name.removeprefix(f"mix {mixture}/")
        subject = f"{dataset}/{collection}"
        line = [
            f"read {collection}",
            name,
            *(f"{verb} {subject}" for verb in ("ask", "answer", "converse", "sift", "keep", "tokenize")),
        ]
        known = [stages[step] for step in line if step in stages]
        yield from _check_line(known)
        tokenized += known[-1].out
    packed = stages.get(f"pack {dataset}")
    if packed is None:
        return
    if packed.taken != tokenized:
        yield Finding(NAME, f"stage {packed.name} took in {packed.taken} examples, where {tokenized} were tokenized")
    if packed.out != counts.examples:
        yield Finding(
            NAME, f"stage {packed.name} gave {packed.out} examples, and dataset {dataset} has {counts.examples}"
        )


def _check_line(line: list[StageCounts]) -> Iterator[Finding]:
    for before, after in pairwise(line):
        if before.out != after.taken:
            yield Finding(
                NAME, f"stage {after.name} took in {after.taken} rows, where stage {before.name} gave {before.out}"
            )
