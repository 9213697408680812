"""Buying the answers that the traces lack: one session for all that a teacher is asked in a build.

Requests stream from the stages that asked them, so that a million of them wait on the disk. Before a request goes out
it is claimed in the local index: builds that run at once on one machine wait for each other's answers instead of buying
them twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from orca_recipes import trust
from orca_recipes.contract.answers import CUT, Answer, Budget, Collecting, Request
from orca_recipes.contract.kinds import Teacher
from orca_recipes.errors import OrcaError, TraceError
from orca_recipes.run.answers.panel import Panel
from orca_recipes.run.answers.requests import asked_parts, keys_of, requests_of
from orca_recipes.run.answers.stored_answers import Chosen, missing
from orca_recipes.store.disk_faults import KEPT, writing
from orca_recipes.store.stage_folder import Part, StageFolder
from orca_recipes.traces.question_claims import KeyClaims
from orca_recipes.traces.sent_requests import InFlight
from orca_recipes.traces.shared_sent import GROUP, SharedSent
from orca_recipes.traces.trace_lines import Question, Trace
from orca_recipes.traces.trace_store import DurableAnswers, TraceStore

_CHUNK = 256
"""Requests that are claimed together."""

# Another run asks what is waited for: its answers take seconds, and each look reads the store's index.
_WAIT_SECONDS = 0.5
# The panel shows amounts kept second by second: to draw it more often would show the same.
_TICK_SECONDS = 1.0


@dataclass(frozen=True)
class Questions:
    """Requests of one stage. subject: "dataset/collection". chosen: the requests that count; None means all."""

    subject: str
    asked: StageFolder
    chosen: Chosen | None = None


@dataclass
class Bought:
    """Answers bought in a session for one subject. asked: requests. empty: empty replies, each asked again as often as
    its teacher says. unpriced: answers of unknown cost. maybe_billed_twice: repeated sendings of answered requests, of
    which nothing came back."""

    asked: int = 0
    empty: int = 0
    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0
    maybe_billed_twice: int = 0

    def add(self, answer: Answer, usd: float | None) -> None:
        self.answers += 1
        self.empty += answer.is_empty
        self.input_tokens += answer.input_tokens or 0
        self.output_tokens += answer.output_tokens or 0
        self.usd += usd or 0.0
        self.unpriced += usd is None

    def join(self, other: Bought) -> None:
        """Add what another session bought."""
        for name, number in vars(other).items():
            setattr(self, name, getattr(self, name) + number)


@dataclass
class Session:
    """One teacher's collecting. After `run`, `bought` holds what was bought for each subject.

    name: the teacher's in the recipe. sent: what is in flight, and what dead runs left. only: the keys that are asked,
    all that are missing where it is null.
    """

    name: str
    teacher: Teacher
    questions: Sequence[Questions]
    traces: TraceStore
    sent: InFlight
    panel: Panel
    spent_usd: float = 0.0
    only: frozenset[bytes] | None = None
    bought: dict[str, Bought] = field(default_factory=dict)
    _in_flight: dict[bytes, tuple[str, Question]] = field(default_factory=dict)
    _again: dict[bytes, Request] = field(default_factory=dict)
    _retries: int = 0
    _unsent: dict[bytes, tuple[str, Part]] | None = None
    _read: tuple[Path, Mapping[bytes, Request]] | None = None

    def __post_init__(self) -> None:
        self._sampling = self.teacher.sampling()

    def run(self) -> None:
        """Ask for all that is missing; return when it is on the disk.

        Raises: TrustError where the user never allowed what is sent; TraceError where answers cannot be written;
            BudgetSpent, TeacherError, or what the teacher raises. What was answered until then is kept.
        """
        trust.check(self.teacher.destinations(), owner=f"teachers.{self.name}")
        self.bought = {questions.subject: Bought() for questions in self.questions}
        with KeyClaims(self.traces.index) as claims:
            try:
                asyncio.run(self._collect(claims))
            except BaseExceptionGroup as group:
                raise _first(group) from group

    def begin(self, request: Request, endpoint: str, *, once: bool = False) -> str:
        """Write down what goes out now; see `Sendings`. Raises: TraceError."""
        self.traces.may_ask()
        with self._writing():
            return self.sent.begin(request.key, endpoint, once=once)

    def refused(self, request: Request) -> None:
        """Let a sending count for nothing; see `Sendings`. Raises: TraceError."""
        with self._writing():
            self.sent.refused(request.key)

    async def _collect(self, claims: KeyClaims) -> None:
        durable = DurableAnswers(self.traces)
        ticking = asyncio.ensure_future(self._ticking())
        budget = Budget(self.teacher.money().budget_usd, spent_usd=self.spent_usd)
        self._retries = self.teacher.most_empty_retries()
        try:
            await self._ask(self._requests(claims), durable, budget)
            while self._again and self._retries:
                self._retries -= 1
                again, self._again = self._again, {}
                await self._ask(_one_by_one(list(again.values())), durable, budget)
        finally:
            ticking.cancel()
            # Answers that came before a fault are paid for, and kept.
            await durable.drain()

    async def _ask(self, requests: AsyncIterator[Request], durable: DurableAnswers, budget: Budget) -> None:
        keep, notes = self._keeping(durable), self.traces.notes
        requests = requests if self.teacher.tells_sendings else self._as_sent(requests)
        await self.teacher.collect(Collecting(requests, keep, self.panel, budget, notes, self))

    async def _as_sent(self, requests: AsyncIterator[Request]) -> AsyncIterator[Request]:
        """Yield requests that count as sent when they are handed over."""
        async for request in requests:
            self.begin(request, self.name)
            yield request

    def _writing(self) -> AbstractContextManager[None]:
        return writing_traces(self.traces)

    async def _ticking(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self.panel.tick()

    def _keeping(self, durable: DurableAnswers) -> Callable[[Answer], Awaitable[None]]:
        money = self.teacher.money()
        last = self.teacher.lengths().limits[-1]

        async def keep(answer: Answer) -> None:
            answer = answer.as_kept()
            with self._writing():
                subject, question = self._in_flight.get(answer.key) or self._not_streamed(answer.key)
                await durable.keep(Trace(answer, question))
                self.sent.answered(answer.key)
            usd = None if money.prices is None else money.prices.cost_of(answer, batch=money.batch)
            is_last = answer.finish_reason != CUT or answer.max_tokens == last
            if subject is not None and question is not None:
                self.bought[subject].add(answer, usd)
                if not is_last and not self.teacher.tells_sendings:
                    self.begin(question.request(answer.key, None), self.name)
                if answer.is_empty and self._retries:
                    self._again[answer.key] = question.request(answer.key, answer.max_tokens)
                    self.panel.failed(answer.endpoint, "empty reply")
                    is_last = False
                if is_last:
                    self._in_flight.pop(answer.key, None)
            self.panel.kept(answer, usd, is_last=is_last)

        return keep

    def _not_streamed(self, key: bytes) -> tuple[str | None, Question | None]:
        """Return what a key answers that was not handed over yet: a run before this one sent it (a batch that it
        left)."""
        if self._unsent is None:
            self._unsent = {}
            for each in self.questions:
                for part in asked_parts(each.asked):
                    for asked in keys_of(part, None if each.chosen is None else each.chosen[part.name]):
                        self._unsent.setdefault(asked, (each.subject, part))
        if key not in self._unsent:
            return None, None
        subject, part = self._unsent[key]
        if self._read is None or self._read[0] != part.file(".arrow"):
            found = requests_of(part, dict.fromkeys(keys_of(part)))
            self._read = part.file(".arrow"), {request.key: request for request in found}
        request = self._read[1][key]
        self.bought[subject].asked += 1
        question = Question(request.messages, self._sampling, request.sample, request.beside, request.tools)
        self._in_flight[key] = subject, question
        return self._in_flight[key]

    async def _requests(self, claims: KeyClaims) -> AsyncIterator[Request]:
        """Yield the missing requests that nobody else is asking, then those left unanswered by others."""
        seen: set[bytes] = set()
        others: list[tuple[str, Part, list[bytes]]] = []
        for questions in self.questions:
            for part, standings in missing(questions.asked, self.traces, self.teacher.lengths(), questions.chosen):
                keys = [key for key, stand in standings.items() if stand.entry is None and key not in seen]
                keys = keys if self.only is None else [key for key in keys if key in self.only]
                seen.update(keys)
                for start in range(0, len(keys), _CHUNK):
                    chunk = keys[start : start + _CHUNK]
                    async for request in self._claimed(questions.subject, part, chunk, claims, others):
                        yield request
        while others:
            # A build that was killed never answers what it claimed.
            claims.release_of_the_dead()
            waiting, others = others, []
            for subject, part, keys in waiting:
                async for request in self._claimed(subject, part, keys, claims, others):
                    yield request
            if others:
                await asyncio.sleep(_WAIT_SECONDS)

    async def _claimed(
        self,
        subject: str,
        part: Part,
        keys: list[bytes],
        claims: KeyClaims,
        others: list[tuple[str, Part, list[bytes]]],
    ) -> AsyncIterator[Request]:
        """Claim these keys and yield the requests that are ours to ask; add those asked by others to `others`."""
        mine = claims.claim(keys)
        self.traces.refresh(anew=False)
        standings = self.traces.standings(keys, self.teacher.lengths())
        rest = [key for key in keys if key not in mine and standings[key].entry is None]
        if rest:
            others.append((subject, part, rest))
        limits = {key: standings[key].max_tokens for key in keys if key in mine and standings[key].entry is None}
        async for request in self._written_down(requests_of(part, limits)):
            question = Question(request.messages, self._sampling, request.sample, request.beside, request.tools)
            self.bought[subject].asked += request.key not in self._in_flight
            self._in_flight[request.key] = (subject, question)
            yield request

    async def _written_down(self, requests: Iterator[Request]) -> AsyncIterator[Request]:
        """Yield requests; where hosts share the traces, after those that come next are written down together."""
        if not isinstance(self.sent, SharedSent):
            for request in requests:
                yield request
            return
        while group := list(islice(requests, GROUP)):
            # A snapshot is made here, where requests come and go, and sent where nobody waits for it.
            coming = self.sent.foresee([request.key for request in group])
            await asyncio.to_thread(self.sent.send, coming)
            for request in group:
                yield request


async def _one_by_one(requests: Sequence[Request]) -> AsyncIterator[Request]:
    for request in requests:
        yield request


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Choose the fault that ended a collection: the first with a sentence for the user (an OrcaError), else the
    first."""
    faults = [_first(fault) if isinstance(fault, BaseExceptionGroup) else fault for fault in group.exceptions]
    return next((fault for fault in faults if isinstance(fault, OrcaError)), faults[0])


def writing_traces(traces: TraceStore) -> AbstractContextManager[None]:
    """Turn a refusal to write in a trace store into one sentence. Raises: TraceError."""
    what = f"the trace store {traces.name}"
    return writing(traces.root, what, "choose another with --traces or ORCA_TRACES", TraceError, KEPT)


def spent_before(questions: Sequence[Questions], teacher: Teacher, traces: TraceStore) -> float:
    """Sum the USD that the stored answers to these questions cost, as far as prices and usage are known."""
    money, seen, usd = teacher.money(), set[bytes](), 0.0
    if money.prices is None:
        return 0.0
    for each in questions:
        for _, standings in missing(each.asked, traces, teacher.lengths(), each.chosen):
            for key, stand in standings.items():
                entry = stand.last
                if entry is None or key in seen or entry.input_tokens is None or entry.output_tokens is None:
                    continue
                seen.add(key)
                tokens = {"input_tokens": entry.input_tokens, "output_tokens": entry.output_tokens}
                usd += money.prices.cost(**tokens, batch=money.batch)
    return usd
