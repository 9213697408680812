"""A take of a mixture over what is left to it: without duplicates, excluded questions and what is held out."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.errors import MixtureError
from orca_recipes.plan.mixing import by_rate, earlier_holders, fixed_targets, measure_stage, mixture_collections
from orca_recipes.plan.mixture import divided_counts, task_rates
from orca_recipes.recipe.mixtures import Mixture, Take
from orca_recipes.run.examples.context_holders import ContextHolders
from orca_recipes.run.examples.duplicates import Contexts, duplicate_rows, duplicates, no_duplicates, of_taken_tasks
from orca_recipes.run.examples.selection import (
    DUPLICATE_ROW,
    EXCLUDED_ROW,
    HELD_OUT_ROW,
    OTHER_TASK_ROW,
    RESERVED_ROW,
    asked_of,
    read_selection,
)
from orca_recipes.run.mixtures.measure import read_tokens
from orca_recipes.run.mixtures.pools import Collection, mark
from orca_recipes.run.mixtures.questions import Questions, held_questions, read_questions
from orca_recipes.run.mixtures.takes import TakeDraw, grouping_of
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.stage_folder import StageFolder

if TYPE_CHECKING:
    import polars as pl


def draw_of(bench: Bench, name: str, found: str, allot: StageFolder | None, twins: pl.DataFrame) -> TakeDraw:
    """Prepare a take over the rows left to it. allot: the mixture's hold-out, if it is known already. twins: the rows
    that an earlier collection holds."""
    mixture = bench.recipe.mixtures[name]
    take = mixture.take[found]
    is_of_tokens = take.divides and mixture.tokens is not None
    weight = None
    if is_of_tokens:
        measured = bench.folder(measure_stage(bench.recipe, name, found))
        weight = read_tokens(measured, trained=mixture.tokens_of == "trained")
    collection = Collection(_read(bench, found), grouping_of(take), weight)
    selection = collection.fresh()
    selection[duplicate_rows(twins)] = DUPLICATE_ROW
    if take.tasks:
        _mark_other_tasks(selection, _read(bench, found), take, where=f"mixtures.{name}.take.{found}")
    mark_excluded(bench, selection, found, mixture)
    if allot is not None:
        mark(selection, questions_of(bench, found), [held_questions(allot)], HELD_OUT_ROW)
    return TakeDraw(
        take=take,
        name=found,
        collection=collection,
        selection=selection,
        target=_target(bench, name, found),
        seed=bench.recipe.seed,
        where=f"mixtures.{name}.take.{found}",
        tokens_of=mixture.tokens_of if is_of_tokens else None,
    )


def _target(bench: Bench, name: str, found: str) -> int | None:
    targets = bench.shared(MixtureFacts).targets
    if name not in targets:
        targets[name] = _targets(bench, name)
    return targets[name][found]


def _targets(bench: Bench, name: str) -> dict[str, int | None]:
    """Return what is asked of each collection, all of which are read where one is taken by the rates of its tasks."""
    mixture = bench.recipe.mixtures[name]
    rates: dict[str, Fraction] = {}
    for other in by_rate(bench.recipe, name):
        take, tasks = mixture.take[other], _read(bench, other).receipt["report"]["tasks"]
        sizes = [number for task, number in tasks.items() if take.is_of_task(task)]
        own = task_rates(sizes, cap=take.cap, temperature=take.temperature)
        rates[other] = sum(own, Fraction(0))
    return fixed_targets(mixture) | (divided_counts(mixture, rates) if rates else {})


def _mark_other_tasks(selection: np.ndarray, read: StageFolder, take: Take, *, where: str) -> None:
    """Mark the rows of tasks that are not taken.

    Raises: MixtureError where a pattern fits no task that there is.
    """
    there = read.receipt["report"]["tasks"]
    for glob in take.tasks:
        if not any(fnmatchcase(task, glob) for task in there):
            raise MixtureError(f"{where}.tasks: no task fits {quoted(glob)}{hint(glob, there)}")
    selection[(selection == 0) & ~of_taken_tasks(read, take)] = OTHER_TASK_ROW


def mark_excluded(bench: Bench, selection: np.ndarray, found: str, mixture: Mixture) -> None:
    """Mark the rows whose questions other mixtures hold; what those hold in reserve may be nobody's in the end, and
    has a number of its own."""
    for other in mixture.exclude:
        held, spare = [], []
        for holder in mixture_collections(bench.recipe, other):
            mix, questions = bench.folder(f"mix {other}/{holder}"), questions_of(bench, holder)
            asked = asked_of(mix) > 0
            held.append(questions.of(asked))
            spare.append(questions.of((read_selection(mix) > 0) & ~asked))
        mine = questions_of(bench, found)
        mark(selection, mine, held, EXCLUDED_ROW)
        mark(selection, mine, spare, RESERVED_ROW)


@dataclass
class MixtureFacts:
    """Facts that all takes of a mixture share, found once a build; by mixture.

    holders: of contexts. earlier: collections, each with the number of those that own the rows it also holds.
    """

    holders: dict[str, ContextHolders] = field(default_factory=dict)
    earlier: dict[str, dict[str, int]] = field(default_factory=dict)
    targets: dict[str, dict[str, int | None]] = field(default_factory=dict)


def duplicates_of(bench: Bench, name: str, found: str) -> pl.DataFrame:
    """Find the rows of a collection whose whole context an earlier one of a mixture holds, in tasks that are taken of
    both."""
    facts = bench.shared(MixtureFacts)
    places = facts.earlier.get(name)
    if places is None:
        places = facts.earlier.setdefault(name, earlier_holders(bench.recipe, name))
    if not places[found]:
        return no_duplicates()
    names = tuple(places)
    holders = facts.holders.setdefault(name, ContextHolders())

    def contexts(number: int) -> Contexts:
        collection = names[number]
        take = bench.recipe.mixtures[name].take[collection]
        return Contexts(_read(bench, collection), bench.folder(f"contexts {collection}"), take)

    return duplicates(contexts(names.index(found)), places[found], contexts, holders)


def questions_of(bench: Bench, collection: str) -> Questions:
    """Read the questions of a collection."""
    return read_questions(bench.folder(f"questions {collection}"))


def _read(bench: Bench, collection: str) -> StageFolder:
    return bench.folder(f"read {collection}")
