"""Losses of a whole collection, task or rule, of which every row was rejected.

A build of what is left would be sound and not what was asked for, so it is refused with the first reasons, unless the
recipe allows it. A draw that takes nothing of a collection loses nothing. Under `--limit`, where a task may be down to
one row, tasks and rules are said and not refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.spelling import quoted
from orca_recipes.counted import counted
from orca_recipes.plan.used_parts import matching_rules, taken_collections
from orca_recipes.recipe.rules import Rule
from orca_recipes.run.conversations.matching_rule import UNMATCHED, QuestionCounter, first_matching, looked_at
from orca_recipes.run.conversations.rule_coverage import in_words
from orca_recipes.run.conversations.system_messages import expanded_ids
from orca_recipes.run.examples.read import batches_of
from orca_recipes.run.examples.selection import SPARE, taken_copies
from orca_recipes.run.work.account import Account, read_account
from orca_recipes.shards.records import NOT_DRAWN
from orca_recipes.store.arrow_files import IDS, read_frame

if TYPE_CHECKING:
    import polars as pl

    from orca_recipes.run.work.bench import Bench

Kept = Mapping[str, Mapping[str, int]]
"""Examples that a dataset holds, by collection and task."""

# All of a data set's tasks may end empty for one reason: a few lines tell it.
_SHOWN = 10
_NAMES_SHOWN = 3
_REASONS_SHOWN = 3
_NO_LOSS = ("keep", "best of")
"""Stages that leave away what is not needed."""


@dataclass(frozen=True)
class Emptied:
    """A collection, task or rule that ended without an example.

    name: as in `allow_empty`; None for a rule, which has an option of its own. what: for people. reasons: stage and
    reason to rows.
    """

    what: str
    name: str | None
    rows: int
    reasons: Mapping[str, int]

    def __str__(self) -> str:
        if not self.rows:
            return f"{self.what}: it has no rows"
        told = [f"{number:,} {reason}" for reason, number in list(self.reasons.items())[:_REASONS_SHOWN]]
        more = len(self.reasons) - len(told)
        told += [f"and {counted(more, 'other reason')}"] if more > 0 else []
        return f"{self.what}: {sum(self.reasons.values()):,} of {counted(self.rows, 'row')} lost: {'; '.join(told)}"


@dataclass(frozen=True)
class Emptiness:
    """Collections, tasks and rules of one dataset that ended empty and may not."""

    dataset: str
    refused: tuple[Emptied, ...]
    said: tuple[Emptied, ...]

    def sentence(self, found: tuple[Emptied, ...]) -> str:
        """Write one message on what ended empty, with the first reasons and the option to allow it."""
        lines = [f"datasets.{self.dataset}: nothing is left of"]
        lines += [f"  {one}" for one in found[:_SHOWN]]
        lines += [f"  and {len(found) - _SHOWN:,} more"] if len(found) > _SHOWN else []
        names = [quoted(one.name) for one in found if one.name is not None]
        words = []
        if names:
            shown = names[:_NAMES_SHOWN] + (["..."] if len(names) > _NAMES_SHOWN else [])
            words.append(f"datasets.{self.dataset}.allow_empty = [{', '.join(shown)}]")
        if len(names) < len(found):
            words.append("allow_empty = true at the rule")
        return "\n".join([*lines, f"mend what loses them, or allow it: {'; '.join(words)}"])


def emptiness(bench: Bench, dataset: str, kept: Kept) -> Emptiness:
    """Find the collections, tasks and rules of a dataset that ended empty."""
    return _Search(bench, dataset, kept).emptiness()


class _Search:
    """Looks for what ended empty; rows are read only where counts make it possible that something did."""

    def __init__(self, bench: Bench, dataset: str, kept: Kept) -> None:
        self._bench, self._dataset, self._kept = bench, dataset, kept
        self._recipe = bench.recipe
        collections = taken_collections(self._recipe, dataset)
        self._accounts = {name: read_account(bench.folder(f"tokenize {dataset}/{name}")) for name in collections}
        self._packed = read_frame(bench.folder(f"pack {dataset}").file("rejected.rejected.arrow"))

    def emptiness(self) -> Emptiness:
        allowed = self._recipe.datasets[self._dataset].allow_empty
        collections = [found for name in self._accounts if (found := self._collection(name)) is not None]
        gone = {found.name for found in collections}
        small = [found for name in self._accounts if name not in gone for found in self._tasks(name)]
        small += self._rules([name for name in self._accounts if name not in gone])
        is_try = self._bench.limit is not None
        refused = [*collections, *([] if is_try else small)]
        return Emptiness(
            self._dataset,
            tuple(one for one in refused if not _is_allowed(one.name, allowed)),
            tuple(one for one in (small if is_try else []) if not _is_allowed(one.name, allowed)),
        )

    def _collection(self, name: str) -> Emptied | None:
        if self._kept.get(name):
            return None
        reports = self._accounts[name].reports
        left_out = reports["mix"]["left_out"]
        if not reports["mix"]["out"] and left_out.get(NOT_DRAWN):
            return None
        reasons = _reasons(self._lost(name))
        listed = set(self._accounts[name].rejected["reason"].unique())
        counted_only = {reason: number for reason, number in left_out.items() if reason not in {NOT_DRAWN, *listed}}
        reasons |= {f"mix: {reason}": number for reason, number in counted_only.items()}
        taken = reports["mix"]["out"] + reports["read"]["in"] - reports["mix"]["in"]
        rows = max(taken, sum(reasons.values()))
        return Emptied(f"collection {quoted(name)}", name, rows, _most_first(reasons))

    def _tasks(self, collection: str) -> Iterator[Emptied]:
        """Yield the tasks of a collection with drawn rows and no example left."""
        import polars as pl

        tasks = self._accounts[collection].reports["read"]["tasks"].keys() - self._kept[collection].keys()
        if not tasks:
            return
        rows = self._drawn(collection, ["task"], pl.col("task").is_in(list(tasks)))
        lost = self._lost(collection).select("id_hi", "stage", "reason").unique()
        joined = _lost_of(self._made_of(matching_rules(self._recipe, collection), rows), lost)
        for (task,), group in sorted(joined.group_by("task"), key=lambda item: str(item[0])):
            number = rows.filter(pl.col("task") == task).height
            what = f"task {quoted(f'{collection}/{task}')}"
            yield Emptied(what, f"{collection}/{task}", number, _reasons(group))

    def _rules(self, collections: list[str]) -> list[Emptied]:
        """List the rules with drawn rows and no example left."""
        if len(self._recipe.rules) < 2 or all(not self._lost(name).height for name in collections):
            return []
        left = self._ids_left().implode()
        missing: dict[int, list[pl.DataFrame]] = {}
        alive: set[int] = set()
        for name in collections:
            open_to = {place for place, rule in enumerate(self._recipe.rules) if rule.when.may_match_collection(name)}
            for places, rows in self._by_rule(name):
                if open_to <= alive:
                    break
                for place in np.unique(places[places != UNMATCHED]).tolist():
                    mine = rows.filter(places == place)
                    made = self._made_of([self._recipe.rules[place]], mine)
                    if place in alive or made["id_hi"].is_in(left).any():
                        alive.add(place)
                        missing.pop(place, None)
                    else:
                        missing.setdefault(place, []).append(mine)
        return [self._rule(place, rows) for place, rows in sorted(missing.items()) if not self._may_lose(place)]

    def _may_lose(self, place: int) -> bool:
        return self._recipe.rules[place].allow_empty

    def _rule(self, place: int, rows: list[pl.DataFrame]) -> Emptied:
        import polars as pl

        rule, mine = self._recipe.rules[place], pl.concat(rows)
        lost = pl.concat([self._lost(name).select("id_hi", "stage", "reason") for name in self._accounts]).unique()
        what = f"rule {place + 1} ({in_words(rule.when)}; strategy {quoted(rule.strategy)})"
        return Emptied(what, None, mine.height, _reasons(_lost_of(self._made_of([rule], mine), lost)))

    def _made_of(self, rules: Iterable[Rule], rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows with the copies that rules may make of each; `row` is the id_hi of the row, `id_hi` its own or
        the copy's."""
        import polars as pl

        expanding = [name for rule in rules if rule.expand == "each" for name in rule.system_messages]
        rows, numbers = rows.with_columns(row="id_hi"), rows["id_hi"].to_numpy()
        copies = [expanded_ids(numbers, numbers, name)[0] for name in self._recipe.system_message_texts(expanding)]
        return pl.concat([rows, *(rows.with_columns(id_hi=pl.Series(copy)) for copy in copies)])

    def _by_rule(self, collection: str) -> Iterator[tuple[np.ndarray, pl.DataFrame]]:
        """Yield the drawn rows batch by batch: the rule of each (its place in the recipe), and its id."""
        chosen = matching_rules(self._recipe, collection)
        places = np.array([*(self._recipe.rules.index(rule) for rule in chosen), UNMATCHED], dtype=np.int64)
        counter = QuestionCounter(self._recipe.tokenizer, self._bench.student.folder)
        whens = [rule.when for rule in chosen]
        for rows in self._batches(collection, looked_at(whens) or ["task"]):
            yield places[first_matching(rows, whens, counter)], rows.select("id_hi")

    def _drawn(self, collection: str, columns: list[str], condition: pl.Expr) -> pl.DataFrame:
        import polars as pl

        return pl.concat(rows.filter(condition) for rows in self._batches(collection, columns))

    def _batches(self, collection: str, columns: list[str]) -> Iterator[pl.DataFrame]:
        """Yield the drawn rows with these columns and id_hi, which repeats share; for expanded copies see
        `_made_of`."""
        import polars as pl

        read = self._bench.folder(f"read {collection}")
        selected = taken_copies(self._bench.mixed(self._dataset, collection))
        ids = read_frame(read.file(f"{IDS}.arrow"), columns=["id_hi"])
        for batch in batches_of(read):
            frame = read_frame(batch.path, columns=columns).with_columns(ids["id_hi"][batch.start : batch.stop])
            yield frame.filter(pl.Series(selected[batch.start : batch.stop] > 0))

    def _lost(self, collection: str) -> pl.DataFrame:
        """Select the lost rows of a collection, without spare ones that are not needed."""
        import polars as pl

        account: Account = self._accounts[collection]
        columns = ["id_hi", "stage", "reason"]
        packed = self._packed.filter(pl.col("collection") == collection).select(columns)
        lost = pl.concat([account.rejected.select(columns), packed])
        return lost.filter(~pl.col("stage").is_in(_NO_LOSS) & (pl.col("reason") != SPARE))

    def _ids_left(self) -> pl.Series:
        import polars as pl

        parts = self._bench.folder(f"pack {self._dataset}").parts()
        shards = [part.file(".order.arrow") for part in parts if "shard" in part.report]
        return pl.concat([read_frame(path, columns=["id_hi"])["id_hi"] for path in shards])


def _lost_of(made: pl.DataFrame, lost: pl.DataFrame) -> pl.DataFrame:
    """Return what rows were lost for, each once a reason; repeats share the high half of their example's id."""
    return made.join(lost, on="id_hi", how="inner").unique(["row", "stage", "reason"])


def _is_allowed(name: str | None, patterns: tuple[str, ...]) -> bool:
    return name is not None and any(fnmatchcase(name, pattern) for pattern in patterns)


def _reasons(lost: pl.DataFrame) -> dict[str, int]:
    """Stage and reason to rows, most frequent first."""
    counts = lost.group_by("stage", "reason").len().sort(["len", "stage", "reason"], descending=[True, False, False])
    return {f"{stage}: {reason}": number for stage, reason, number in counts.iter_rows()}


def _most_first(reasons: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
