"""Ask many questions of several endpoints at once, as fast as their limits allow.

One loop sends everything and so sees every limit; each question in flight is a task that ends by waking the loop. No
more questions are taken from the queue than can be in flight, so a million that wait cost nothing. When the run must
stop, what is in flight is waited for and kept: it is paid for. What goes out is written down before, for a kill's sake.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace

from orca_plugins.teachers.chat import ChatTeacher
from orca_plugins.teachers.openai.costs_and_answers import answer_of, cost_of, most_cost
from orca_plugins.teachers.openai.endpoint import Endpoint
from orca_plugins.teachers.openai.http import NoReply, Reply, Wire
from orca_plugins.teachers.openai.lane import Lane, Ticket
from orca_plugins.teachers.openai.replies import Again, Answered, Doubtful, Outcome, Useless, read
from orca_plugins.teachers.openai.token_estimate import InputTokens, OutputTokens, Size, size_of
from orca_recipes.contract.answers import CUT, Answer, Collecting, Request
from orca_recipes.errors import TeacherError

# With delays that double from half a second, about a minute in all.
MOST_TRIES = 8
# An outage of a server that has answered before passes; giving up sooner would end a run that nobody watches at night.
PATIENCE_SECONDS = 1800.0
FIRST_PATIENCE_SECONDS = 120.0
# A run that must stop waits on while an answer comes in each such span.
GRACE_SECONDS = 30.0
INTERRUPTED_SECONDS = 5.0
"""How long Ctrl-C waits for what is in flight; a second one ends at once."""
_DOUBTFUL_STATUSES = frozenset({200, 408, 502, 504, 520, 522, 524})
"""Statuses behind which a model may have answered, and counted: gateways gave up waiting, or the reply is garbled."""
# So many refusals without one answer are the options' fault, not the questions'.
_MOST_DOUBTFUL = 20
# What is taken from the queue is held in memory, and would be claimed from other runs.
_MOST_AHEAD = 256
_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 60.0


@dataclass
class Question:
    """A request on its way: how often it failed, since when, and the lane where it did last."""

    request: Request
    size: Size
    failures: int = 0
    first_failed: float = 0.0
    avoid: int | None = None


class Live:
    """One collection. All times are the event loop's clock, so that a clock that is set changes nothing."""

    def __init__(
        self,
        teacher: ChatTeacher,
        endpoints: Sequence[Endpoint],
        *,
        wire: Wire,
        collecting: Collecting,
        timeout_seconds: float,
    ) -> None:
        self._teacher, self._wire, self._requests = teacher, wire, collecting.requests
        self._keep, self._panel, self._budget = collecting.keep, collecting.panel, collecting.budget
        self._sendings = collecting.sendings
        self._reads, self._writes = InputTokens(), OutputTokens()
        self._lanes = [
            Lane(number, endpoint, reads=self._reads, writes=self._writes) for number, endpoint in enumerate(endpoints)
        ]
        self._most_in_flight = 2 * sum(endpoint.concurrency for endpoint in endpoints)
        self._exact = any(endpoint.input_tokens_per_minute for endpoint in endpoints)
        self._prices = teacher.money().prices
        # Sooner than later on: before the first answer, a wrong address is likely.
        self._first_patience = max(FIRST_PATIENCE_SECONDS, 3 * timeout_seconds)
        self._fresh: deque[Question] = deque()
        self._later: list[tuple[float, int, Question]] = []
        self._numbers = itertools.count()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fed = False
        self._stopped: BaseException | None = None
        self._doubtful: list[tuple[Question, Lane, Doubtful]] = []
        self._turn = 0.0
        self._succeeded = False
        self._alive_at = 0.0

    async def run(self) -> None:
        """Ask every request and keep every answer.

        Raises: TeacherError, BudgetSpent, and whatever `keep` and `requests` raise; questions in flight are kept first.
        """
        self._tell_limits()
        self._alive_at = self._now()
        feeder = asyncio.create_task(self._feed())
        try:
            await self._send_all()
            self._settle_doubts(end=True)
            await self._land()
        except asyncio.CancelledError:
            await self._land(INTERRUPTED_SECONDS)
            raise
        except BaseException:
            await self._land()
            raise
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, *self._tasks, return_exceptions=True)
        if self._stopped is not None:
            raise self._stopped

    # --- sending ---

    async def _feed(self) -> None:
        """Take requests from the queue as there is room."""
        most = min(self._most_in_flight // 2, _MOST_AHEAD)
        try:
            async for request in self._requests:
                while len(self._fresh) >= most:
                    self._room.clear()
                    await self._room.wait()
                self._fresh.append(Question(request, self._size(request)))
                self._changed.set()
        except Exception as fault:
            self._stop(fault)
        self._fed = True
        self._changed.set()

    def _size(self, request: Request) -> Size:
        return size_of(request.messages, exact=self._exact, beside=request.bytes_beside())

    async def _send_all(self) -> None:
        while self._stopped is None:
            question = self._next()
            if question is None:
                if self._fed and not self._tasks and not self._later and not self._fresh:
                    return
                await self._until(self._later[0][0] if self._later else None)
                continue
            reserved = await self._reserve(question)
            lane = await self._free_lane(question)
            if lane is None:
                await self._give_back(reserved)
                return
            self._send(question, lane, reserved)

    def _next(self) -> Question | None:
        if len(self._tasks) >= self._most_in_flight:
            return None
        if self._later and self._later[0][0] <= self._now():
            return heapq.heappop(self._later)[2]
        if not self._fresh:
            return None
        question = self._fresh.popleft()
        self._room.set()
        return question

    async def _free_lane(self, question: Question) -> Lane | None:
        """Wait until an endpoint may be asked, and choose by weight where several may; None where the run stops."""
        while self._stopped is None:
            now = self._now()
            limit = question.request.max_tokens
            waits = [(lane.wait(question.size, limit, now), lane) for lane in self._lanes]
            free = [lane for seconds, lane in waits if seconds == 0]
            if free:
                others = [lane for lane in free if lane.number != question.avoid]
                return self._by_weight(others or free)
            soonest = min((seconds for seconds, _ in waits if seconds is not None), default=None)
            await self._until(None if soonest is None else now + soonest)
        return None

    def _by_weight(self, free: Sequence[Lane]) -> Lane:
        """Choose the lane whose turn it is by weight; one that rested does not make up for what it missed."""
        lane = min(free, key=lambda one: max(one.turn, self._turn))
        self._turn = max(lane.turn, self._turn)
        lane.turn = self._turn + 1 / lane.endpoint.weight
        return lane

    def _send(self, question: Question, lane: Lane, reserved: float | None) -> None:
        ticket = lane.start(question.size, question.request.max_tokens, self._now())
        self._panel.asked(lane.name)
        task = asyncio.create_task(self._exchange(question, lane, ticket, reserved))
        self._tasks.add(task)
        task.add_done_callback(self._landed)

    # --- what came back ---

    async def _exchange(self, question: Question, lane: Lane, ticket: Ticket, reserved: float | None) -> None:
        body = self._teacher.as_sent(request=question.request)
        token, once = "", lane.endpoint.idempotency_header is not None
        if self._sendings is not None:
            token = self._sendings.begin(question.request, lane.name, once=once)
        reply = await self._wire.chat(lane.number, body, token)
        if self._sendings is not None and _bills_nothing(reply):
            self._sendings.refused(question.request)
        outcome = read(reply, body=body, input_bytes=question.size.most_tokens)
        await self._give_back(reserved, outcome, question)
        await self._take(outcome, question, lane, ticket)

    async def _take(self, outcome: Outcome, question: Question, lane: Lane, ticket: Ticket) -> None:
        now = self._now()
        if isinstance(outcome, Again):
            changed = lane.failed(ticket, outcome, now)
            self._panel.failed(lane.name, outcome.kind)
            self._try_later(question, lane, outcome, now)
            if changed:
                self._panel.endpoint_state(lane.name, lane.state(now, outcome.kind))
            return
        usage = outcome.usage if isinstance(outcome, Answered) else Answered(None, "").usage
        if usage.input_tokens is not None:
            self._reads.learn(question.size, usage.input_tokens)
        if usage.output_tokens is not None:
            self._writes.learn(usage.output_tokens)
        if lane.answered(ticket, usage, now):
            self._panel.endpoint_state(lane.name, lane.state(now))
        self._changed.set()
        if isinstance(outcome, Useless):
            self._stop(outcome.fault(lane.endpoint))
        elif isinstance(outcome, Doubtful):
            self._doubtful.append((question, lane, outcome))
            self._settle_doubts(end=False)
        else:
            self._alive_at, self._succeeded = now, True
            await self._keep_answer(question, lane, outcome)

    async def _keep_answer(self, question: Question, lane: Lane, outcome: Answered) -> None:
        answer = self._answer(question, lane, outcome)
        await self._keep(answer)
        self._panel.answered(answer)
        limits = self._teacher.lengths().limits
        if outcome.reason is None and outcome.finish_reason == CUT and question.request.max_tokens in limits[:-1]:
            longer = limits[limits.index(question.request.max_tokens) + 1]
            self._fresh.appendleft(Question(replace(question.request, max_tokens=longer), question.size))

    def _try_later(self, question: Question, lane: Lane, fault: Again, now: float) -> None:
        delay = 0.0
        question.avoid = lane.number
        if not fault.busy:
            question.failures += 1
            question.first_failed = question.first_failed or now
            longest = min(_FIRST_DELAY_SECONDS * 2 ** (question.failures - 1), _LONGEST_DELAY_SECONDS)
            delay = longest * random.uniform(0.5, 1.5)
        if question.failures >= MOST_TRIES and self._succeeded and self._alive_at > question.first_failed:
            # Others were answered meanwhile, so it is this question that breaks the server.
            outcome = Answered(None, fault.kind, f"no answer in {MOST_TRIES} tries")
            self._spawn(self._keep_answer(question, lane, outcome))
            return
        if fault.after is not None:
            self._alive_at = max(self._alive_at, now + fault.after)
        patience = PATIENCE_SECONDS if self._succeeded or fault.busy else self._first_patience
        if now - self._alive_at > patience:
            self._stop(_silence(now - self._alive_at, lane, fault))
        heapq.heappush(self._later, (now + delay, next(self._numbers), question))
        self._changed.set()

    def _settle_doubts(self, *, end: bool) -> None:
        """Reject doubtful questions where others were answered; stop the run, blaming the options, where none ever
        was."""
        if self._succeeded:
            for question, lane, outcome in self._doubtful:
                self._spawn(self._keep_answer(question, lane, Answered(None, outcome.reason, outcome.reason)))
            self._doubtful = []
        elif self._doubtful and (end or len(self._doubtful) >= _MOST_DOUBTFUL):
            _, lane, outcome = self._doubtful[-1]
            sentence = f"endpoint {lane.name} refuses every question ({outcome.words}): change the teacher's options"
            self._stop(TeacherError(sentence))

    # --- the loop's own matters ---

    def _answer(self, question: Question, lane: Lane, outcome: Answered) -> Answer:
        return answer_of(
            outcome, request=question.request, model=self._teacher.model_name(), endpoint=lane.name, time=time.time()
        )

    async def _reserve(self, question: Question) -> float | None:
        if self._prices is None:
            return None
        usd = most_cost(self._prices, question.size, question.request.max_tokens)
        await self._budget.reserve(usd)
        return usd

    async def _give_back(
        self, reserved: float | None, outcome: Outcome | None = None, question: Question | None = None
    ) -> None:
        if reserved is None or self._prices is None:
            return
        spent = 0.0
        if outcome is not None:
            spent = cost_of(self._prices, outcome, at_most=reserved)
        await self._budget.settle(reserved, spent)

    async def _until(self, when: float | None) -> None:
        """Sleep until something changes, or until a time of the loop's clock."""
        # Before looking at the time: a wake-up that comes between is not lost.
        self._changed.clear()
        if when is None:
            await self._changed.wait()
            return
        try:
            async with asyncio.timeout_at(when):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # A task's exception that nobody asks for is printed by asyncio when the process ends, and lost until then.
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._stop(fault)
        self._changed.set()

    def _stop(self, fault: BaseException) -> None:
        # The first reason is kept: what is still in flight fails for the same one.
        self._stopped = self._stopped or fault
        self._changed.set()

    async def _land(self, most_seconds: float = math.inf) -> None:
        """Wait a moment for what is in flight, and keep it."""
        ends = self._now() + most_seconds
        while self._tasks and self._now() < ends:
            done, _ = await asyncio.wait(self._tasks, timeout=min(GRACE_SECONDS, ends - self._now()))
            if not done:
                break
        for task in self._tasks:
            task.cancel()

    def _tell_limits(self) -> None:
        for lane in self._lanes:
            self._panel.endpoint_limits(
                lane.name,
                requests_per_minute=lane.endpoint.requests_per_minute,
                input_tokens_per_minute=lane.endpoint.input_tokens_per_minute,
                output_tokens_per_minute=lane.endpoint.output_tokens_per_minute,
            )
            self._panel.endpoint_state(lane.name, lane.state(self._now()))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _bills_nothing(reply: Reply | NoReply) -> bool:
    """Tell whether a server surely answered nothing: it said so, or was never reached."""
    if isinstance(reply, NoReply):
        return reply.kind == "no connection"
    return reply.status not in _DOUBTFUL_STATUSES


def _silence(seconds: float, lane: Lane, fault: Again) -> TeacherError:
    return TeacherError(
        f"no endpoint has answered for {seconds / 60:.0f} minutes (endpoint {lane.name}: {fault.kind}); all answers "
        "are kept: look at the server and run the same command again"
    )
