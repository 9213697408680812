"""The counts of a build against what its recipe asked for, and stage against stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from orca_recipes.shards.manifest import NAME, DatasetCounts, Manifest, StageCounts
from orca_recipes.shards.report import Finding


@dataclass(frozen=True)
class _Draw:
    """One `mix` stage: what it took in and gave out, and how many rows the recipe asks for."""

    stage: StageCounts
    asked: int


def check_plan_counts(promised: Manifest) -> Iterator[Finding]:
    """Every draw gave what recipe and limit ask for, and no stage lost rows on the way."""
    for dataset, counts in promised.datasets.items():
        yield from _check_chain(dataset, counts)
    for draw in _draws(promised):
        planned = draw.asked if promised.limit is None else min(draw.asked, promised.limit)
        if draw.stage.out != planned:
            words = f"stage {draw.stage.name} gave {draw.stage.out} rows, where {planned} were asked for"
            yield Finding(NAME, words)


def _draws(promised: Manifest) -> Iterator[_Draw]:
    for dataset, counts in promised.datasets.items():
        for stage in counts.stages:
            if stage.name.startswith("mix "):
                take = _take(promised.recipe, dataset, stage.name.removeprefix(f"mix {dataset}/"))
                if take is not None:
                    yield _Draw(stage, stage.taken if take.get("rows") is None else take["rows"])


def _take(recipe: Mapping[str, Any], dataset: str, collection: str) -> Mapping[str, Any] | None:
    """What the recipe takes of a collection; everything where it has no mixtures, None where it says more than rows."""
    mixtures = recipe.get("mixtures")
    if not mixtures:
        return {"all": True}
    name = recipe.get("datasets", {}).get(dataset, {}).get("mixture")
    mixture = next(iter(mixtures.values())) if name is None and len(mixtures) == 1 else mixtures.get(name, {})
    take: Mapping[str, Any] | None = mixture.get("take", {}).get(collection)
    return take if take is not None and take.keys() <= {"all", "rows"} else None


def _check_chain(dataset: str, counts: DatasetCounts) -> Iterator[Finding]:
    """What goes out of a stage goes into the next; what is packed is in the dataset."""
    stages = {stage.name: stage for stage in counts.stages}
    tokenized = 0
    for name in stages:
        if not name.startswith("mix "):
            continue
        subject = name.removeprefix("mix ")
        collection = subject.removeprefix(f"{dataset}/")
        line = [f"read {collection}", name, f"converse {subject}", f"tokenize {subject}"]
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
