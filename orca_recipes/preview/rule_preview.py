"""The part of a plan that tells how the rules cover the recipe: gathered from the store, or from declared tasks.

Before a draw was made, its rows are spread over the tasks as it would in the mean: the sums are right, and what each
rule gets is near.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from orca_recipes.counted import counted
from orca_recipes.plan.mixture import largest_remainder
from orca_recipes.plan.used_parts import taken_collections
from orca_recipes.preview.mixture_counts import MixtureView
from orca_recipes.recipe.mixtures import Take
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.conversations.matching_rule import QuestionCounter
from orca_recipes.run.conversations.rule_coverage import (
    Matched,
    RuleView,
    check_patterns,
    coverage,
    declared_matches,
    exact_matches,
    in_words,
)
from orca_recipes.run.examples.selection import taken_copies
from orca_recipes.text_table import in_columns

if TYPE_CHECKING:
    from orca_recipes.run.build import Prepared
    from orca_recipes.store.store import Store


# Names of tasks share their line with rule, strategy and counts.
_WIDTH = 60


def exact_coverage(prepared: Prepared, store: Store, mixtures: Mapping[str, MixtureView]) -> tuple[RuleView, ...]:
    """Count the rules' coverage by the examples read and the draws made; for others, as `declared_coverage`.

    Raises: RuleError where a rule's pattern fits no task that there is.
    """
    recipe = prepared.recipe
    if not _has_rules(recipe):
        return ()
    counter = QuestionCounter(recipe.tokenizer, prepared.student.folder)
    matched: dict[tuple[str, str], Matched | None] = {}
    tasks: dict[str, list[str]] = {}
    for dataset in recipe.datasets:
        for name in taken_collections(recipe, dataset):
            drawn = f"mix {recipe.datasets[dataset].mixture}/{name}"
            read, mix = (store.folder(prepared.plan[stage]) for stage in (f"read {name}", drawn))
            if read.finished:
                tasks[name] = list(read.receipt["report"]["tasks"])
                selected = taken_copies(mix) if mix.finished else None
                matched[dataset, name] = exact_matches(recipe, name, read, selected, counter)
            else:
                matched[dataset, name] = _declared(recipe, dataset, name, mixtures)
    check_patterns(recipe, tasks)
    return coverage(recipe, matched)


def declared_coverage(recipe: Recipe, mixtures: Mapping[str, MixtureView]) -> tuple[RuleView, ...]:
    """Count the rules' coverage by the tasks that sources declare and the rows of mixtures, before anything is read."""
    if not _has_rules(recipe):
        return ()
    pairs = [(dataset, name) for dataset in recipe.datasets for name in taken_collections(recipe, dataset)]
    return coverage(recipe, {pair: _declared(recipe, *pair, mixtures) for pair in pairs})


def rule_table(rules: tuple[RuleView, ...]) -> str:
    """Lay out the views as a table, with a sentence for each rule that matches nothing and for examples without a
    rule."""
    if not rules:
        return ""
    lines: list[tuple[str, ...]] = [("dataset", "rule", "when", "strategy", "examples", "state", "tasks")]
    for view in filter(_concerns, rules):
        examples = (f"{view.least:,} or more" if view.least else "?") if view.examples is None else f"{view.examples:,}"
        examples += f" (and {view.created:,} by expand)" if view.created else ""
        number = "none" if view.number is None else str(view.number)
        lines.append((view.dataset, number, view.when, view.strategy, examples, view.state, _tasks(view)))
    return "\n".join([*in_columns(lines), *_remarks(rules)])


def _concerns(view: RuleView) -> bool:
    """Tell whether a rule matches examples of a dataset; one that matches nothing of any is named once, below the
    table."""
    return view.examples != 0


def _tasks(view: RuleView) -> str:
    """List the largest tasks that fit into a line, and the number of the others."""
    shown = [name for end, name in enumerate(view.tasks) if end == 0 or len(", ".join(view.tasks[: end + 1])) <= _WIDTH]
    more = view.more_tasks + len(view.tasks) - len(shown)
    return ", ".join([*shown, *([f"{more:,} more"] if more else [])])


def _remarks(rules: tuple[RuleView, ...]) -> list[str]:
    found = [
        f"dataset {view.dataset}: no rule is for {counted(view.examples, 'example')}, which a build will refuse: "
        "add a rule, or one without `when` at the end"
        for view in rules
        if view.number is None and view.examples is not None
    ]
    counts: dict[tuple[int, str], set[int | None]] = {}
    for view in rules:
        if view.number is not None:
            counts.setdefault((view.number, view.when), set()).add(view.examples)
    idle = [(number, when) for (number, when), seen in counts.items() if seen == {0}]
    return found + [f"nothing falls under rule {number} ({when})" for number, when in idle]


def _has_rules(recipe: Recipe) -> bool:
    """Tell whether the recipe has rules to tell of: one without conditions alone covers everything, as it is."""
    first, *others = recipe.rules
    return bool(others) or in_words(first.when) != "everything" or first.expand == "each"


def _declared(recipe: Recipe, dataset: str, collection: str, mixtures: Mapping[str, MixtureView]) -> Matched | None:
    tasks = recipe.collections[collection].declared_tasks()
    name = recipe.datasets[dataset].mixture
    taken = mixtures[name].collections[collection]
    if not tasks or taken.rows is None:
        return None
    rooms = _rooms(tasks, recipe.mixtures[name].take.get(collection), taken.level)
    return declared_matches(recipe, collection, dict(zip(tasks, largest_remainder(taken.rows, rooms), strict=True)))


def _rooms(tasks: Mapping[str, int], take: Take | None, level: int | None) -> list[int]:
    """Return the most rows to take of each task: all, or the limit of the take or the level of large tasks."""
    most = level if take is None or take.per_task is None else take.per_task
    return [size if most is None else min(size, most) for size in tasks.values()]
