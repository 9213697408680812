"""Results of a batch that has ended: its answers, and the questions it left.

Result files hold their lines in any order, and failed ones come in a file of their own. A broken file is fetched again:
a line that cannot be read would be paid for twice.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_plugins.teachers.chat import ChatTeacher
from orca_plugins.teachers.openai.batch_api import BatchApi
from orca_plugins.teachers.openai.batch_notes import Line, Note, Notes
from orca_plugins.teachers.openai.costs_and_answers import answer_of, cost_of, most_cost
from orca_plugins.teachers.openai.http import Reply
from orca_plugins.teachers.openai.replies import Again, Answered, Doubtful, Outcome, Useless, cleaned, read
from orca_plugins.teachers.openai.token_estimate import Size, size_of
from orca_recipes.contract.answers import CUT, Answer, CollectPanel, Request
from orca_recipes.errors import TeacherError

# Answers are kept many at a time, since each keeping waits for the disk.
_TOGETHER = 256
# A download may break off between lines and look whole to HTTP; what is missing would be asked, and paid for, again.
_FETCHES = 3


@dataclass(frozen=True)
class Asked:
    """Size and token limit of a question, kept in place of its text."""

    size: Size
    max_tokens: int | None


def asked_of(body: Mapping[str, Any], *, limit_name: str) -> Asked:
    """Measure a question by its body as sent."""
    messages = [(message["role"], message["content"]) for message in body["messages"]]
    more = [message[name] for message in body["messages"] for name in message if name not in ("role", "content")]
    beside = sum(len(json.dumps(one).encode()) for one in (*more, *body.get("tools", ())))
    return Asked(size_of(messages, exact=False, beside=beside), body.get(limit_name))


class Results:
    """The results of one batch; `answered` questions, and what they cost, are known after `keep`."""

    def __init__(self, teacher: ChatTeacher, notes: Notes, note: Note) -> None:
        self._teacher, self._notes, self._note = teacher, notes, note
        self._prices, self._limit = teacher.money().prices, teacher.limit_name()
        self._asked = {line.key: asked_of(line.body, limit_name=self._limit) for line in notes.lines(note)}
        self._doubtful: dict[bytes, Doubtful] = {}
        self._failures: dict[bytes, Again] = {}
        self._longer: dict[bytes, int | None] = {}
        self._done: set[bytes] = set()
        self.answered = 0
        self.spent_usd = 0.0

    async def keep(
        self, api: BatchApi, files: list[str], keep: Callable[[Answer], Awaitable[None]], panel: CollectPanel
    ) -> TeacherError | None:
        """Fetch result files and keep their answers.

        Returns: why asking on is useless, where the results say so; None elsewhere.
        """
        useless: Useless | None = None
        for file in files:
            path = self._notes.folder / f"{self._note.name}.results"
            await _fetched(api, file, path)
            waiting: list[Answer] = []
            for key, outcome in self._outcomes(path):
                useless = outcome if isinstance(outcome, Useless) else useless
                if isinstance(outcome, Answered):
                    waiting.append(self._answer(key, outcome))
                    if len(waiting) >= _TOGETHER:
                        await _keep_all(waiting, keep, panel)
                        waiting = []
                elif isinstance(outcome, Again):
                    panel.failed(self._note.endpoint, outcome.kind)
            await _keep_all(waiting, keep, panel)
            # Only once all answers are on the disk: until then a killed run reads the file again instead of asking.
            path.unlink()
        if useless is not None:
            return useless.fault(api.endpoint)
        if self._doubtful and not self.answered:
            words = next(iter(self._doubtful.values())).words
            return TeacherError(f"endpoint {self._note.endpoint} refuses every question ({words}): change its options")
        return None

    async def reject(
        self, keep: Callable[[Answer], Awaitable[None]], panel: CollectPanel, *, give_up: bool, rounds: int
    ) -> None:
        """Keep as rejections what the server refused while it answered others; with `give_up`, what failed as well."""
        reasons = {key: doubt.reason for key, doubt in self._doubtful.items()}
        if give_up:
            reasons |= dict.fromkeys(self._failures, f"no answer in {rounds} batches")
        rejected = [self._answer(key, Answered(None, reason, reason)) for key, reason in reasons.items()]
        await _keep_all(rejected, keep, panel)

    def left(self) -> list[Line]:
        """List the questions for another batch: the unanswered, and the cut ones under a longer limit."""
        lines = []
        for line in self._notes.lines(self._note):
            if line.key in self._longer:
                lines.append(Line(line.key, {**line.body, self._limit: self._longer[line.key]}))
            elif line.key not in self._done:
                lines.append(line)
        return lines

    def _outcomes(self, path: Path) -> Iterator[tuple[bytes, Outcome]]:
        """Yield outcomes of the questions of a result file, each once."""
        for told in _lines(path):
            key = _key(told.get("custom_id"))
            # A file may name what was never asked, or answer twice: nobody's answer may be kept under another's key.
            if key is None or key not in self._asked or key in self._done:
                continue
            outcome = self._outcome(told, self._asked[key])
            if isinstance(outcome, Again):
                self._failures[key] = outcome
            elif isinstance(outcome, Doubtful):
                self._doubtful[key] = outcome
            yield key, outcome

    def _outcome(self, told: Mapping[str, Any], asked: Asked) -> Outcome:
        response = told.get("response")
        if not isinstance(response, dict):
            error = told.get("error")
            return Again(cleaned(error.get("code") if isinstance(error, dict) else "no response", most=40))
        status, request_id = response.get("status_code"), response.get("request_id")
        reply = Reply(
            status if isinstance(status, int) else 500,
            json.dumps(response.get("body")).encode(),
            request_id if isinstance(request_id, str) else None,
        )
        return read(reply, body={"max_tokens": asked.max_tokens}, input_bytes=asked.size.most_tokens)

    def _answer(self, key: bytes, outcome: Answered) -> Answer:
        asked = self._asked[key]
        self._done.add(key)
        self._failures.pop(key, None)
        self._doubtful.pop(key, None)
        self.answered += 1
        if self._prices is not None:
            most = most_cost(self._prices, asked.size, asked.max_tokens, batch=True)
            self.spent_usd += cost_of(self._prices, outcome, at_most=most, batch=True)
        limits = self._teacher.lengths().limits
        if outcome.reason is None and outcome.finish_reason == CUT and asked.max_tokens in limits[:-1]:
            self._longer[key] = limits[limits.index(asked.max_tokens) + 1]
        request = Request(key, (), 0, asked.max_tokens)
        return answer_of(
            outcome,
            request=request,
            model=self._teacher.model_name(),
            endpoint=self._note.endpoint,
            time=time.time(),
        )


async def _keep_all(answers: list[Answer], keep: Callable[[Answer], Awaitable[None]], panel: CollectPanel) -> None:
    await asyncio.gather(*(keep(answer) for answer in answers))
    for answer in answers:
        panel.answered(answer)


async def _fetched(api: BatchApi, file: str, path: Path) -> None:
    """Download a file until all its lines are whole; the last try is taken as it is."""
    for _ in range(_FETCHES):
        await api.download(file, path)
        with path.open("rb") as opened:
            if all(_is_whole(line) for line in opened):
                return


def _is_whole(line: bytes) -> bool:
    try:
        return not line.strip() or isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as opened:
        for line in opened:
            if line.strip() and _is_whole(line):
                yield json.loads(line)


def _key(custom_id: object) -> bytes | None:
    try:
        return bytes.fromhex(custom_id) if isinstance(custom_id, str) else None
    except ValueError:
        return None
