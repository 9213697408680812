"""Coverage of a recipe's examples by rules: examples by rule, tasks without a rule, rules without an example.

Exact once a collection was read (of the mixture's draw, where that was made); before, by the tasks that a source
declares, where only rules that look at nothing but the task can be told.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.errors import RuleError
from orca_recipes.plan.used_parts import taken_collections, used_collections
from orca_recipes.recipe.model import Recipe
from orca_recipes.recipe.rules import Rule, When
from orca_recipes.run.conversations.matching_rule import UNMATCHED, QuestionCounter, first_matching, fitting, looked_at
from orca_recipes.run.examples.read import batches_of
from orca_recipes.run.examples.row_texts import brought_systems
from orca_recipes.store.arrow_files import IDS, read_frame

if TYPE_CHECKING:
    from orca_recipes.store.stage_folder import StageFolder

DECLARED, EXACT = "declared", "exact"
_SHOWN = 5


@dataclass(frozen=True)
class RuleView:
    """One rule of one dataset.

    number: from 1, in the recipe's order; None: what no rule is for. when: its conditions in words. examples: that fall
    under it, before it expands them; None where that is not known yet; least: those that are known. tasks: the largest;
    more_tasks: how many others.
    """

    dataset: str
    number: int | None
    when: str
    strategy: str
    examples: int | None
    least: int
    created: int
    tasks: tuple[str, ...]
    more_tasks: int
    state: str


@dataclass(frozen=True)
class Matched:
    """Examples of one collection by rule (place in the recipe, UNMATCHED) and task.

    headed: of each rule that expands, those that bring a system message, which stay one example.
    """

    counts: Mapping[tuple[int, str], int]
    state: str
    headed: Mapping[int, int] = field(default_factory=dict)


def coverage(recipe: Recipe, matched: Mapping[tuple[str, str], Matched | None]) -> tuple[RuleView, ...]:
    """Count the conversations under each rule of every dataset, as far as its collections are known.

    Args:
        matched: by dataset and collection; None where nothing is known of the collection.
    """
    views: list[RuleView] = []
    for dataset in recipe.datasets:
        parts = [matched[dataset, name] for name in taken_collections(recipe, dataset)]
        known = [part for part in parts if part is not None]
        total: Counter[tuple[int, str]] = Counter()
        for part in known:
            total.update(part.counts)
        state = EXACT if len(known) == len(parts) and all(part.state == EXACT for part in known) else DECLARED
        by_rule: dict[int, dict[str, int]] = {}
        for (rule, task), number in total.items():
            by_rule.setdefault(rule, {})[task] = number
        unknown = [name for name in taken_collections(recipe, dataset) if matched[dataset, name] is None]
        for place in [*range(len(recipe.rules)), *([UNMATCHED] if UNMATCHED in by_rule else [])]:
            counts = by_rule.get(place, {})
            is_known = not any(_is_open_to(recipe, place, name) for name in unknown)
            examples = sum(counts.values()) if is_known else None
            headed = sum(part.headed.get(place, 0) for part in known)
            views.append(_view(recipe, dataset, place, counts, examples, headed, state))
    return tuple(views)


def exact_matches(
    recipe: Recipe, collection: str, read: StageFolder, selected: np.ndarray | None, counter: QuestionCounter
) -> Matched:
    """Count the examples of a read collection by rule and task.

    Args:
        selected: how often each of its examples takes part (bool or counts); None: all that are kept, once.
    """
    import polars as pl

    places = [place for place, rule in enumerate(recipe.rules) if rule.when.may_match_collection(collection)]
    numbers = np.array([*places, UNMATCHED], dtype=np.int64)  # UNMATCHED is the last place of it, too
    whens = [recipe.rules[place].when for place in places]
    taken = read_frame(read.file(f"{IDS}.arrow"))["keep"].to_numpy() if selected is None else selected
    total: Counter[tuple[int, str]] = Counter()
    expanding = [place for place in places if recipe.rules[place].expand == "each" and not recipe.rules[place].replace]
    headed: Counter[int] = Counter()
    columns = ["task", *looked_at(whens), *(["system", "messages"] if expanding else [])]
    for batch in batches_of(read):
        rows = read_frame(batch.path, columns=list(dict.fromkeys(columns)))
        times = taken[batch.start : batch.stop].astype(np.int64)
        frame = rows.filter(pl.Series(times > 0)).with_columns(times=pl.Series(times[times > 0]))
        rule = pl.Series(numbers[first_matching(frame, whens, counter)])
        found = frame.select("task", "times").with_columns(rule=rule)
        sums = found.group_by("rule", "task").agg(pl.col("times").sum())
        total.update({(rule, task): times for rule, task, times in sums.iter_rows()})
        for place in expanding:
            own = (rule == place) & (brought_systems(frame).fill_null("") != "")
            headed[place] += int(frame["times"].filter(own).sum())
    return Matched(total, EXACT, headed)


def declared_matches(recipe: Recipe, collection: str, tasks: Mapping[str, int]) -> Matched | None:
    """Count by rule and task from declared tasks and the rows taken of each; None if a rule that may be the first has
    more conditions than collection and task."""
    firsts = _first_by_task(recipe.rules, collection, tasks)
    counts: Counter[tuple[int, str]] = Counter()
    for task, number in tasks.items():
        place = firsts.get(task, UNMATCHED)
        if place != UNMATCHED and not _asks_of_the_task_alone(recipe.rules[place].when):
            return None
        counts[place, task] += number
    return Matched(counts, DECLARED)


def check_patterns(recipe: Recipe, tasks: Mapping[str, Sequence[str]]) -> None:
    """Refuse a rule whose task pattern fits no task of its collections.

    Args:
        tasks: of each collection that some dataset takes; a collection that was not read is missing.
    Raises: RuleError.
    """
    used = used_collections(recipe)
    known: dict[tuple[str, ...], dict[str, None]] = {}
    for place, rule in enumerate(recipe.rules):
        chosen = rule.when.collection
        collections = tuple(name for name in used if name in chosen) if chosen else used
        if not rule.when.task or any(name not in tasks for name in collections):
            continue
        if collections not in known:
            known[collections] = dict.fromkeys(task for name in collections for task in tasks[name])
        there = known[collections]
        for pattern in rule.when.task:
            if next(fitting([pattern], there), None) is None:
                where = ", ".join(collections) or "no collection that is taken"
                near = hint(pattern, there)
                raise RuleError(f"rules.{place}.when.task: no task of {where} fits {quoted(pattern)}{near}")


def _is_open_to(recipe: Recipe, place: int, collection: str) -> bool:
    """Tell whether a rule may match examples of a collection."""
    return place != UNMATCHED and recipe.rules[place].when.may_match_collection(collection)


def _view(
    recipe: Recipe, dataset: str, place: int, counts: Mapping[str, int], examples: int | None, headed: int, state: str
) -> RuleView:
    tasks = sorted(counts, key=lambda task: (-counts[task], task))
    least = sum(counts.values())
    named, more = tuple(tasks[:_SHOWN]), max(0, len(tasks) - _SHOWN)
    if place == UNMATCHED:
        return RuleView(dataset, None, "no rule is for them", "", examples, least, 0, named, more, state)
    rule = recipe.rules[place]
    created = (0 if examples is None else examples - headed) * _copies(recipe, rule)
    return RuleView(
        dataset, place + 1, in_words(rule.when), rule.strategy, examples, least, created, named, more, state
    )


def _copies(recipe: Recipe, rule: Rule) -> int:
    """Count the examples that a rule adds to each one under it; 0 until the texts of its system messages are looked
    up."""
    sets = {name.partition("/")[0] for name in rule.system_messages}
    if rule.expand != "each" or any(recipe.system_messages[name].messages is None for name in sets):
        return 0
    return len(recipe.system_message_texts(rule.system_messages)) - 1


def in_words(when: When) -> str:
    """Write the conditions of a rule as in a recipe."""
    table = when.model_dump(exclude_defaults=True)
    return ", ".join(f"{name} = {_value(value)}" for name, value in table.items()) or "everything"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return quoted(value[0]) if len(value) == 1 else f"[{', '.join(map(quoted, value))}]"
    if isinstance(value, Mapping):
        return json.dumps(dict(value), ensure_ascii=False)
    return str(value).lower()


def _first_by_task(rules: Sequence[Rule], collection: str, tasks: Mapping[str, int]) -> dict[str, int]:
    """Map tasks to the place of the first rule whose conditions on collection and task they meet."""
    found: dict[str, int] = {}
    for place, rule in enumerate(rules):
        if len(found) == len(tasks):
            break
        if rule.when.may_match_collection(collection):
            for task in fitting(rule.when.task, tasks) if rule.when.task else tasks:
                found.setdefault(task, place)
    return found


def _asks_of_the_task_alone(when: When) -> bool:
    return when == When.model_construct(collection=when.collection, task=when.task)
