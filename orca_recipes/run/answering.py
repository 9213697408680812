"""The stages where answers are bought: ask, collect once for all that a teacher is asked, answer, converse.

They are made by the execution like all others; what is bought is counted here, because a stage that the store holds
already was paid for by another build.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from orca_recipes.contract.kinds import Teacher
from orca_recipes.counted import counted
from orca_recipes.errors import LockError, TraceError
from orca_recipes.plan.compile import collects, taken_collections
from orca_recipes.run.account import account_of_drawing, keep_account, read_account
from orca_recipes.run.answer import answer_parts, missing
from orca_recipes.run.answered import AnsweredTask, added, answered_part, summed
from orca_recipes.run.ask import AskTask, ask_part, asked_parts
from orca_recipes.run.best_of import Rounds
from orca_recipes.run.collect import Bought, Questions, Session, spent_before
from orca_recipes.run.panel import panel_for
from orca_recipes.run.store import StageFolder
from orca_recipes.traces.store import TraceStore, default_root

if TYPE_CHECKING:
    from orca_recipes.run.execute import Execution

Result = TypeVar("Result")


@dataclass
class Answering:
    """What an execution does where answers are bought. bought: what this build bought, by "dataset/collection"."""

    execution: Execution
    bought: dict[str, Bought] = field(default_factory=dict)
    _collected: set[str] = field(default_factory=set)
    _rounds: dict[str, Rounds] = field(default_factory=dict)

    def ask(self, folder: StageFolder, dataset: str, collection: str) -> None:
        """Make stage `ask`."""
        execution, subject = self.execution, f"{dataset}/{collection}"
        samples = execution.recipe.datasets[dataset].best_of
        tasks = [AskTask(batch, samples) for batch in execution.making.batches(folder, dataset, collection)]
        sizes = [int(task.batch.selected.sum()) for task in tasks]
        execution.map_parts(folder, f"ask {subject}", ask_part, tasks, sizes, "examples")
        read, mix = execution.folder(f"read {collection}"), execution.mixed(dataset, collection)
        before = account_of_drawing(read, mix)
        names = [task.name for task in tasks]
        execution.finish_counted(folder, names, "ask", "question", before)

    def answer(self, folder: StageFolder, dataset: str, collection: str) -> None:
        """Make stage `answer`, buying what the traces lack of all that its teacher is asked."""
        execution = self.execution
        name = execution.recipe.datasets[dataset].teacher
        teacher = execution.recipe.teachers[name]
        asked = execution.folder(f"ask {dataset}/{collection}")
        with TraceStore(execution.traces or default_root()) as traces:
            traces.refresh()
            if name not in self._collected:
                self._collect(name, teacher, traces)
                self._collected.add(name)
            rounds = self._rounds_of(dataset, collection)
            while rounds is not None and not rounds.is_last:
                _unless_gone(traces, partial(rounds.go_on, traces, teacher.lengths()))
            chosen = None if rounds is None else rounds.chosen
            report = _unless_gone(traces, partial(answer_parts, asked, folder, traces, teacher.lengths(), chosen))
            self._check(f"{dataset}/{collection}", report["digest"], traces)
        names = report.pop("parts")
        before = read_account(asked).followed_by("answer", report, [])
        folder.finish([*names, keep_account(folder, before)], report)

    def converse(self, folder: StageFolder, dataset: str, collection: str) -> None:
        """Make stage `converse` of what was asked and answered."""
        execution, subject = self.execution, f"{dataset}/{collection}"
        asked, answers = execution.folder(f"ask {subject}"), execution.folder(f"answer {subject}")
        parts, course = asked_parts(asked), execution.making.course(dataset, collection)
        tasks = [
            AnsweredTask(part.name, folder.path, part.file(".arrow"), answers.path / f"{part.name}.arrow", course)
            for part in parts
        ]
        sizes = [part.report["out"] for part in parts]
        execution.map_parts(folder, f"converse {subject}", answered_part, tasks, sizes, "answers")
        names = [task.name for task in tasks]
        reports = [folder.part(name).report for name in names]
        facts = {
            "strategies": summed(report["strategies"] for report in reports),
            "rejections": added(report["rejections"] for report in reports),
        }
        execution.finish_counted(folder, names, "converse", "conversation", read_account(answers), facts)

    def questions(self, teacher: str) -> list[Questions]:
        """All that a teacher is asked, in recipe order, as far as it was rendered."""
        execution = self.execution
        found = []
        for dataset, chosen in execution.recipe.datasets.items():
            if chosen.teacher == teacher and collects(execution.recipe, dataset):
                for collection in taken_collections(execution.recipe, dataset):
                    subject = f"{dataset}/{collection}"
                    folder = execution.folder(f"ask {subject}")
                    if folder.published:
                        found.append(Questions(subject, folder))
        return found

    def _check(self, subject: str, digest: str, traces: TraceStore) -> None:
        """Hold the answers against those of the lock, before anything is made of them."""
        locked = self.execution.locked_answers.get(subject, digest)
        if locked != digest:
            raise LockError(
                f"answers to {subject}: the trace store {traces.root} holds others than those that were locked "
                f"({locked} are locked, {digest} are here); say where those are with --traces, or build without "
                "--locked"
            )

    def _rounds_of(self, dataset: str, collection: str) -> Rounds | None:
        """Which samples are needed, where a dataset asks for several."""
        subject, samples = f"{dataset}/{collection}", self.execution.recipe.datasets[dataset].best_of
        if samples > 1 and subject not in self._rounds:
            course = self.execution.making.course(dataset, collection)
            self._rounds[subject] = Rounds(self.execution.folder(f"ask {subject}"), samples, course)
        return self._rounds.get(subject)

    def _collect(self, name: str, teacher: Teacher, traces: TraceStore) -> None:
        """Buy what the traces lack, sample after sample: a further one only where filters refused those before."""
        asked = self.questions(name)
        lacking = [each for each in asked if f"answer {each.subject}" in self.execution.lacking]
        rounds = {each.subject: self._rounds_of(*each.subject.split("/", 1)) for each in lacking}
        self._buy(name, teacher, traces, asked, [_of_round(each, rounds[each.subject]) for each in lacking])
        while going := {subject: each for subject, each in rounds.items() if each is not None and not each.is_last}:
            for each in going.values():
                _unless_gone(traces, partial(each.go_on, traces, teacher.lengths()))
            further = [_of_round(each, going[each.subject]) for each in lacking if each.subject in going]
            self._buy(name, teacher, traces, asked, further)

    def _buy(
        self, name: str, teacher: Teacher, traces: TraceStore, asked: list[Questions], wanted: list[Questions]
    ) -> None:
        """Buy what the traces lack of the wanted questions; asked: all whose cost counts towards the budget."""
        number = sum(
            (stand.entry if self.execution.may_buy else stand.last) is None
            for each in wanted
            for _, standings in missing(each.asked, traces, teacher.lengths(), each.chosen)
            for stand in standings.values()
        )
        if not number:
            return
        if not self.execution.may_buy:
            raise LockError(
                f"teachers.{name}: the trace store {traces.root} lacks {number:,} of the answers that the "
                f"recipe needs, and --locked buys none; bring the traces (`orca-recipe traces import`), say where "
                "they are with --traces, or build without --locked"
            )
        spent = spent_before(asked, teacher, traces)
        money = teacher.money()
        with panel_for(self.execution.progress, name, number, money=money, spent_usd=spent) as panel:
            session = Session(teacher, wanted, traces, panel, spent)
            try:
                session.run()
            finally:
                for subject, bought in session.bought.items():
                    self.bought.setdefault(subject, Bought()).join(bought)
        traces.refresh()


def _of_round(questions: Questions, rounds: Rounds | None) -> Questions:
    return questions if rounds is None else replace(questions, chosen=rounds.of_round())


def _unless_gone(traces: TraceStore, work: Callable[[], Result]) -> Result:
    """Do what needs answers that were bought. Raises: TraceError where some are not kept."""
    try:
        return work()
    except KeyError as error:
        raise TraceError(
            f"the trace store {traces.root} lacks {counted(error.args[0], 'answer')} just asked for: the teacher did "
            "not keep them, or something removed them; run the same command again"
        ) from error
