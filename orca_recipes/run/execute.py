"""Run a plan's stages, each only where the store does not hold it yet.

Parts are units of work and nothing else: their size, number and order never change a byte of a build.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from orca_recipes.plan.compile import matching_rules, taken_collections, used_collections
from orca_recipes.plan.stages import Plan
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.account import ACCOUNT, Account, account_of_reading, keep_account, read_account
from orca_recipes.run.arrow import read_frame
from orca_recipes.run.converse import BoundRule, ConverseTask, Course, converse_part
from orca_recipes.run.digests import FileDigests, Pinned, pinned_as
from orca_recipes.run.loaded import opened
from orca_recipes.run.mix import SELECTION, draw_examples, read_selection
from orca_recipes.run.pack import Unit, pack_dataset, units_of
from orca_recipes.run.pin import Student
from orca_recipes.run.progress import Progress
from orca_recipes.run.read import IDS, batches_of, index_examples, read_part, read_tasks
from orca_recipes.run.store import StageFolder, Store
from orca_recipes.run.tokenize import Tokenized, TokenizeTask, tokenize_part

SLICE_BYTES = 8 << 20
"""Input of one unit of reading, about."""

TASKS_WORTH_WORKERS = 8
"""Fewer tasks than this are done here: starting a worker takes as long as they do."""


class PartTask(Protocol):
    """A task that makes one part of a stage."""

    @property
    def name(self) -> str: ...


AnyTask = TypeVar("AnyTask", bound=PartTask)
Result = TypeVar("Result")


@dataclass
class Execution:
    """One build's run over a store; timings are seconds by stage, filled in on the way."""

    recipe: Recipe
    plan: Plan
    store: Store
    student: Student
    limit: int | None
    workers: int
    progress: Progress
    timings: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Bring what shards are written from into the store, every stage up to packing.

        Raises: StoreError where the store cannot be written; whatever a stage raises.
        """
        self.store.claim(self.plan, self.progress.say)
        works = self._works()
        lacking = self._lacking(works)
        for name in works:
            if name in lacking:
                self._stage(name, works[name])

    def folder(self, stage: str) -> StageFolder:
        return self.store.folder(self.plan[stage])

    def units(self, dataset: str) -> list[Unit]:
        """The tokenized parts of a dataset."""
        collections = taken_collections(self.recipe, dataset)
        return units_of([(name, self.folder(f"tokenize {dataset}/{name}")) for name in collections])

    def _works(self) -> dict[str, Callable[[StageFolder], None]]:
        """What makes each stage, in the order in which they run: what can be refused for its counts comes first."""
        works: dict[str, Callable[[StageFolder], None]] = {
            f"read {name}": partial(self._read, collection=name) for name in used_collections(self.recipe)
        }
        taken = [(name, found) for name in self.recipe.datasets for found in taken_collections(self.recipe, name)]
        for verb, work in (("mix", self._mix), ("converse", self._converse), ("tokenize", self._tokenize)):
            works |= {f"{verb} {name}/{found}": partial(work, dataset=name, collection=found) for name, found in taken}
        return works | {f"pack {name}": partial(self._pack, dataset=name) for name in self.recipe.datasets}

    def _lacking(self, works: Collection[str]) -> set[str]:
        """The stages that must run: shards need tokens and packing, and what has to be made needs its inputs. A stage
        all of whose consumers are in the store is neither read nor made."""
        needed = {stage.name for stage in self.plan if stage.verb in ("tokenize", "pack")}
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

    def _read(self, folder: StageFolder, collection: str) -> None:
        source = self.recipe.collections[collection]
        pinned = self._pinned(collection)
        tasks = read_tasks(source, collection=collection, folder=folder.path, slice_bytes=SLICE_BYTES, pinned=pinned)
        sizes = [sum(piece.stop - piece.start for piece in task.slices) for task in tasks]
        self._map(folder, f"read {collection}", read_part, tasks, sizes, "B")
        names = [task.name for task in tasks]
        report = index_examples(folder, names, collection=collection, source=source)
        self._pinned(collection)
        folder.finish([*names, IDS], report)
        self._end(report, "examples")

    def _pinned(self, collection: str) -> Mapping[str, Pinned]:
        """The files of a collection, seen to be those that the plan was made of."""
        digests = FileDigests(self.store.root / "digests.sqlite")
        planned = self.plan[f"read {collection}"].decisive["pin"]["files"]
        return pinned_as(digests.stamped(self.recipe.collections[collection].files()), dict(planned))

    def _mix(self, folder: StageFolder, dataset: str, collection: str) -> None:
        mixture = self.recipe.datasets[dataset].mixture
        report = draw_examples(
            self.folder(f"read {collection}"),
            folder,
            take=self.recipe.mixtures[mixture].take[collection],
            limit=self.limit,
            seed=self.recipe.seed,
            where=f"mixtures.{mixture}.take.{collection}",
        )
        folder.finish([SELECTION], report)

    def _converse(self, folder: StageFolder, dataset: str, collection: str) -> None:
        read, mix = self.folder(f"read {collection}"), self.folder(f"mix {dataset}/{collection}")
        selected = read_selection(mix)
        course = self._course(dataset, collection)
        tasks = [
            ConverseTask(
                name=f"part-{batch.start:012d}-{batch.stop:012d}",
                folder=folder.path,
                examples=batch.path,
                ids=read.path / f"{IDS}.arrow",
                start=batch.start,
                selected=selected[batch.start : batch.stop],
                course=course,
            )
            for batch in batches_of(read)
        ]
        sizes = [int(task.selected.sum()) for task in tasks]
        self._map(folder, f"converse {dataset}/{collection}", converse_part, tasks, sizes, "examples")
        before = account_of_reading(read).followed_by("mix", mix.receipt["report"], [])
        self._finish_counted(folder, [task.name for task in tasks], "converse", "conversations", before)

    def _tokenize(self, folder: StageFolder, dataset: str, collection: str) -> None:
        verdict, subject = "fast", f"{dataset}/{collection}"
        tasks, results = self._tokenized(folder, subject, exact=False)
        wrong = sum(result.disagreeing for result in results)
        if wrong:
            verdict = "reference"
            self.progress.end(f"the fast tokenizer disagrees with the reference on {wrong} examples checked")
            tasks, _ = self._tokenized(folder, subject, exact=True)
        before = read_account(self.folder(f"converse {subject}"))
        names = [task.name for task in tasks]
        self._finish_counted(folder, names, "tokenize", "examples", before, {"tokenizer": verdict})

    def _tokenized(
        self, folder: StageFolder, subject: str, *, exact: bool
    ) -> tuple[list[TokenizeTask], list[Tokenized]]:
        parts = [part for part in self.folder(f"converse {subject}").parts() if part.name != ACCOUNT]
        tasks = [
            TokenizeTask(
                name=f"{part.name}-{'exact' if exact else 'fast'}",
                folder=folder.path,
                conversations=part.file(".arrow"),
                tokenizer=self.recipe.tokenizer,
                tokenizer_folder=self.student.folder,
                markup=self.student.markup,
                exact=exact,
            )
            for part in parts
        ]
        sizes = [part.report["out"] for part in parts]
        return tasks, self._map(folder, f"tokenize {subject}", tokenize_part, tasks, sizes, "examples")

    def _pack(self, folder: StageFolder, dataset: str) -> None:
        self.progress.begin(f"pack {dataset}", total=1, unit="datasets")
        names, report = pack_dataset(
            folder,
            units=self.units(dataset),
            packer=self.recipe.packing,
            shard_tokens=self.recipe.output.shard_tokens,
            seed=self.recipe.seed,
            open_encoder=partial(opened, self.recipe.tokenizer, self.student.folder),
        )
        folder.finish(names, report)
        self._end(report, "examples")

    def _course(self, dataset: str, collection: str) -> Course:
        chosen = self.recipe.datasets[dataset]
        rules = [
            BoundRule(
                when=rule.when,
                strategy_name=rule.strategy,
                strategy=self.recipe.strategies[rule.strategy],
                messages=tuple(self.recipe.system_message_texts(rule.system_messages).items()),
                replace=rule.replace,
            )
            for rule in matching_rules(self.recipe, collection)
        ]
        student = chosen.student.system_message
        texts = self.recipe.system_message_texts([student] if student else [])
        return Course(
            collection=collection,
            rules=tuple(rules),
            teacher_name=chosen.teacher,
            teacher=self.recipe.teachers[chosen.teacher],
            filters=chosen.filters,
            erase=chosen.student.erase,
            erased_to=next(iter(texts.values()), None),
            seed=self.recipe.seed,
        )

    def _map(
        self,
        folder: StageFolder,
        stage: str,
        function: Callable[[AnyTask], Result],
        tasks: Sequence[AnyTask],
        sizes: Sequence[int],
        unit: str,
    ) -> list[Result]:
        """Run the tasks whose parts are not there yet; sizes are what each counts for in the progress."""
        todo = [place for place, task in enumerate(tasks) if not folder.has_part(task.name)]
        self.progress.begin(stage, total=sum(sizes), unit=unit)
        self.progress.advance(sum(sizes) - sum(sizes[place] for place in todo))
        results = []
        chosen = [tasks[place] for place in todo]
        workers = self.workers if len(chosen) >= TASKS_WORTH_WORKERS else 1
        for number, result in self.recipe.engine.map(function=function, tasks=chosen, workers=workers):
            results.append(result)
            self.progress.advance(sizes[todo[number]])
        return results

    def _finish_counted(
        self,
        folder: StageFolder,
        names: Sequence[str],
        verb: str,
        unit: str,
        before: Account,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Finish a stage whose parts rejected rows; before: where rows went until then."""
        parts = [folder.part(name) for name in names]
        report = {
            "in": sum(part.report["in"] for part in parts),
            "out": sum(part.report["out"] for part in parts),
            "rejected": joined_counts(part.report["rejected"] for part in parts),
            **(facts or {}),
        }
        rejected = [read_frame(part.file(".rejected.arrow")) for part in parts]
        account = before.followed_by(verb, report, rejected)
        folder.finish([*names, keep_account(folder, account)], report)
        self._end(report, unit)

    def _end(self, report: Mapping[str, Any], unit: str) -> None:
        rejected = sum(report["rejected"].values())
        self.progress.end(f"{report['out']:,} {unit}" + (f", {rejected:,} rejected" if rejected else ""))


def joined_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts by reason, added up."""
    total: dict[str, int] = {}
    for part in counts:
        for reason, number in part.items():
            total[reason] = total.get(reason, 0) + number
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
