"""Buy answers once for all requests to a teacher, and count them.

What is bought is counted here, because a stage that the store holds already was paid for by another build.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from orca_recipes.contract.kinds import Teacher
from orca_recipes.counted import counted
from orca_recipes.errors import LockError, TraceError
from orca_recipes.plan.used_parts import collects, taken_collections
from orca_recipes.run.answers.best_of import Rounds
from orca_recipes.run.answers.panel import panel_for
from orca_recipes.run.answers.requests import asked_parts, keys_of
from orca_recipes.run.answers.session import Bought, Questions, Session, spent_before, writing_traces
from orca_recipes.run.answers.stored_answers import missing
from orca_recipes.run.conversations.course import course_of
from orca_recipes.run.work.bench import Bench
from orca_recipes.traces.sent_requests import InFlight
from orca_recipes.traces.trace_store import Standing, TraceStore, default_root

Result = TypeVar("Result")


@dataclass
class Collecting:
    """State shared by the stages that buy answers.

    Attributes:
        bought: what this build bought, by "dataset/collection".
        collected: teachers that were asked already.
        rounds: which samples are needed, by "dataset/collection".
    """

    bought: dict[str, Bought] = field(default_factory=dict)
    collected: set[str] = field(default_factory=set)
    rounds: dict[str, Rounds] = field(default_factory=dict)


def questions_of(bench: Bench, teacher: str) -> list[Questions]:
    """List all questions to a teacher that are rendered so far, in recipe order."""
    found = []
    for dataset, chosen in bench.recipe.datasets.items():
        if chosen.teacher == teacher and collects(bench.recipe, dataset):
            for collection in taken_collections(bench.recipe, dataset):
                subject = f"{dataset}/{collection}"
                folder = bench.folder(f"ask {subject}")
                if folder.published:
                    found.append(Questions(subject, folder))
    return found


def check_locked(bench: Bench, subject: str, digest: str, traces: TraceStore) -> None:
    """Hold the answers against those of the lock, before anything is made of them."""
    locked = bench.locked_answers.get(subject, digest)
    if locked != digest:
        raise LockError(
            f"answers to {subject}: the trace store {traces.name} holds others than those that were locked "
            f"({locked} are locked, {digest} are here); say where those are with --traces, or build without "
            "--locked"
        )


def rounds_of(bench: Bench, dataset: str, collection: str) -> Rounds | None:
    """Return the sampling rounds of a dataset that asks for several answers, else None."""
    state = bench.shared(Collecting)
    subject, samples = f"{dataset}/{collection}", bench.recipe.datasets[dataset].best_of
    if samples > 1 and subject not in state.rounds:
        course = course_of(bench, dataset, collection)
        state.rounds[subject] = Rounds(bench.folder(f"ask {subject}"), samples, course)
    return state.rounds.get(subject)


def collect_once(bench: Bench, name: str, teacher: Teacher, traces: TraceStore) -> None:
    """Buy the answers missing from the traces of all a teacher's requests, once, at the first of its stages."""
    state = bench.shared(Collecting)
    if name not in state.collected:
        _collect(bench, name, teacher, traces)
        state.collected.add(name)


def _collect(bench: Bench, name: str, teacher: Teacher, traces: TraceStore) -> None:
    """Buy what the traces lack, sample after sample: a further one only where filters refused those before."""
    asked = questions_of(bench, name)
    lacking = [each for each in asked if f"answer {each.subject}" in bench.lacking]
    rounds = {each.subject: rounds_of(bench, *each.subject.split("/", 1)) for each in lacking}
    _buy(bench, name, teacher, traces, asked, [_of_round(each, rounds[each.subject]) for each in lacking])
    while going := {subject: each for subject, each in rounds.items() if each is not None and not each.is_last}:
        for each in going.values():
            unless_gone(traces, partial(each.go_on, traces, teacher.lengths()))
        further = [_of_round(each, going[each.subject]) for each in lacking if each.subject in going]
        _buy(bench, name, teacher, traces, asked, further)


def _buy(
    bench: Bench, name: str, teacher: Teacher, traces: TraceStore, asked: list[Questions], wanted: list[Questions]
) -> None:
    """Buy what the traces lack of the wanted questions; asked: all whose cost counts towards the budget."""
    if not _is_lacking(bench, teacher, traces, wanted):
        return
    with (
        writing_traces(traces),
        traces.asking(teacher.sampling(), bench.progress.say),
        traces.in_flight() as sent,
    ):
        # Another host may have bought them while this one waited.
        number, again = _lacking(bench, teacher, traces, wanted, sent)
        if not number:
            return
        _refuse_locked(bench, name, number, traces)
        if again:
            bench.progress.say(
                f"teacher {name}: {counted(again, 'request')} went out before a run was stopped, unanswered; "
                "asked again now, each may be billed twice"
            )
        spent = spent_before(asked, teacher, traces)
        money = teacher.money()
        with panel_for(bench.progress, name, number, money=money, spent_usd=spent) as panel:
            session = Session(name, teacher, wanted, traces, sent, panel, spent)
            try:
                session.run()
            finally:
                for subject, bought in session.bought.items():
                    bench.shared(Collecting).bought.setdefault(subject, Bought()).join(bought)
    traces.refresh()


def count_billed_twice(bench: Bench) -> None:
    """Count what may be billed twice of the recipe's answered requests, and have it told.

    It is done when all else is done: a run that is killed before has told nobody, and the next one does.
    """
    folders = [
        (f"{dataset}/{collection}", bench.recipe.datasets[dataset].teacher)
        for dataset in bench.recipe.datasets
        if collects(bench.recipe, dataset)
        for collection in taken_collections(bench.recipe, dataset)
        if bench.folder(f"ask {dataset}/{collection}").published
    ]
    if not folders:
        return
    with TraceStore(bench.traces or default_root()) as traces, writing_traces(traces):
        if not traces.has_in_flight():
            return
        with traces.in_flight() as sent:
            traces.refresh()
            for subject, teacher in folders:
                twice = _told_twice(bench, subject, bench.recipe.teachers[teacher], traces, sent)
                bench.shared(Collecting).bought.setdefault(subject, Bought()).maybe_billed_twice += twice


def _told_twice(bench: Bench, subject: str, teacher: Teacher, traces: TraceStore, sent: InFlight) -> int:
    twice = 0
    for part in asked_parts(bench.folder(f"ask {subject}")) if sent.open or sent.untold else ():
        keys = [key for key in keys_of(part) if key in sent.open or key in sent.untold]
        for key, stand in traces.standings(keys, teacher.lengths()).items():
            if stand.last is not None:
                sent.answered(key)
            twice += sent.tell(key)
    return twice


def _is_lacking(bench: Bench, teacher: Teacher, traces: TraceStore, wanted: list[Questions]) -> bool:
    """Tell whether the traces lack any answer."""
    return any(
        _is_missing(bench, stand)
        for each in wanted
        for _, standings in missing(each.asked, traces, teacher.lengths(), each.chosen)
        for stand in standings.values()
    )


def _lacking(
    bench: Bench, teacher: Teacher, traces: TraceStore, wanted: list[Questions], sent: InFlight
) -> tuple[int, int]:
    """Count the answers missing from the traces, and those of them that stopped runs had asked for."""
    number = again = 0
    for each in wanted:
        for _, standings in missing(each.asked, traces, teacher.lengths(), each.chosen):
            for key, stand in standings.items():
                is_missing = _is_missing(bench, stand)
                number += is_missing
                again += is_missing and key in sent.open
                if not is_missing and key in sent.open:
                    sent.answered(key)
    return number, again


def _is_missing(bench: Bench, stand: Standing) -> bool:
    return (stand.entry if bench.may_buy else stand.last) is None


def _refuse_locked(bench: Bench, name: str, number: int, traces: TraceStore) -> None:
    if not bench.may_buy:
        raise LockError(
            f"teachers.{name}: the trace store {traces.name} lacks {number:,} of the answers that the "
            "recipe needs, and none are bought for an archive or with --locked; bring the traces (`orca-recipe traces "
            "import`), say where they are with --traces, or build the recipe without --locked"
        )


def _of_round(questions: Questions, rounds: Rounds | None) -> Questions:
    return questions if rounds is None else replace(questions, chosen=rounds.of_round())


def unless_gone(traces: TraceStore, work: Callable[[], Result]) -> Result:
    """Run work that needs bought answers. Raises: TraceError if some are not kept."""
    try:
        return work()
    except KeyError as error:
        raise TraceError(
            f"the trace store {traces.name} lacks {counted(error.args[0], 'answer')} just asked for: the teacher did "
            "not keep them, or something removed them; run the same command again"
        ) from error
