"""Run a plan's stages, each only where the store does not hold it yet.

Parts are units of work and nothing else: their size, number and order never change a byte of a build.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from orca_recipes.counted import counted
from orca_recipes.errors import Failure
from orca_recipes.plan.compile import (
    collects,
    prepared_teachers,
    taken_collections,
    used_collections,
)
from orca_recipes.plan.stages import Plan
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.account import Account, keep_account
from orca_recipes.run.answering import Answering
from orca_recipes.run.arrow import keep_pandas_out, read_frame
from orca_recipes.run.making import Making
from orca_recipes.run.mixing import Mixing
from orca_recipes.run.progress import Progress
from orca_recipes.run.schedule import run_in_order, run_side_by_side
from orca_recipes.run.shared_progress import SharedProgress
from orca_recipes.run.stale_answers import let_go, stale_answers
from orca_recipes.run.store import Part, StageFolder, Store
from orca_recipes.run.student import Student
from orca_recipes.run.units import Unit, units_of
from orca_recipes.run.warm import TASKS_WORTH_WORKERS, is_worth_workers


class PartTask(Protocol):
    """A task that makes one part of a stage."""

    @property
    def name(self) -> str: ...


AnyTask = TypeVar("AnyTask", bound=PartTask)
Result = TypeVar("Result")


@dataclass
class Execution:
    """One build's run over a store; timings are seconds by stage, filled in on the way; found: the rows of each stage's
    parts that the store held already."""

    recipe: Recipe
    plan: Plan
    store: Store
    student: Student
    limit: int | None
    workers: int
    progress: Progress
    traces: Path | None = None
    locked_answers: Mapping[str, str] = field(default_factory=dict)
    may_buy: bool = True
    timings: dict[str, float] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    lacking: Collection[str] = ()
    _is_halted: bool = False

    def __post_init__(self) -> None:
        # Not to hold itself: the store lets go of its claims when the last one who holds the run is gone.
        self.answering = Answering(weakref.proxy(self))
        self.making = Making(weakref.proxy(self))

    def run(self, verbs: Collection[str] = ("tokenize", "pack")) -> None:
        """Bring what shards are written from into the store, every stage up to packing.

        Args:
            verbs: the stages that are wanted; others are made where those need them.
        Raises: StoreError where the store cannot be written; whatever a stage raises.
        """
        self.store.claim(self.plan, self.progress.say)
        if {"answer", "tokenize", "pack"} & set(verbs):
            self._let_go_of_stale()
        works = self._works()
        self.lacking = self._lacking(works, verbs)
        names = [name for name in works if name in self.lacking]
        if names:
            keep_pandas_out()
        if not self._is_spread:
            run_in_order(names, lambda name: self._stage(name, works[name]))
            return
        self.progress = SharedProgress(self.progress)
        # Stages that two datasets share are made once, by the first: the second would wait for it and say so.
        makers = {self.plan[name].fingerprint: name for name in reversed(names)}
        run_side_by_side(
            [name for name in names if makers[self.plan[name].fingerprint] == name],
            inputs={
                name: [makers.get(self.plan[needed].fingerprint, needed) for needed in self.plan[name].inputs]
                for name in names
            },
            work=lambda name: self._stage(name, works[name]),
            at_once=self.workers + 1,
            stop=self._halt,
        )

    def _let_go_of_stale(self) -> None:
        """Have stages made again whose answers no longer count; a build that buys nothing keeps empty replies."""
        stale = stale_answers(self.recipe, self.plan, self.store, self.traces, asks_empty=self.may_buy)
        if stale:
            let_go(self.store, self.plan, stale)
            self.progress.say(f"{next(iter(stale))}: {next(iter(stale.values()))}; it is asked again")

    def _halt(self) -> None:
        self._is_halted = True
        self.recipe.engine.close()

    @cached_property
    def _is_spread(self) -> bool:
        """Whether workers run even the smallest stages, several at once; one teacher's questions go together."""
        if self.workers == 1 or any(collects(self.recipe, name) for name in self.recipe.datasets):
            return False
        return is_worth_workers(self.recipe, used_collections(self.recipe))

    def folder(self, stage: str) -> StageFolder:
        return self.store.folder(self.plan[stage])

    def units(self, dataset: str) -> list[Unit]:
        """The tokenized parts of a dataset."""
        collections = taken_collections(self.recipe, dataset)
        return units_of([(name, self.folder(f"tokenize {dataset}/{name}")) for name in collections])

    def _works(self) -> dict[str, Callable[[StageFolder], None]]:
        """What makes each stage, in the order in which they run: what can be refused for its counts comes first."""
        works: dict[str, Callable[[StageFolder], None]] = {
            f"read {name}": partial(self.making.read, collection=name) for name in used_collections(self.recipe)
        }
        taken = [(name, found) for name in self.recipe.datasets for found in taken_collections(self.recipe, name)]
        works |= {
            f"prepare {name}": partial(self.making.prepare, teacher=name) for name in prepared_teachers(self.recipe)
        }
        works |= Mixing(self).works()
        verbs: dict[str, Callable[..., None]] = {
            "ask": self.answering.ask,
            "answer": self.answering.answer,
            "converse": self.making.converse,
            "keep": self.making.keep,
            "tokenize": self.making.tokenize,
        }
        for verb, work in verbs.items():
            stages = {f"{verb} {name}/{found}": (name, found) for name, found in taken}
            works |= {
                stage: partial(work, dataset=name, collection=found)
                for stage, (name, found) in stages.items()
                if stage in self.plan.stages
            }
        return works | {f"pack {name}": partial(self.making.pack, dataset=name) for name in self.recipe.datasets}

    def _lacking(self, works: Collection[str], verbs: Collection[str]) -> set[str]:
        """The stages that must run: those of these verbs, and what has to be made needs its inputs. A stage all of
        whose consumers are in the store is neither read nor made."""
        needed = {stage.name for stage in self.plan if stage.verb in verbs}
        lacking = set()
        for stage in reversed(list(self.plan)):
            if stage.name in needed & set(works) and not self._is_sound(stage.name):
                lacking.add(stage.name)
                needed |= set(stage.inputs)
        return lacking

    def _is_sound(self, name: str) -> bool:
        """Whether the store holds a stage byte for byte; every byte is about to be read anyway."""
        folder = self.folder(name)
        return folder.published and not folder.faults(readers=self.workers)

    def _stage(self, name: str, work: Callable[[StageFolder], None]) -> None:
        """Make a stage, unless another build made it meanwhile."""
        with self.store.working_on(self.plan[name], self.progress.say) as folder:
            started = time.monotonic()
            if not folder.is_sound(name, self.progress.say, readers=self.workers):
                work(folder)
                self.timings[name] = round(time.monotonic() - started, 3)

    def made(self) -> dict[str, int]:
        """Fingerprint of each stage that was worked on, to the rows of it that the store held already."""
        return {self.plan[name].fingerprint: self.found.get(name, 0) for name in self.timings}

    def mixed(self, dataset: str, collection: str) -> StageFolder:
        return self.folder(f"mix {self.recipe.datasets[dataset].mixture}/{collection}")

    def map_parts(
        self,
        folder: StageFolder,
        stage: str,
        function: Callable[[AnyTask], Result],
        tasks: Sequence[AnyTask],
        sizes: Sequence[int],
        unit: str,
    ) -> list[Result]:
        """Run the tasks whose parts are not there yet; sizes are what each counts for in the progress."""
        there = [folder.has_part(task.name) for task in tasks]
        todo = [place for place, is_there in enumerate(there) if not is_there]
        self.found[stage] = sum(
            _rows_of(folder.part(task.name)) for task, is_there in zip(tasks, there, strict=True) if is_there
        )
        if self._is_halted:
            raise Failure(f"{stage} was stopped; what was finished is kept")
        self.progress.begin(stage, total=sum(sizes), unit=unit)
        self.progress.advance(sum(sizes) - sum(sizes[place] for place in todo))
        results = []
        chosen = [tasks[place] for place in todo]
        workers = self.workers if self._is_spread or len(chosen) >= TASKS_WORTH_WORKERS else 1
        for number, result in self.recipe.engine.map(function=function, tasks=chosen, workers=workers):
            results.append(result)
            self.progress.advance(sizes[todo[number]])
        return results

    def finish_counted(
        self,
        folder: StageFolder,
        names: Sequence[str],
        verb: str,
        noun: str,
        before: Account,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Finish a stage whose parts rejected rows.

        noun: one of what it gives, for people. before: where rows went until then.
        """
        parts = [folder.part(name) for name in names]
        report = {
            "in": sum(part.report["in"] for part in parts),
            "created": joined_counts(part.report.get("created", {}) for part in parts),
            "out": sum(part.report["out"] for part in parts),
            "rejected": joined_counts(part.report["rejected"] for part in parts),
            **({"echoes": sum(part.report["echoes"] for part in parts)} if verb == "converse" else {}),
            **(facts or {}),
        }
        rejected = [read_frame(part.file(".rejected.arrow")) for part in parts]
        account = before.followed_by(verb, report, rejected)
        folder.finish([*names, keep_account(folder, account)], report)
        self.end(report, noun)

    def end(self, report: Mapping[str, Any], noun: str) -> None:
        rejected = sum(report["rejected"].values())
        passed_over = sum(report.get("passed_over", {}).values())
        told = counted(report["out"], noun) + (f", {rejected:,} rejected" if rejected else "")
        self.progress.end(told + (f", {passed_over:,} passed over" if passed_over else ""))


def _rows_of(part: Part) -> int:
    """The rows that a part gives; one of `read` tells them batch by batch."""
    return int(part.report.get("out", sum(batch["rows"] for batch in part.report.get("batches", ()))))


def joined_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts by reason, added up."""
    total: dict[str, int] = {}
    for part in counts:
        for reason, number in part.items():
            total[reason] = total.get(reason, 0) + number
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
