"""Ask through files and batches: cheaper, within a day, and through as many runs as it takes.

Questions are written into files of what a batch may hold; each file becomes a batch that is followed to its end, and
what a batch leaves unanswered goes on in the next one. Nothing is waited for before it is noted (openai_batch_notes).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from orca_plugins.teachers.chat import ChatTeacher
from orca_plugins.teachers.openai.batch_api import BatchApi
from orca_plugins.teachers.openai.batch_follow import Following
from orca_plugins.teachers.openai.batch_notes import Line, Note, Notes
from orca_plugins.teachers.openai.endpoint import Endpoint
from orca_recipes.contract.answers import Collecting, CollectPanel, Request
from orca_recipes.errors import BudgetSpent, TeacherError

# What OpenAI takes in one batch file: 50,000 questions, 200 MB.
MOST_QUESTIONS = 50_000
# OpenAI's bound for the file of a batch.
MOST_BYTES = 200_000_000
MOST_IN_FLIGHT = 100
# After so long without a question, a batch goes that is not full.
STALL_SECONDS = 5.0


class Batches:
    """One collection through batches."""

    def __init__(
        self,
        teacher: ChatTeacher,
        endpoints: Sequence[Endpoint],
        *,
        notes: Notes,
        collecting: Collecting,
    ) -> None:
        panel, budget = collecting.panel, collecting.budget
        self._notes, self._panel, self._budget, self._requests = notes, panel, budget, collecting.requests
        self._teacher = teacher
        self._apis = {
            endpoint.title(): BatchApi(endpoint, told=_telling(panel, endpoint.title())) for endpoint in endpoints
        }
        self._following = Following(teacher, notes, self._apis, collecting.keep, panel, budget)
        self._sent = dict.fromkeys(self._apis, 0.0)
        self._noted: set[bytes] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None

    async def run(self) -> None:
        """Follow the batches that earlier runs left, submit the other questions, and wait for all of them to end.

        Raises: TeacherError, BudgetSpent, and what `keep` and `requests` raise; batches that were made stay noted.
        """
        queue: asyncio.Queue[Request | None] = asyncio.Queue(maxsize=1000)
        feeder = asyncio.create_task(_feed(self._requests, queue))
        try:
            await self._pick_up()
            try:
                await self._hand_over(queue)
                if feeder.done():
                    await feeder
            except BudgetSpent:
                # What was handed over is paid for, and within the budget.
                await self._all_ended()
                raise
            await self._all_ended()
        finally:
            for task in (feeder, *self._tasks):
                task.cancel()
            await asyncio.gather(feeder, *self._tasks, return_exceptions=True)
            for api in self._apis.values():
                await api.close()
        self._raise_fault()

    async def _pick_up(self) -> None:
        for note in self._notes.pending():
            if note.endpoint not in self._apis:
                raise TeacherError(
                    f"a batch of endpoint {note.endpoint} is waited for, which the recipe no longer names: name it, or "
                    f"delete {self._notes.questions(note).with_suffix('.json')} and lose its answers"
                )
            self._noted.update(line.key for line in self._notes.lines(note))
            self._follow(note, await self._following.reserve(note))

    async def _hand_over(self, queue: asyncio.Queue[Request | None]) -> None:
        """Fill batches with questions; one that is not full goes when no question comes for a while."""
        lines: list[Line] = []
        size, usd = 0, 0.0
        ended = False
        while not ended and self._fault is None:
            request, ended = await _next(queue, STALL_SECONDS if lines else None)
            if request is not None and request.key in self._noted:
                continue
            line = None if request is None else Line(request.key, self._teacher.as_sent(request=request))
            length, cost = (0, 0.0) if line is None else (len(line.encoded()), self._following.cost(line))
            full = len(lines) >= MOST_QUESTIONS or size + length > MOST_BYTES or not self._fits(usd + cost)
            if lines and (line is None or full):
                await self._submit(lines, usd)
                lines, size, usd = [], 0, 0.0
            if line is not None:
                lines.append(line)
                size, usd = size + length, usd + cost

    def _fits(self, usd: float) -> bool:
        limit = self._budget.limit_usd
        return limit is None or self._budget.spent_usd + self._budget.reserved_usd + usd <= limit

    async def _submit(self, lines: Sequence[Line], usd: float) -> None:
        """Reserve, note and hand over a batch; this waits where the budget or the number of batches is reached."""
        while len(self._tasks) >= MOST_IN_FLIGHT:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        self._raise_fault()
        reserved = None
        if self._teacher.money().prices is not None:
            await self._budget.reserve(usd)
            reserved = usd
        title = min(self._apis, key=lambda name: self._sent[name] / self._apis[name].endpoint.weight)
        self._sent[title] += len(lines)
        self._follow(self._notes.begin(title, lines, usd=usd), reserved)

    def _follow(self, note: Note, reserved: float | None) -> None:
        task = asyncio.create_task(self._following.follow(note, reserved))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._fault = self._fault or fault

    async def _all_ended(self) -> None:
        """Wait for every batch that was handed over; a fault of one ends the waiting, for all of them are noted."""
        while self._tasks and (self._fault is None or isinstance(self._fault, BudgetSpent)):
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault


async def _feed(requests: AsyncIterator[Request], queue: asyncio.Queue[Request | None]) -> None:
    try:
        async for request in requests:
            await queue.put(request)
    except Exception:
        await queue.put(None)
        raise
    await queue.put(None)


async def _next(queue: asyncio.Queue[Request | None], seconds: float | None) -> tuple[Request | None, bool]:
    """Take the next question, None after `seconds` without one; also tell whether there are no more."""
    try:
        async with asyncio.timeout(seconds):
            request = await queue.get()
    except TimeoutError:
        return None, False
    return request, request is None


def _telling(panel: CollectPanel, endpoint: str) -> Callable[[str], None]:
    return lambda kind: panel.failed(endpoint, kind)
