"""Buy answers once for all requests to a teacher, and count them.

What is bought is counted here, because a stage that the store holds already was paid for by another build.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from orca_recipes.contract.kinds import Teacher
from orca_recipes.counted import counted
from orca_recipes.errors import LockError, TraceError
from orca_recipes.plan.used_parts import collects, taken_collections
from orca_recipes.run.answers.best_of import Rounds
from orca_recipes.run.answers.panel import panel_for
from orca_recipes.run.answers.session import Bought, Questions, Session, spent_before, writing_traces
from orca_recipes.run.answers.stored_answers import missing
from orca_recipes.run.conversations.course import course_of
from orca_recipes.run.work.bench import Bench
from orca_recipes.traces.sent_requests import SentRequests
from orca_recipes.traces.trace_store import TraceStore

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
            f"answers to {subject}: the trace store {traces.root} holds others than those that were locked "
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
    with writing_traces(traces.root), SentRequests(traces.root / "sent") as sent:
        number, again, twice = _lacking(bench, teacher, traces, wanted, sent)
        if not number:
            _tell(bench, twice, sent)
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
        _tell(bench, twice | session.twice, sent)
    traces.refresh()


def _tell(bench: Bench, twice: Mapping[bytes, str], sent: SentRequests) -> None:
    """Count what may be billed twice: at the end, since a run that is killed before has told nobody."""
    for key, subject in twice.items():
        bench.shared(Collecting).bought.setdefault(subject, Bought()).maybe_billed_twice += sent.tell(key)


def _lacking(
    bench: Bench, teacher: Teacher, traces: TraceStore, wanted: list[Questions], sent: SentRequests
) -> tuple[int, int, dict[bytes, str]]:
    """Count the answers missing from the traces, and those of them that stopped runs had asked for. Map requests of
    such runs that were answered at a second try, and not reported yet, to their subjects."""
    number = again = 0
    twice: dict[bytes, str] = {}
    for each in wanted:
        for _, standings in missing(each.asked, traces, teacher.lengths(), each.chosen):
            for key, stand in standings.items():
                is_missing = (stand.entry if bench.may_buy else stand.last) is None
                number += is_missing
                again += is_missing and key in sent.open
                if not is_missing and (key in sent.open or key in sent.untold):
                    sent.answered(key)
                    twice[key] = each.subject
    return number, again, twice


def _refuse_locked(bench: Bench, name: str, number: int, traces: TraceStore) -> None:
    if not bench.may_buy:
        raise LockError(
            f"teachers.{name}: the trace store {traces.root} lacks {number:,} of the answers that the "
            f"recipe needs, and --locked buys none; bring the traces (`orca-recipe traces import`), say where "
            "they are with --traces, or build without --locked"
        )


def _of_round(questions: Questions, rounds: Rounds | None) -> Questions:
    return questions if rounds is None else replace(questions, chosen=rounds.of_round())


def unless_gone(traces: TraceStore, work: Callable[[], Result]) -> Result:
    """Run work that needs bought answers. Raises: TraceError if some are not kept."""
    try:
        return work()
    except KeyError as error:
        raise TraceError(
            f"the trace store {traces.root} lacks {counted(error.args[0], 'answer')} just asked for: the teacher did "
            "not keep them, or something removed them; run the same command again"
        ) from error
