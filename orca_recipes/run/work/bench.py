"""The bench of every maker of a stage: recipe, plan and store, and how parts are made and counted.

Parts are units of work and nothing else: their size, number and order never change a byte of a build.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from orca_recipes.counted import counted
from orca_recipes.errors import Failure
from orca_recipes.plan.stages import Plan
from orca_recipes.plan.used_parts import collects, used_collections
from orca_recipes.progress import Progress
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.work.account import Account, joined_counts, keep_account
from orca_recipes.run.work.student import Student
from orca_recipes.run.work.workers import TASKS_WORTH_WORKERS, is_worth_workers
from orca_recipes.store.arrow_files import read_frame
from orca_recipes.store.carried_tasks import carry_out, places_of
from orca_recipes.store.stage_folder import Part, StageFolder
from orca_recipes.store.store import Store

STAGES_AT_ONCE = 16
"""Of a build whose parts go to other machines: each holds a thread and the account of its parts here."""


class PartTask(Protocol):
    """A task that makes one part of a stage."""

    @property
    def name(self) -> str: ...


AnyTask = TypeVar("AnyTask", bound=PartTask)
Task = TypeVar("Task")
Result = TypeVar("Result")
Shared = TypeVar("Shared")


@dataclass
class Bench:
    """State shared by the makers of one build's stages.

    Attributes:
        limit: how many examples of each collection are tried, None for all.
        locked_answers: under `--locked`, "dataset/collection" to the digest that its answers must have.
        timings: seconds by stage, filled in on the way.
        found: the rows of each stage's parts that the store held already.
        mapped: parts that the engine was given, by stage.
        lacking: the stages that are to be made.
    """

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
    mapped: dict[str, int] = field(default_factory=dict)
    lacking: Collection[str] = ()
    _is_halted: bool = False
    _shared: dict[type, Any] = field(default_factory=dict)

    def shared(self, kind: type[Shared]) -> Shared:
        """Give the one object of a class that makers share, made when it is first asked for."""
        found: Shared = self._shared.setdefault(kind, kind())
        return found

    @property
    def stages_at_once(self) -> int:
        """Return the number of stages to run side by side: a cluster has room for the parts of many."""
        return (STAGES_AT_ONCE if self.recipe.engine.spreads else self.workers) + 1

    def halt(self) -> None:
        """Begin no further part; workers are stopped."""
        self._is_halted = True
        self.recipe.engine.close()

    @cached_property
    def is_spread(self) -> bool:
        """Tell whether workers run even the smallest stages, several at once; one teacher's questions go together."""
        if any(collects(self.recipe, name) for name in self.recipe.datasets):
            return False
        if self.recipe.engine.spreads:
            return True
        return self.workers > 1 and is_worth_workers(self.recipe, used_collections(self.recipe))

    def folder(self, stage: str) -> StageFolder:
        """Name the folder of a stage in the store."""
        return self.store.folder(self.plan[stage])

    def mixed(self, dataset: str, collection: str) -> StageFolder:
        """Name the folder of the draw that a dataset takes of a collection."""
        return self.folder(f"mix {self.recipe.datasets[dataset].mixture}/{collection}")

    def made(self) -> dict[str, int]:
        """Map the fingerprint of each stage worked on to its number of rows already in the store."""
        return {self.plan[name].fingerprint: self.found.get(name, 0) for name in self.timings}

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
        there = folder.has_parts([task.name for task in tasks])
        todo = [place for place, is_there in enumerate(there) if not is_there]
        self.found[stage] = sum(
            _rows_of(folder.part(task.name)) for task, is_there in zip(tasks, there, strict=True) if is_there
        )
        if self._is_halted:
            raise Failure(f"{stage} was stopped; what was finished is kept: run the same command again to go on")
        self.progress.begin(stage, total=sum(sizes), unit=unit)
        # What the store held counts as done at once, or a resumed build would seem to begin anew.
        self.progress.advance(sum(sizes) - sum(sizes[place] for place in todo))
        results = []
        chosen = [tasks[place] for place in todo]
        self.mapped[stage] = len(chosen)
        for number, result in self.run(function, chosen, workers=self.workers_for(chosen)):
            results.append(result)
            self.progress.advance(sizes[todo[number]])
        # Nodes of a cluster keep parts that this process has not seen.
        folder.learn(task.name for task in chosen)
        return results

    def workers_for(self, tasks: Sequence[object]) -> int:
        """Count the workers for tasks: this process alone where they are few and of a small recipe."""
        is_wide = self.is_spread or self.recipe.engine.spreads or len(tasks) >= TASKS_WORTH_WORKERS
        return self.workers if is_wide else 1

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], *, workers: int, build: Path | None = None
    ) -> Iterator[tuple[int, Result]]:
        """Run tasks on the engine; where the store is at an address, on machines that share no folder with this one.

        Args:
            build: the folder that tasks write files of the build into.
        """
        engine = self.recipe.engine
        places = places_of(self.store.root, build) if engine.spreads else None
        if places is None:
            yield from engine.map(function=function, tasks=tasks, workers=workers)
            return
        carried = places.carried(function, tasks)
        for number, back in engine.map(function=carry_out, tasks=carried, workers=workers):
            yield number, places.brought(back)

    def finish_counted(
        self,
        folder: StageFolder,
        names: Sequence[str],
        verb: str,
        noun: str,
        before: Account,
        facts: Mapping[str, Any] | None = None,
        beside: Sequence[str] = (),
    ) -> None:
        """Finish a stage whose parts rejected rows.

        noun: one of what it gives, for people. before: where rows went until then. beside: parts that count no rows.
        """
        parts = [folder.part(name) for name in names]
        report = {
            "in": sum(part.report["in"] for part in parts),
            "created": joined_counts(part.report.get("created", {}) for part in parts),
            "out": sum(part.report["out"] for part in parts),
            "rejected": joined_counts(part.report["rejected"] for part in parts),
            **_untrained(parts),
            **({"echoes": sum(part.report["echoes"] for part in parts)} if verb == "converse" else {}),
            **(facts or {}),
        }
        rejected = [read_frame(part.file(".rejected.arrow")) for part in parts]
        account = before.followed_by(verb, report, rejected)
        folder.finish([*names, *beside, keep_account(folder, account)], report)
        self.end(report, noun)

    def end(self, report: Mapping[str, Any], noun: str) -> None:
        rejected = sum(report["rejected"].values())
        passed_over = sum(report.get("passed_over", {}).values())
        told = counted(report["out"], noun) + (f", {rejected:,} rejected" if rejected else "")
        if left := sum(report.get("untrained", {}).values()):
            told += f", {counted(left, 'answer')} untrained by filters"
        if slow := report.get("slow_rows"):
            told += f", {counted(slow, 'row')} rendered by the chat template and {report['fast_rows']:,} by its joints"
        if (held := report.get("expansion")) and held["examples"] > held["conversations"]:
            before = f"{counted(held['conversations'], 'conversation')} of {held['tokens']:,} tokens"
            told += f", {before} are {counted(held['examples'], 'example')} of {held['example_tokens']:,}"
        self.progress.end(told + (f", {passed_over:,} passed over" if passed_over else ""))


def _untrained(parts: Sequence[Part]) -> dict[str, dict[str, int]]:
    """Add up the answers that filters left untrained, by stage and reason; empty where there is none."""
    counts = joined_counts(part.report.get("untrained", {}) for part in parts)
    return {"untrained": counts} if counts else {}


def _rows_of(part: Part) -> int:
    """Return the number of rows of a part; a part of `read` reports it by batch."""
    return int(part.report.get("out", sum(batch["rows"] for batch in part.report.get("batches", ()))))
