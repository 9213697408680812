"""The relations between a recipe's mixtures, and the stages that draw them.

A mixture's stages belong to the mixture, not to the datasets that use it, so that these share them. What a draw of a
collection depends on is all that its stage takes in: of other collections only earlier ones (for questions that both
hold), so that a collection added at the end reruns only its own stages.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.plan.mixture import divided_counts
from orca_recipes.plan.stage_inputs import LISTED, Stretch, each_once, inputs_of
from orca_recipes.plan.stages import PlanBuilder
from orca_recipes.recipe.measured import counts_answers, datasets_taking
from orca_recipes.recipe.mixtures import Mixture, Take
from orca_recipes.recipe.model import Recipe

MIXING = ("contexts", "questions", "measure", "allot", "mix")
"""Verbs that decide what is taken, before anything is asked."""


def line_of(mixtures: Mapping[str, Mixture], name: str) -> tuple[str, ...]:
    """List a mixture and the mixtures it is a part of, outwards."""
    line = [name]
    while (outer := mixtures[line[-1]].from_) is not None and outer not in line:
        line.append(outer)
    return tuple(line)


def mixture_collections(recipe: Recipe, name: str) -> tuple[str, ...]:
    """List the collections that a mixture draws from, in recipe order."""
    mixture = recipe.mixtures[name]
    outer = mixture.from_ or mixture.holdout_of
    if outer is not None:
        return mixture_collections(recipe, outer)
    return tuple(collection for collection in recipe.collections if collection in mixture.take)


def needed_mixtures(recipe: Recipe) -> tuple[str, ...]:
    """List the mixtures that datasets use, after the ones they are made of or held against."""
    found: dict[str, None] = {}

    def need(name: str) -> None:
        mixture = recipe.mixtures[name]
        for other in (mixture.from_, *mixture.exclude):
            if other is not None and other not in found:
                need(other)
        if mixture.holdout_of is not None and mixture.holdout_of not in found:
            need(mixture.holdout_of)
        found[name] = None

    for dataset in recipe.datasets.values():
        compared = [name for kind in dataset.comparisons for name in kind.mixtures()]
        for name in (*compared, dataset.mixture):
            if name not in found:
                need(name)
    return tuple(found)


def are_apart(mixtures: Mapping[str, Mixture], one: str, other: str) -> bool:
    """Tell whether the recipe keeps two mixtures apart: no question may stand in both."""
    return any(
        outer in mixtures[inner].exclude or mixtures[inner].holdout_of == outer
        for mine in line_of(mixtures, one)
        for theirs in line_of(mixtures, other)
        for inner, outer in ((mine, theirs), (theirs, mine))
    )


def is_kept_apart(recipe: Recipe, dataset: str) -> bool:
    """Tell whether another dataset may hold none of a dataset's questions, so its records must keep their digests."""
    mine = recipe.datasets[dataset].mixture
    others = (chosen.mixture for name, chosen in recipe.datasets.items() if name != dataset)
    return any(are_apart(recipe.mixtures, mine, other) for other in others)


def fixed_target(mixture: Mixture, collection: str) -> int | None:
    """Return the rows (or tokens) asked of a collection; None where the recipe alone does not say how many."""
    take = mixture.take[collection]
    return divided_counts(mixture, {})[collection] if take.share is not None else take.rows


def fixed_targets(mixture: Mixture) -> dict[str, int | None]:
    """Return `fixed_target` of each collection of a mixture at once: all of its shares are divided together."""
    divides = any(take.share is not None for take in mixture.take.values())
    divided = divided_counts(mixture, {}) if divides else {}
    return {name: divided.get(name, take.rows) for name, take in mixture.take.items()}


def by_rate(recipe: Recipe, name: str) -> tuple[str, ...]:
    """List the collections of a mixture that take a part by the rates of their tasks."""
    take = recipe.mixtures[name].take
    return tuple(found for found in mixture_collections(recipe, name) if found in take and take[found].is_by_rate)


def earlier_holders(recipe: Recipe, name: str) -> dict[str, int]:
    """Count, for each collection of a mixture in its order, how many of the first ones own the rows it also holds."""
    taken = mixture_collections(recipe, name)
    keeps = recipe.mixtures[name].duplicates == "keep"
    return {collection: 0 if keeps else place for place, collection in enumerate(taken)}


def measure_stage(recipe: Recipe, name: str, collection: str) -> str:
    """Name the stage that counts the tokens for a mixture's shares."""
    if not counts_answers(recipe.mixtures[name]):
        return f"measure {collection}"
    return f"measure {measured_dataset(recipe, name)}/{collection}"


def measured_dataset(recipe: Recipe, name: str) -> str:
    """Name the dataset whose conversations are counted for a mixture's tokens: the first that takes it."""
    return datasets_taking(recipe, name)[0]


def add_mixtures(
    plan: PlanBuilder,
    recipe: Recipe,
    student: tuple[str, str],
    limit: int | None,
    *,
    measure: Callable[[str, str], str],
) -> None:
    """Add the stages that draw every needed mixture; all `read` stages are there.

    Args:
        student: the stages of the recipe's tokenizer and template, for shares of tokens.
        measure: adds the stage that counts the conversations of a dataset's collection, and names it.
    """
    for name in needed_mixtures(recipe):
        mixture = recipe.mixtures[name]
        stages = _Stages(plan, recipe, name, mixture, student[0], measure)
        if mixture.from_ is not None:
            stages.add_part(limit)
        elif mixture.holdout_of is not None:
            stages.add_holdout_of(limit)
        else:
            stages.add_takes(limit)


def context_columns(recipe: Recipe) -> tuple[str, ...] | None:
    """List the columns beside the conversation that tell rows apart: all that some strategy of a rule asks with; None:
    any that a row has."""
    told = [recipe.strategies[rule.strategy].columns() for rule in recipe.rules]
    known = [columns for columns in told if columns is not None]
    return None if len(known) < len(told) else tuple(sorted({name for columns in known for name in columns}))


def questions_stage(plan: PlanBuilder, collection: str) -> str:
    """Add the stage that keeps the digest of every question of a collection, once; return its name."""
    return plan.once("questions", collection, decisive={}, inputs=(f"read {collection}",))


class _Stages:
    """Adds the stages of one mixture."""

    def __init__(
        self,
        plan: PlanBuilder,
        recipe: Recipe,
        name: str,
        mixture: Mixture,
        tokenizer: str,
        measure: Callable[[str, str], str],
    ) -> None:
        self._plan, self._recipe, self._name, self._mixture = plan, recipe, name, mixture
        self._tokenizer, self._measure = tokenizer, measure
        self._collections = mixture_collections(recipe, name)
        self._reads = plan.line(f"read {found}" for found in self._collections)
        self._contexts = plan.line()
        self._targets = fixed_targets(mixture)

    def add_takes(self, limit: int | None) -> None:
        allot = self._add_holdout() if self._mixture.holdout is not None else None
        for place, collection in enumerate(self._collections):
            decisive = self._of_take(collection)
            if limit is not None:
                decisive |= {"limit": limit, "seed": self._recipe.seed}
            inputs = [*self._inputs(place), *([allot] if allot is not None else [])]
            if allot is not None:
                inputs.append(questions_stage(self._plan, collection))
            self._mix(collection, decisive, inputs)

    def add_part(self, limit: int | None) -> None:
        """Add the stages of a part of another mixture, decided for all collections at once, because one order goes
        through them all."""
        outer = self._mixture.from_
        inputs: list[str | Stretch] = [
            f"{verb}{found}" for found in self._collections for verb in ("read ", f"mix {outer}/")
        ]
        if self._mixture.exclude:
            inputs.append(self._of_excluded)
            inputs += [questions_stage(self._plan, found) for found in self._collections]
        decisive = {"part": self._mixture.rows, "exclude": len(self._mixture.exclude), "seed": self._recipe.seed}
        decisive |= self._reserved
        allot = self._plan.add("allot", self._name, kind="", decisive=decisive, inputs=inputs_of(inputs))
        for collection in self._collections:
            self._mix(collection, self._of_allotment(collection, limit), [f"read {collection}", allot])

    def add_holdout_of(self, limit: int | None) -> None:
        allot = f"allot {self._mixture.holdout_of}"
        for collection in self._collections:
            self._mix(collection, self._of_allotment(collection, limit), [f"read {collection}", allot])

    def _add_holdout(self) -> str:
        """Add the stage that sets rows aside, drawn as the mixture is: how many of each collection depends on all of
        them."""
        drawn = [stage for place in range(len(self._collections)) for stage in self._inputs(place)]
        inputs: list[str | Stretch] = [*each_once(drawn)]
        inputs += [questions_stage(self._plan, found) for found in self._collections]
        takes = {found: self._of_take(found) for found in self._collections}
        decisive = {"holdout": self._mixture.holdout, "takes": takes, "seed": self._recipe.seed}
        return self._plan.add("allot", self._name, kind="", decisive=decisive, inputs=inputs_of(inputs))

    def _mix(self, collection: str, decisive: Mapping[str, Any], inputs: Sequence[str | Stretch]) -> None:
        self._plan.add("mix", f"{self._name}/{collection}", kind="", decisive=decisive, inputs=inputs_of(inputs))

    def _of_take(self, collection: str) -> dict[str, Any]:
        take = self._mixture.take[collection]
        decisive: dict[str, Any] = {"take": take.model_dump(mode="json", exclude_defaults=True)}
        if (target := self._targets[collection]) is not None:
            decisive["target"] = target
        if take.divides and self._mixture.tokens is not None:
            decisive["unit"] = "tokens" if not counts_answers(self._mixture) else f"{self._mixture.tokens_of} tokens"
        if take.is_by_rate:
            decisive |= {"of": self._mixture.rows, "rates": self._rates}
        # Taking all draws nothing, so that another seed need not rerun it.
        if not take.all or self._mixture.holdout is not None:
            decisive["seed"] = self._recipe.seed
        # Arrival times are keyed by collection and task.
        if take.draw == "uniform_tasks":
            decisive["collection"] = collection
        return decisive | self._reserved | self._of_duplicates(collection)

    def _of_duplicates(self, collection: str) -> dict[str, Any]:
        """Tell of which tasks a row may be repeated here: those of other tasks are not taken, and own nothing."""
        told = None if self._mixture.duplicates == "keep" else self._tasks_up_to.get(collection)
        return {} if told is None or collection == self._collections[0] else {"duplicates_in": told}

    @cached_property
    def _tasks_up_to(self) -> dict[str, str]:
        """Digest the tasks that are taken of each collection and of those before it, from the first that leaves some
        out; a list would be told by each of thousands."""
        digests: dict[str, str] = {}
        told: str | None = None
        for found in self._collections:
            if tasks := self._mixture.take[found].tasks:
                told = digest_of([told, found, list(tasks)])
            if told is not None:
                digests[found] = told
        return digests

    @cached_property
    def _reserved(self) -> dict[str, Any]:
        """Mark draws that exclude a mixture with a reserve: older ones counted rows of the reserve as any others of
        that mixture."""
        takes = [take for other in self._mixture.exclude for take in self._recipe.mixtures[other].take.values()]
        return {"reserved": "apart"} if any(take.reserve is not None for take in takes) else {}

    @cached_property
    def _rates(self) -> Any:
        """Return the options that decide the parts of collections without an amount, beside the sizes of their
        tasks; of thousands of collections their digest, as each of them is told by all."""
        takes: Mapping[str, Take] = self._mixture.take
        by_rate = {found: takes[found].model_dump(mode="json", exclude_defaults=True) for found in self._by_rate}
        shares = [str(take.share) for take in takes.values() if take.share is not None]
        rates = {"takes": by_rate, "shares": shares}
        return rates if len(takes) <= LISTED else digest_of(rates)

    def _of_allotment(self, collection: str, limit: int | None) -> dict[str, Any]:
        decisive: dict[str, Any] = {"allotted": collection}
        return decisive if limit is None else decisive | {"limit": limit, "seed": self._recipe.seed}

    def _inputs(self, place: int) -> list[str | Stretch]:
        """List the input stages for a draw of a collection; place: among those of the mixture."""
        collection = self._collections[place]
        take = self._mixture.take[collection]
        inputs: list[str | Stretch] = [f"read {collection}"]
        if place and self._mixture.duplicates != "keep":
            inputs += [self._contexts_to(place), self._reads.stretch(place)]
        if self._mixture.exclude:
            inputs += [questions_stage(self._plan, collection), self._of_excluded]
        if take.is_by_rate:
            inputs.append(self._reads_by_rate)
        if take.divides and self._mixture.tokens is not None:
            inputs.append(self._measured(collection))
        return inputs

    def _measured(self, collection: str) -> str:
        """Add the stage that counts the tokens of a collection; return its name."""
        if counts_answers(self._mixture):
            return self._measure(measured_dataset(self._recipe, self._name), collection)
        inputs = (f"read {collection}", self._tokenizer)
        return self._plan.add("measure", collection, kind="", decisive={}, inputs=inputs)

    def _contexts_to(self, place: int) -> Stretch:
        """List the stages that digest the context of each answer, of the collections up to one, and add those not yet
        there."""
        for found in self._collections[len(self._contexts) : place + 1]:
            inputs = (f"read {found}",)
            self._contexts.append(self._plan.once("contexts", found, decisive=self._of_contexts, inputs=inputs))
        return self._contexts.stretch(place + 1)

    @cached_property
    def _of_contexts(self) -> dict[str, Any]:
        columns = context_columns(self._recipe)
        return {"columns": None if columns is None else list(columns)}

    @cached_property
    def _of_excluded(self) -> Stretch:
        return self._plan.line(
            stage
            for other in self._mixture.exclude
            for found in mixture_collections(self._recipe, other)
            for stage in (f"mix {other}/{found}", questions_stage(self._plan, found))
        ).stretch()

    @cached_property
    def _by_rate(self) -> tuple[str, ...]:
        return by_rate(self._recipe, self._name)

    @cached_property
    def _reads_by_rate(self) -> Stretch:
        return self._plan.line(f"read {found}" for found in self._by_rate).stretch()
