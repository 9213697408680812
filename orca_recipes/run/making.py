"""What makes each single stage of a build, but those of mixtures (mixing.py) and of bought answers (answering.py).

Each is handed the folder to make it in; whether it has to be made, and when, is the execution's to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from orca_recipes.counted import counted
from orca_recipes.plan.compile import (
    collects,
    course_seed,
    has_reserve,
    matching_rules,
    prepared_teachers,
    used_collections,
)
from orca_recipes.plan.mixing import is_kept_apart
from orca_recipes.run.account import ACCOUNT, account_of_drawing, read_account
from orca_recipes.run.converse import ConverseTask, Course, converse_part
from orca_recipes.run.coverage import check_patterns
from orca_recipes.run.digests import FileDigests, Pinned, pinned_as
from orca_recipes.run.keep import keep_first
from orca_recipes.run.loaded import opened
from orca_recipes.run.mix import taken_copies
from orca_recipes.run.pack import pack_dataset
from orca_recipes.run.placed import placed
from orca_recipes.run.prepared import prepare_teacher
from orca_recipes.run.questions import Digests, read_digests
from orca_recipes.run.read import IDS, batches_of, index_examples, read_part, read_tasks
from orca_recipes.run.rules import BoundRule, Message, QuestionCounter
from orca_recipes.run.shots import write_pool
from orca_recipes.run.stale_answers import answers_used
from orca_recipes.run.store import StageFolder
from orca_recipes.run.tokenize import Tokenized, TokenizeTask, together, tokenize_part
from orca_recipes.run.warm import SLICE_BYTES

if TYPE_CHECKING:
    from orca_recipes.run.execute import Execution


@dataclass
class Making:
    """The single stages of an execution."""

    execution: Execution

    def read(self, folder: StageFolder, collection: str) -> None:
        """Make stage `read`."""
        with placed(f"collections.{collection}"):
            self._read_all(folder, collection)

    def prepare(self, folder: StageFolder, teacher: str) -> None:
        """Make stage `prepare`."""
        self.execution.progress.begin(f"prepare {teacher}", total=1, unit="teachers")
        chosen = self.execution.recipe.teachers[teacher]
        counts = prepare_teacher(
            chosen, folder, [self.execution.folder(f"read {name}") for name in chosen.collections()]
        )
        self.execution.progress.end(", ".join(f"{number:,} {what}" for what, number in counts.items() if number))

    def converse(self, folder: StageFolder, dataset: str, collection: str) -> None:
        """Make stage `converse`."""
        if collects(self.execution.recipe, dataset):
            self.execution.answering.converse(folder, dataset, collection)
            return
        read, mix = self.execution.folder(f"read {collection}"), self.execution.mixed(dataset, collection)
        tasks = self.batches(folder, dataset, collection)
        sizes = [int(task.selected.sum()) for task in tasks]
        self.execution.map_parts(folder, f"converse {dataset}/{collection}", converse_part, tasks, sizes, "examples")
        before = account_of_drawing(read, mix)
        self.execution.finish_counted(folder, [task.name for task in tasks], "converse", "conversation", before)

    def keep(self, folder: StageFolder, dataset: str, collection: str) -> None:
        """Make stage `keep`."""
        converse = self.execution.folder(f"converse {dataset}/{collection}")
        mixture = self.execution.recipe.datasets[dataset].mixture
        where = f"mixtures.{mixture}.take.{collection}.reserve"
        self.execution.progress.begin(f"keep {dataset}/{collection}", total=1, unit="draws")
        mix, rules = self.execution.mixed(dataset, collection), self.course(dataset, collection).rules
        messages = {message.name for rule in rules if rule.is_expanded for message in rule.messages}
        names, questions = keep_first(mix, converse, folder, messages=sorted(messages), where=where)
        asked = mix.receipt["report"]["kept_at_most"]
        self.execution.finish_counted(folder, names, "keep", "conversation", read_account(converse), {"asked": asked})
        if questions < asked and self.execution.limit is None:
            left = f"the filters leave {questions:,} of {counted(asked, 'row')}"
            self.execution.progress.say(f"{where}: {left}; raise the reserve")

    def tokenize(self, folder: StageFolder, dataset: str, collection: str) -> None:
        """Make stage `tokenize`."""
        verdict, subject = "fast", f"{dataset}/{collection}"
        conversations = self._conversations(dataset, collection)
        unknown = self.execution.recipe.datasets[dataset].unknown
        tasks, results = self._tokenized(folder, conversations, subject, unknown, exact=False)
        wrong = sum(result.disagreeing for result in results)
        if wrong:
            verdict = "reference"
            self.execution.progress.end(
                f"the fast tokenizer disagrees with the reference on {counted(wrong, 'example')} checked"
            )
            tasks, _ = self._tokenized(folder, conversations, subject, unknown, exact=True)
        before = read_account(conversations)
        names = [task.name for task in tasks]
        reports = [folder.part(name).report for name in names]
        facts = {
            "tokenizer": verdict,
            "prompts_checked": sum(report["prompts_checked"] for report in reports),
            **{
                name: {held: sum(report[name][held] for report in reports) for held in ("examples", "answers")}
                for name in ("unknown", "normalized")
            },
        }
        self.execution.finish_counted(folder, names, "tokenize", "example", before, facts)

    def pack(self, folder: StageFolder, dataset: str) -> None:
        """Make stage `pack`."""
        self.execution.progress.begin(f"pack {dataset}", total=1, unit="datasets")
        names, report = pack_dataset(
            folder,
            units=self.execution.units(dataset),
            packer=self.execution.recipe.packing,
            shard_tokens=self.execution.recipe.output.shard_tokens,
            seed=self.execution.recipe.seed,
            open_encoder=partial(opened, self.execution.recipe.tokenizer, self.execution.student.folder),
        )
        execution = self.execution
        used = answers_used(execution.recipe, execution.plan, execution.store, dataset)
        folder.finish(names, {**report, **({"answers": used} if used else {})})
        self.execution.end(report, "example")

    def batches(self, folder: StageFolder, dataset: str, collection: str) -> list[ConverseTask]:
        """The examples of a dataset's collection, batch by batch, as a stage in this folder works on them."""
        selected, digests = taken_copies(self.execution.mixed(dataset, collection)), None
        if is_kept_apart(self.execution.recipe, dataset):
            digests = read_digests(self.execution.folder(f"questions {collection}"))
        return self._batches(folder, dataset, collection, selected, digests)

    def all_batches(self, folder: StageFolder, dataset: str, collection: str, keep: np.ndarray) -> list[ConverseTask]:
        """As `batches`, of every example once, before any is drawn; keep: bool [rows], which rows are examples."""
        return self._batches(folder, dataset, collection, keep.astype(np.int16), None)

    def _batches(
        self,
        folder: StageFolder,
        dataset: str,
        collection: str,
        selected: np.ndarray,
        digests: Digests | None,
    ) -> list[ConverseTask]:
        read = self.execution.folder(f"read {collection}")
        check_patterns(self.execution.recipe, self._known_tasks())
        course = self.course(dataset, collection)
        if any(rule.strategy.shots()[1] for rule in course.rules):
            course = replace(course, shots=folder.path / "shots.arrow")
            write_pool(
                folder.path / "shots.arrow",
                batches=batches_of(read),
                ids=read.path / f"{IDS}.arrow",
                selected=selected > 0,
                seed=self.execution.recipe.seed,
            )
        return [
            ConverseTask(
                name=f"part-{batch.start:012d}-{batch.stop:012d}",
                folder=folder.path,
                examples=batch.path,
                ids=read.path / f"{IDS}.arrow",
                start=batch.start,
                selected=selected[batch.start : batch.stop],
                questions=None if digests is None else tuple(half[batch.start : batch.stop] for half in digests),
                course=course,
            )
            for batch in batches_of(read)
        ]

    def course(self, dataset: str, collection: str) -> Course:
        """All that decides a dataset's conversations of a collection."""
        chosen = self.execution.recipe.datasets[dataset]
        rules = [
            BoundRule(
                when=rule.when,
                strategy_name=rule.strategy,
                strategy=self.execution.recipe.strategies[rule.strategy],
                messages=self._messages(rule.system_messages),
                replace=rule.replace,
                is_expanded=rule.expand == "each",
            )
            for rule in matching_rules(self.execution.recipe, collection)
        ]
        student = chosen.student.system_message
        return Course(
            collection=collection,
            rules=tuple(rules),
            teacher_name=chosen.teacher,
            teacher=self.execution.recipe.teachers[chosen.teacher],
            prepared=self._prepared(chosen.teacher),
            filters=chosen.filters,
            erase=chosen.student.erase,
            student_messages=self._messages([student] if student else []),
            seed=course_seed(self.execution.recipe, dataset),
            trains_history=self.execution.recipe.collections[collection].trains_history(),
            counter=QuestionCounter(self.execution.recipe.tokenizer, self.execution.student.folder),
        )

    def _read_all(self, folder: StageFolder, collection: str) -> None:
        source = self.execution.recipe.collections[collection]
        pinned = self._pinned(collection)
        tasks = read_tasks(source, collection=collection, folder=folder.path, slice_bytes=SLICE_BYTES, pinned=pinned)
        sizes = [sum(piece.stop - piece.start for piece in task.slices) for task in tasks]
        self.execution.map_parts(folder, f"read {collection}", read_part, tasks, sizes, "B")
        names = [task.name for task in tasks]
        report = index_examples(folder, names, collection=collection, source=source)
        report["unused_columns"] = list(source.unused_columns())
        self._pinned(collection)
        folder.finish([*names, IDS], report)
        self.execution.end(report, "example")

    def _pinned(self, collection: str) -> Mapping[str, Pinned]:
        """The files of a collection, seen to be those that the plan was made of."""
        digests = FileDigests(self.execution.store.root / "digests.sqlite")
        planned = self.execution.plan[f"read {collection}"].decisive["pin"]["files"]
        return pinned_as(digests.stamped(self.execution.recipe.collections[collection].files()), dict(planned))

    def _conversations(self, dataset: str, collection: str) -> StageFolder:
        """The stage whose conversations are tokenized."""
        verb = "keep" if has_reserve(self.execution.recipe, dataset, collection) else "converse"
        return self.execution.folder(f"{verb} {dataset}/{collection}")

    def _tokenized(
        self,
        folder: StageFolder,
        conversations: StageFolder,
        subject: str,
        unknown: Literal["reject", "train"],
        *,
        exact: bool,
    ) -> tuple[list[TokenizeTask], list[Tokenized]]:
        parts = [part for part in conversations.parts() if part.name != ACCOUNT]
        of = sum(part.report["out"] for part in parts)
        groups = together(parts)
        tasks = [
            TokenizeTask(
                name=f"{group[0].name}-x{len(group)}-{'exact' if exact else 'fast'}",
                folder=folder.path,
                conversations=tuple(part.file(".arrow") for part in group),
                tokenizer=self.execution.recipe.tokenizer,
                tokenizer_folder=self.execution.student.folder,
                markup=self.execution.student.markup,
                exact=exact,
                of=of,
                unknown=unknown,
            )
            for group in groups
        ]
        sizes = [sum(part.report["out"] for part in group) for group in groups]
        return tasks, self.execution.map_parts(folder, f"tokenize {subject}", tokenize_part, tasks, sizes, "examples")

    def _known_tasks(self) -> dict[str, list[str]]:
        """The tasks of each collection whose reading the store holds."""
        folders = {name: self.execution.folder(f"read {name}") for name in used_collections(self.execution.recipe)}
        return {name: list(folder.receipt["report"]["tasks"]) for name, folder in folders.items() if folder.published}

    def _prepared(self, teacher: str) -> Path | None:
        """What a teacher looks its answers up in, where it does."""
        return (
            self.execution.folder(f"prepare {teacher}").path
            if teacher in prepared_teachers(self.execution.recipe)
            else None
        )

    def _messages(self, names: Sequence[str]) -> tuple[Message, ...]:
        texts, weights = (
            self.execution.recipe.system_message_texts(names),
            self.execution.recipe.system_message_weights(names),
        )
        return tuple(Message(name, text, weight) for (name, text), weight in zip(texts.items(), weights, strict=True))
