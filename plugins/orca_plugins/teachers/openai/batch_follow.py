"""One batch from its note to its last answer, in as many rounds as that takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from orca_plugins.teachers.chat import ChatTeacher
from orca_plugins.teachers.openai.batch_api import BatchApi, Gone, QueueFull
from orca_plugins.teachers.openai.batch_notes import Line, Note, Notes
from orca_plugins.teachers.openai.batch_results import Results, asked_of
from orca_plugins.teachers.openai.costs_and_answers import most_cost
from orca_recipes.contract.answers import Answer, Budget, CollectPanel
from orca_recipes.counted import counted
from orca_recipes.errors import BudgetSpent, TeacherError

FIRST_LOOK_SECONDS = 1.0
LONGEST_LOOK_SECONDS = 60.0
# Each round asks and may be billed again; a server that leaves whole batches unanswered does not get better by asking.
MOST_ROUNDS = 5
_QUEUE_SECONDS = 30.0
_FIRST_DELAY_SECONDS = 0.5
_MOST_TRIES = 5000
_ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True)
class End:
    """The end of a batch: its status, the server's words on a failure, and the ids of its result files."""

    status: str
    words: str = ""
    files: tuple[str, ...] = ()


@dataclass
class Following:
    """State shared by all batches of a collection. ended: set whenever one of them has ended."""

    teacher: ChatTeacher
    notes: Notes
    apis: Mapping[str, BatchApi]
    keep: Callable[[Answer], Awaitable[None]]
    panel: CollectPanel
    budget: Budget
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    standing: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def cost(self, line: Line) -> float:
        """Bound the USD that a question of a batch can cost."""
        prices = self.teacher.money().prices
        if prices is None:
            return 0.0
        asked = asked_of(line.body, limit_name=self.teacher.limit_name())
        return most_cost(prices, asked.size, asked.max_tokens, batch=True)

    async def reserve(self, note: Note) -> float | None:
        """Put aside what a batch can cost; None where it is paid for already and over the budget, or has no price.

        Raises: BudgetSpent for a batch that is not made yet; it stays noted.
        """
        if self.teacher.money().prices is None:
            return None
        try:
            await self.budget.reserve(note.usd)
        except BudgetSpent:
            if not note.asked:
                raise
            return None
        return note.usd

    async def follow(self, note: Note, reserved: float | None) -> None:
        """Submit a batch unless that is done, wait for it, keep its answers, and go on with the questions it left.

        Raises: TeacherError, BudgetSpent; the note stays where answers are still to come.
        """
        try:
            while True:
                self._tell(note, 0)
                note = await self._made(note)
                results = Results(self.teacher, self.notes, note)
                end = await self._taken(note, results, reserved)
                self.standing.pop(note.name, None)
                left = results.left()
                if not left:
                    self.notes.drop(note)
                    return
                if note.round >= MOST_ROUNDS and not results.answered:
                    self.notes.drop(note)
                    raise TeacherError(
                        f"endpoint {note.endpoint} left {MOST_ROUNDS} batches in a row unanswered: {end}"
                    )
                usd = sum(self.cost(line) for line in left)
                note = self.notes.begin(note.endpoint, left, usd=usd, before=note)
                reserved = await self.reserve(note)
                self._something_ended()
                if end == "failed":
                    await self._until_something_ended()
        finally:
            self.standing.pop(note.name, None)
            self._something_ended()

    async def _made(self, note: Note) -> Note:
        """Submit a batch unless that is done, and note its id."""
        api = self.apis[note.endpoint]
        is_fresh = False
        for tries in range(_MOST_TRIES):
            if note.batch is not None:
                return note
            if note.asked and (found := await api.find(note.name)) is not None:
                return self.notes.changed(note, batch=found)
            try:
                if note.file is None:
                    note, is_fresh = self.notes.changed(note, file=await self._uploaded(note)), True
                note = self.notes.changed(note, asked=True)
                made = await api.create(str(note.file), note.name)
            except Gone:
                if is_fresh or note.file is None:
                    raise api.takes_none() from None
                # An earlier run handed it over, and servers keep files for a while alone.
                note = self.notes.changed(note, file=None, asked=False)
            except QueueFull:
                # A day of waiting is no failure.
                note = self.notes.changed(note, asked=False)
                self.panel.endpoint_state(note.endpoint, "its queue is full: waiting")
                await self._until_something_ended()
            else:
                if made is not None:
                    note = self.notes.changed(note, batch=made)
                    for _ in range(note.count):
                        self.panel.asked(note.endpoint)
                    return note
                await asyncio.sleep(min(_FIRST_DELAY_SECONDS * 2**tries, LONGEST_LOOK_SECONDS))
        raise TeacherError(f"endpoint {note.endpoint} makes no batch of its file; look at the server and run again")

    async def _uploaded(self, note: Note) -> str:
        return await self.apis[note.endpoint].upload(self.notes.questions(note))

    async def _taken(self, note: Note, results: Results, reserved: float | None) -> str:
        """Wait for a batch and keep its answers; gives its status. Raises: TeacherError for one that is refused."""
        api, refused = self.apis[note.endpoint], None
        try:
            end = await self._end_of(note)
            refused = await results.keep(api, list(end.files), self.keep, self.panel)
        except Gone:
            # Another account's key finds nothing either: asking anew would pay for all of it twice.
            raise TeacherError(
                f"endpoint {note.endpoint} does not know batch {note.batch} or its results, which were handed over "
                "earlier: use the key of the account that asked, or delete "
                f"{self.notes.questions(note).with_suffix('.json')} to ask and pay for its questions anew"
            ) from None
        finally:
            await self._settle(reserved, results.spent_usd)
        if refused is not None:
            # Its answers are kept. Whoever mends what is wrong asks the others anew: these results never change.
            self.notes.drop(note)
            raise refused
        # A full queue of tokens empties by itself; any other failure is a refusal.
        if end.status == "failed" and "token_limit" not in end.words:
            self.notes.drop(note)
            raise TeacherError(f"endpoint {note.endpoint} refuses a batch ({end.words or 'no reason given'})")
        give_up = note.round >= MOST_ROUNDS and results.answered > 0
        await results.reject(self.keep, self.panel, give_up=give_up, rounds=MOST_ROUNDS)
        if end.status == "completed" and note.file is not None:
            await api.remove(note.file)
        return end.status

    async def _end_of(self, note: Note) -> End:
        """Wait until a batch has ended. Raises: Gone."""
        api, delay = self.apis[note.endpoint], FIRST_LOOK_SECONDS
        while True:
            batch = await api.look(str(note.batch))
            counts = batch.request_counts
            self._tell(note, counts.completed + counts.failed if counts is not None else 0)
            if batch.status in _ENDED:
                files = tuple(api.id_of(file) for file in (batch.output_file_id, batch.error_file_id) if file)
                return End(batch.status, api.words(batch), files)
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, LONGEST_LOOK_SECONDS)

    async def _settle(self, reserved: float | None, spent: float) -> None:
        if self.teacher.money().prices is None:
            return
        if reserved is None:
            self.budget.spent_usd += spent
        else:
            await self.budget.settle(reserved, spent)

    async def _until_something_ended(self) -> None:
        """Wait until another batch has ended, or a while."""
        self.ended.clear()
        try:
            async with asyncio.timeout(_QUEUE_SECONDS):
                await self.ended.wait()
        except TimeoutError:
            return

    def _something_ended(self) -> None:
        self.ended.set()

    def _tell(self, note: Note, done: int) -> None:
        self.standing[note.name] = (note.endpoint, done, note.count)
        mine = [(some, count) for endpoint, some, count in self.standing.values() if endpoint == note.endpoint]
        done, count = sum(some for some, _ in mine), sum(count for _, count in mine)
        self.panel.endpoint_state(
            note.endpoint, f"{counted(len(mine), 'batch', 'batches')}: {done:,} of {count:,} done"
        )
