"""Rows that each mixture takes of each collection, for `plan`: before and after the sources were scanned.

What sizes decide is worked out by the same arithmetic that draws; what only content decides (questions that two
collections hold) is known once the stage that draws is in the store, and is left open until then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Any

from orca_recipes.plan.mixing import by_rate, fixed_targets, mixture_collections, needed_mixtures
from orca_recipes.plan.mixture import divided_counts, group_counts, largest_remainder, task_rates, water_level
from orca_recipes.recipe.mixtures import Mixture, Take
from orca_recipes.recipe.model import Recipe
from orca_recipes.shards.records import DUPLICATE, EXCLUDED, HELD_OUT, RESERVED

EXACT, DECLARED, UNKNOWN = "exact", "declared", "unknown"


@dataclass(frozen=True)
class Known:
    """The known size of a collection: its rows, and the rows of each of its tasks; state: of both."""

    rows: int | None
    tasks: Mapping[str, int] | None
    state: str


@dataclass(frozen=True)
class TakenView:
    """A mixture's take of a collection, in rows and tokens; None where a number is not known.

    pool: rows of the collection. rows: examples taken, `repeats` of them rows that stand already. duplicates, excluded,
    held_out: rows that are left out for their question. level: rows of each large task under `uniform_tasks`, in the
    mean. drawn: rows, with those in reserve. state: "exact", "declared" (from sizes that nobody checked; what only
    content decides is left aside), or "unknown". tokens, asked_tokens: where the mixture's shares are of tokens, of
    those that tokens_of says; tokens are known once they are drawn.
    """

    pool: int | None
    rows: int | None
    repeats: int
    duplicates: int | None
    excluded: int | None
    held_out: int | None
    level: int | None
    drawn: int | None
    state: str
    tokens: int | None = None
    asked_tokens: int | None = None
    tokens_of: str | None = None


@dataclass(frozen=True)
class MixtureView:
    """A mixture: rows in all, None where that is not known; short: where more is asked for than there is."""

    rows: int | None
    collections: Mapping[str, TakenView]
    short: Mapping[str, int]


Report = Callable[[str, str], Mapping[str, Any] | None]
"""The report of the stage that drew a collection for a mixture, where the store holds it."""


def mixture_views(recipe: Recipe, known: Mapping[str, Known], reports: Report) -> dict[str, MixtureView]:
    """Count the rows of all mixtures that datasets need, by name.

    Args:
        known: the collections. reports: of finished draws, without a limit.
    """
    views: dict[str, MixtureView] = {}
    for name in needed_mixtures(recipe):
        mixture = recipe.mixtures[name]
        collections = mixture_collections(recipe, name)
        drawn = {found: reports(name, found) for found in collections}
        if all(report is not None for report in drawn.values()):
            taken = {found: _drawn(report) for found, report in drawn.items() if report is not None}
            views[name] = MixtureView(_sum(taken), taken, {})
        elif mixture.take:
            views[name] = _from_sizes(recipe, name, known, drawn)
        else:
            views[name] = _of_another(recipe, name, views, known)
    return views


def _drawn(report: Mapping[str, Any]) -> TakenView:
    """Read the counts of a take from the report of its finished draw."""
    left = report["left_out"]
    kept = report.get("kept_at_most")
    return TakenView(
        pool=report["in"],
        rows=report["out"] if kept is None else min(kept, report["out"]),
        repeats=report["created"].get("repeat", 0),
        duplicates=left.get(DUPLICATE, 0),
        excluded=left.get(EXCLUDED, 0) + left.get(RESERVED, 0),
        held_out=left.get(HELD_OUT, 0),
        level=report.get("level"),
        drawn=report["out"],
        state=EXACT,
        tokens=report.get("tokens"),
        asked_tokens=report["asked"] if "tokens" in report else None,
        tokens_of=report.get("tokens_of"),
    )


def _from_sizes(
    recipe: Recipe, name: str, known: Mapping[str, Known], drawn: Mapping[str, Mapping[str, Any] | None]
) -> MixtureView:
    mixture = recipe.mixtures[name]
    fixed = fixed_targets(mixture)
    targets = {
        found: _target_by_rate(recipe, name, found, known) if mixture.take[found].is_by_rate else fixed[found]
        for found in drawn
    }
    taken = {
        found: _drawn(report)
        if report is not None
        else _taken(mixture, mixture.take[found], known[found], targets[found], _is_by_content(mixture, place))
        for place, (found, report) in enumerate(drawn.items())
    }
    if mixture.holdout is not None:
        taken = _less_holdout(mixture, taken)
    short = {} if mixture.tokens is not None else _short(targets, taken)
    return MixtureView(_sum(taken), taken, short)


def _short(targets: Mapping[str, int | None], taken: Mapping[str, TakenView]) -> dict[str, int]:
    """Return collections that have fewer rows than are asked of them, with how many fewer."""
    pairs = ((name, asked, taken[name].rows) for name, asked in targets.items())
    known = ((name, asked, rows) for name, asked, rows in pairs if asked is not None and rows is not None)
    return {name: asked - rows for name, asked, rows in known if asked > rows}


def _target_by_rate(recipe: Recipe, name: str, found: str, known: Mapping[str, Known]) -> int | None:
    """Count the rows asked of a collection whose tasks' rates decide, None where sizes that are not known do."""
    mixture = recipe.mixtures[name]
    rates: dict[str, Fraction] = {}
    for other in by_rate(recipe, name):
        tasks, take = known[other].tasks, mixture.take[other]
        if tasks is None:
            return None
        sizes = [number for task, number in tasks.items() if take.is_of_task(task)]
        rates[other] = sum(task_rates(sizes, cap=take.cap, temperature=take.temperature), Fraction(0))
    return divided_counts(mixture, rates)[found]


def _is_by_content(mixture: Mixture, place: int) -> bool:
    """Tell whether the rows to draw of a mixture's collection depend on the text of questions."""
    return bool(mixture.exclude or mixture.holdout or (place and mixture.duplicates != "keep"))


def _of_its_tasks(take: Take, known: Known) -> Known:
    """Reduce the known size of a collection to the tasks of a take."""
    if not take.tasks:
        return known
    if known.tasks is None:
        return Known(None, None, UNKNOWN)
    tasks = {task: number for task, number in known.tasks.items() if take.is_of_task(task)}
    return Known(sum(tasks.values()), tasks, known.state)


def _taken(mixture: Mixture, take: Take, known: Known, target: int | None, is_by_content: bool) -> TakenView:
    known = _of_its_tasks(take, known)
    rows, level = _rows(mixture, take, known, target)
    repeats = max(0, rows - known.rows) if rows is not None and known.rows is not None else 0
    if take.repeat > 1 and rows is not None:
        # -(-rows // repeat) is rows / repeat, rounded up: how many different rows there are.
        repeats = rows - -(-rows // take.repeat)
    left = None if is_by_content else 0
    state = UNKNOWN if rows is None else DECLARED if is_by_content else known.state
    view = TakenView(known.rows, rows, repeats, left, left, left, level, rows, state)
    return replace(view, asked_tokens=target, tokens_of=mixture.tokens_of) if _is_of_tokens(mixture, take) else view


def _is_of_tokens(mixture: Mixture, take: Take) -> bool:
    return take.divides and mixture.tokens is not None


def _rows(mixture: Mixture, take: Take, known: Known, target: int | None) -> tuple[int | None, int | None]:
    """Count the rows taken, and the level of large tasks; None for either where it is not known or not used."""
    if _is_of_tokens(mixture, take):
        return None, None
    if take.per_category is not None:
        return None, None
    sizes = None if known.tasks is None else list(known.tasks.values())
    if take.per_task is not None:
        return (None if sizes is None else sum(group_counts(take, sizes, None))), None
    if take.all:
        return (None if known.rows is None else known.rows * take.repeat), None
    if target is None or known.rows is None:
        return target, None
    there = known.rows * take.most
    rows = min(target, there)
    level = None
    if take.draw == "uniform_tasks" and sizes is not None:
        level = ceil(water_level([size * take.most for size in sizes], rows))
    return rows, level


def _less_holdout(mixture: Mixture, taken: Mapping[str, TakenView]) -> dict[str, TakenView]:
    """Lessen takes of everything by what is held out of them; each other take still has its rows."""
    counts = [view.rows for view in taken.values()]
    if mixture.holdout is None or any(count is None for count in counts):
        return dict(taken)
    parts = largest_remainder(mixture.holdout, [count or 0 for count in counts])
    made = {}
    for (name, view), part in zip(taken.items(), parts, strict=True):
        less = part * mixture.take[name].repeat if mixture.take[name].all and view.state != EXACT else 0
        rows = None if view.rows is None else view.rows - less
        made[name] = TakenView(**{**vars(view), "rows": rows, "drawn": rows, "held_out": view.held_out or part})
    return made


def _of_another(recipe: Recipe, name: str, views: Mapping[str, MixtureView], known: Mapping[str, Known]) -> MixtureView:
    """Count a part or a hold-out: its rows are as the recipe says, and of each collection about its part of them."""
    mixture = recipe.mixtures[name]
    outer = views[mixture.from_ or mixture.holdout_of or name]
    asked = mixture.rows if mixture.from_ is not None else recipe.mixtures[mixture.holdout_of or name].holdout
    counts = {found: view.rows for found, view in outer.collections.items()}
    parts: dict[str, int | None] = dict.fromkeys(counts)
    if asked is not None and all(count is not None for count in counts.values()):
        whole = [count or 0 for count in counts.values()]
        parts |= dict(zip(counts, largest_remainder(min(asked, sum(whole)), whole), strict=True))
    taken = {
        found: TakenView(known[found].rows, part, 0, 0, None, 0, None, part, UNKNOWN if part is None else DECLARED)
        for found, part in parts.items()
    }
    there = outer.rows
    short = {} if there is None or asked is None or asked <= there else {"": asked - there}
    return MixtureView(asked if not short else there, taken, short)


def _sum(taken: Mapping[str, TakenView]) -> int | None:
    counts = [view.rows for view in taken.values()]
    return None if any(count is None for count in counts) else sum(count or 0 for count in counts)
