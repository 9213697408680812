"""The stages that draw mixtures: what each looks at, and what it leaves.

All of them run before anything is asked, so that whatever is refused for its counts is refused first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.counted import counted
from orca_recipes.plan.mixing import (
    MIXING,
    by_rate,
    context_columns,
    earlier_holders,
    fixed_target,
    measure_stage,
    mixture_collections,
)
from orca_recipes.plan.mixture import divided_counts, task_rates
from orca_recipes.plan.stages import Plan
from orca_recipes.recipe.mixtures import Mixture
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.allot import first_of, held_out, held_questions, keep_questions
from orca_recipes.run.contexts import ContextsTask, contexts_part
from orca_recipes.run.duplicates import (
    DUPLICATES,
    Contexts,
    duplicate_rows,
    duplicates,
    keep_duplicates,
    no_duplicates,
    read_duplicates,
)
from orca_recipes.run.keep import keep_order
from orca_recipes.run.measure import MeasureTask, measure_part, read_tokens
from orca_recipes.run.measure_conversations import MeasureConversations, measure_conversations
from orca_recipes.run.mix import (
    ASKED,
    DUPLICATE_ROW,
    EXCLUDED_ROW,
    HELD_OUT_ROW,
    TRIED,
    UNREAD,
    asked_of,
    keep_selection,
    limited,
    read_selection,
    report_of,
)
from orca_recipes.run.pools import Collection, mark
from orca_recipes.run.questions import Questions, digest_part, questions_report, read_questions, rows_tasks
from orca_recipes.run.store import StageFolder
from orca_recipes.run.takes import TakeDraw, grouping_of

if TYPE_CHECKING:
    import polars as pl

    from orca_recipes.run.execute import Execution


@dataclass(frozen=True)
class Mixing:
    """One build's drawing; execution: the run that it is a part of."""

    execution: Execution

    def works(self) -> dict[str, Callable[[StageFolder], None]]:
        """What makes each stage, in the order of the plan."""
        makers = {
            "contexts": self._contexts,
            "questions": self._questions,
            "measure": self._measure,
            "allot": self._allot,
            "mix": self._mix,
        }
        return {
            stage.name: partial(makers[stage.verb], subject=stage.subject)
            for stage in self._plan
            if stage.verb in MIXING
        }

    @property
    def _plan(self) -> Plan:
        return self.execution.plan

    @property
    def _recipe(self) -> Recipe:
        return self.execution.recipe

    def _contexts(self, folder: StageFolder, subject: str) -> None:
        columns = context_columns(self._recipe)
        tasks = [ContextsTask(rows, columns) for rows in rows_tasks(self._read(subject), folder)]
        self.execution.map_parts(folder, f"contexts {subject}", contexts_part, tasks, [1] * len(tasks), "parts")
        self._finish(folder, [task.name for task in tasks], "context")

    def _questions(self, folder: StageFolder, subject: str) -> None:
        tasks = rows_tasks(self._read(subject), folder)
        self.execution.map_parts(folder, f"questions {subject}", digest_part, tasks, [1] * len(tasks), "parts")
        self._finish(folder, [task.name for task in tasks])

    def _measure(self, folder: StageFolder, subject: str) -> None:
        dataset, slash, collection = subject.partition("/")
        if slash:
            self._measure_conversations(folder, dataset, collection)
            return
        student = self.execution.student
        tasks = [
            MeasureTask(rows, self._recipe.tokenizer, student.folder)
            for rows in rows_tasks(self._read(subject), folder)
        ]
        self.execution.map_parts(folder, f"measure {subject}", measure_part, tasks, [1] * len(tasks), "parts")
        self._finish(folder, [task.name for task in tasks])

    def _measure_conversations(self, folder: StageFolder, dataset: str, collection: str) -> None:
        student = self.execution.student
        keep = Collection(self._read(collection)).ids["keep"].to_numpy()
        tasks = [
            MeasureConversations(rows, self._recipe.tokenizer, student.folder, student.markup)
            for rows in self.execution.making.all_batches(folder, dataset, collection, keep)
        ]
        stage, sizes = f"measure {dataset}/{collection}", [int(task.rows.selected.sum()) for task in tasks]
        self.execution.map_parts(folder, stage, measure_conversations, tasks, sizes, "examples")
        self._finish(folder, [task.name for task in tasks], "example")

    def _finish(self, folder: StageFolder, names: Sequence[str], noun: str = "question") -> None:
        report = questions_report(folder, names)
        folder.finish(names, report)
        self.execution.progress.end(counted(report["out"], noun))

    def _allot(self, folder: StageFolder, subject: str) -> None:
        mixture = self._recipe.mixtures[subject]
        collections = mixture_collections(self._recipe, subject)
        if mixture.from_ is not None:
            made = self._part(subject, mixture)
            known = {found: read_duplicates(self._folder(f"mix {mixture.from_}/{found}")) for found in collections}
        else:
            known = {found: self._duplicates(subject, found) for found in collections}
            made = self._set_aside(subject, mixture, folder, known)
        names = [keep_selection(folder, selection, f"of-{name}") for name, selection in made.items()]
        for found, twins in known.items():
            names += keep_duplicates(folder, twins, _duplicates_of(found))
        names += ["questions"] if mixture.holdout is not None else []
        total = sum(int(np.maximum(selection, 0).astype(np.int64).sum()) for selection in made.values())
        folder.finish(names, {"in": total, "out": total, "rejected": {}})

    def _part(self, name: str, mixture: Mixture) -> dict[str, np.ndarray]:
        """The rows of another mixture that are this one's."""
        assert mixture.from_ is not None
        assert mixture.rows is not None
        outer, ids = {}, {}
        for found in mixture_collections(self._recipe, name):
            selection = asked_of(self._folder(f"mix {mixture.from_}/{found}"))
            if mixture.exclude:
                chosen = np.where(selection > 0, 0, UNREAD).astype(np.int16)
                self._mark_excluded(chosen, found, mixture)
                selection = np.where(chosen == EXCLUDED_ROW, EXCLUDED_ROW, selection).astype(np.int16)
            outer[found] = selection
            columns = Collection(self._read(found)).ids
            ids[found] = (columns["id_hi"].to_numpy(), columns["id_lo"].to_numpy())
        where = f"mixtures.{name}"
        return first_of(outer, ids, rows=mixture.rows, seed=self._recipe.seed, where=where)

    def _set_aside(
        self, name: str, mixture: Mixture, folder: StageFolder, known: Mapping[str, pl.DataFrame]
    ) -> dict[str, np.ndarray]:
        """The rows that a mixture holds out; their questions are stored beside. known: the duplicates."""
        assert mixture.holdout is not None
        draws = [self._draw(name, found, None, twins) for found, twins in known.items()]
        made = held_out(draws, rows=mixture.holdout, where=f"mixtures.{name}.holdout")
        digests = []
        for found, selection in made.items():
            digests.append(self._questions_of(found).of(selection > 0))
        keep_questions(folder, digests)
        return made

    def _mix(self, folder: StageFolder, subject: str) -> None:
        name, _, found = subject.partition("/")
        mixture = self._recipe.mixtures[name]
        facts: dict[str, Any] = {}
        parts = []
        if mixture.take:
            allot = self._folder(f"allot {name}") if mixture.holdout is not None else None
            twins = self._duplicates(name, found)
            draw = self._draw(name, found, allot, twins)
            selection, facts = draw.drawn()
            facts |= draw.tokens(selection)
            if draw.take.reserve is not None:
                parts.append(keep_order(folder, *draw.order(selection)))
                parts.append(keep_selection(folder, draw.asked(), ASKED))
        else:
            allotted = self._folder(f"allot {mixture.holdout_of or name}")
            selection = read_selection(allotted, f"of-{found}")
            twins = read_duplicates(allotted, _duplicates_of(found))
        parts += keep_duplicates(folder, twins)
        if self.execution.limit is not None:
            ids = Collection(self._read(found)).ids
            tried = limited(selection, ids, limit=self.execution.limit, seed=self._recipe.seed)
            parts.append(keep_selection(folder, tried, TRIED))
            report = report_of(tried, facts)
        else:
            report = report_of(selection, facts)
        folder.finish([keep_selection(folder, selection), *parts], report)

    def _draw(self, name: str, found: str, allot: StageFolder | None, twins: pl.DataFrame) -> TakeDraw:
        """A take over what is left to it; allot: what the mixture holds out, where that is known already. twins: the
        rows that an earlier collection holds."""
        mixture = self._recipe.mixtures[name]
        take = mixture.take[found]
        is_of_tokens = take.divides and mixture.tokens is not None
        weight = None
        if is_of_tokens:
            measured = self._folder(measure_stage(self._recipe, name, found))
            weight = read_tokens(measured, trained=mixture.tokens_of == "trained")
        collection = Collection(self._read(found), grouping_of(take), weight)
        selection = collection.fresh()
        selection[duplicate_rows(twins)] = DUPLICATE_ROW
        self._mark_excluded(selection, found, mixture)
        if allot is not None:
            mark(selection, self._questions_of(found), [held_questions(allot)], HELD_OUT_ROW)
        return TakeDraw(
            take=take,
            name=found,
            collection=collection,
            selection=selection,
            target=self._target(name, mixture, found),
            seed=self._recipe.seed,
            where=f"mixtures.{name}.take.{found}",
            tokens_of=mixture.tokens_of if is_of_tokens else None,
        )

    def _target(self, name: str, mixture: Mixture, found: str) -> int | None:
        if not mixture.take[found].is_by_rate:
            return fixed_target(mixture, found)
        rates: dict[str, Fraction] = {}
        for other in by_rate(self._recipe, name):
            take, tasks = mixture.take[other], self._read(other).receipt["report"]["tasks"]
            own = task_rates(tasks.values(), cap=take.cap, temperature=take.temperature)
            rates[other] = sum(own, Fraction(0))
        return divided_counts(mixture, rates)[found]

    def _mark_excluded(self, selection: np.ndarray, found: str, mixture: Mixture) -> None:
        for other in mixture.exclude:
            held = []
            for holder in mixture_collections(self._recipe, other):
                drawn = read_selection(self._folder(f"mix {other}/{holder}")) > 0
                held.append(self._questions_of(holder).of(drawn))
            mark(selection, self._questions_of(found), held, EXCLUDED_ROW)

    def _duplicates(self, name: str, found: str) -> pl.DataFrame:
        """The rows of a collection whose whole context an earlier one of a mixture holds."""
        earlier = earlier_holders(self._recipe, name, found)
        if not earlier:
            return no_duplicates()
        *pools, mine = [Contexts(self._read(one), self._folder(f"contexts {one}")) for one in (*earlier, found)]
        return duplicates(mine, pools)

    def _questions_of(self, collection: str) -> Questions:
        return read_questions(self._folder(f"questions {collection}"))

    def _read(self, collection: str) -> StageFolder:
        return self._folder(f"read {collection}")

    def _folder(self, stage: str) -> StageFolder:
        return self.execution.folder(stage)


def _duplicates_of(collection: str) -> str:
    """The part of an allotment that holds a collection's duplicates."""
    return f"{DUPLICATES}-of-{collection}"
