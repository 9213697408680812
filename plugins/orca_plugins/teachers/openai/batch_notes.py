"""Notes that outlive a run in batch mode: the questions submitted, and the server's ids for them.

A batch is two files in the notes folder: `<name>.jsonl`, its questions as sent, and `<name>.json`, replaced as a whole
before each step that costs something. So a run killed at any moment finds every batch it paid for, even one whose id
never came back: it bears its name in its metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from orca_recipes.contract.answers import Request
from orca_recipes.errors import Failure, TeacherError
from orca_recipes.json_text import json_value

TEACHER = "teacher"
"""The file of a folder of notes that says whose they are."""
_WHERE = ("endpoints", "token_limit")
"""What tells folders of notes apart, and decides no answer."""


@dataclass(frozen=True)
class Note:
    """One batch.

    Attributes:
        endpoint: the recipe's name of it. usd: the most that it can cost.
        file: the server's id of its questions. asked: a batch may have been made. batch: its id.
        after: the batch whose missing questions these are; round: how many came before it.
    """

    name: str
    endpoint: str
    count: int
    usd: float
    file: str | None = None
    asked: bool = False
    batch: str | None = None
    after: str | None = None
    round: int = 1


_NOTE = TypeAdapter(Note)


@dataclass(frozen=True)
class Line:
    """A question of a batch: its key, and its body as sent."""

    key: bytes
    body: Mapping[str, Any]

    def encoded(self) -> bytes:
        told = {"custom_id": self.key.hex(), "method": "POST", "url": "/v1/chat/completions", "body": self.body}
        return json.dumps(told, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


class Notes:
    """The batches of one teacher, in a folder of its own; one run at a time may hold it."""

    def __init__(self, folder: Path, *, teacher: Mapping[str, Any]) -> None:
        """teacher: what tells it from others that keep notes in the same folder."""
        self._told = json.dumps(teacher, sort_keys=True)
        self.folder = folder / hashlib.blake2b(self._told.encode(), digest_size=8).hexdigest()
        self.folder.mkdir(parents=True, exist_ok=True)
        # Fail at once rather than wait: the other run may hold the folder for a day.
        self._lock = FileLock(self.folder / "lock", timeout=0)

    def __enter__(self) -> Notes:
        try:
            self._lock.acquire()
        except Timeout:
            raise TeacherError(
                f"another run collects the same teacher's batches (its notes are in {self.folder}): wait for it"
            ) from None
        aside = self.folder / f"{TEACHER}.new"
        aside.write_text(self._told, encoding="utf-8")
        os.replace(aside, self.folder / TEACHER)
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def pending(self) -> list[Note]:
        """List the batches that earlier runs left, oldest first; drop any whose missing questions went on in
        another."""
        notes = [_read(path) for path in sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)]
        followed = {note.after for note in notes}
        for note in notes:
            if note.name in followed:
                self.drop(note)
        known = {note.name for note in notes}
        for path in self.folder.glob("*.jsonl"):
            # Questions are written before their note: without one, nothing was handed over.
            if path.stem not in known:
                path.unlink()
        return [note for note in notes if note.name not in followed]

    def write(self, note: Note) -> Note:
        """Make a note durable."""
        path = self.folder / f"{note.name}.json"
        aside = path.with_suffix(".new")
        with aside.open("w", encoding="utf-8") as file:
            json.dump(asdict(note), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        return note

    def changed(self, note: Note, **changes: Any) -> Note:
        """Make a change of a note durable."""
        return self.write(replace(note, **changes))

    def drop(self, note: Note) -> None:
        """Forget a batch whose answers are all kept, or went on in another."""
        (self.folder / f"{note.name}.json").unlink(missing_ok=True)
        self.questions(note).unlink(missing_ok=True)

    def questions(self, note: Note) -> Path:
        """Return the path of its file of questions."""
        return self.folder / f"{note.name}.jsonl"

    def lines(self, note: Note) -> Iterator[Line]:
        """Yield its questions one by one. Raises: Failure where they cannot be read."""
        path = self.questions(note)
        try:
            with path.open("rb") as file:
                for text in file:
                    told = json_value(text)
                    yield Line(bytes.fromhex(told["custom_id"]), dict(told["body"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise Failure(
                f"{path} holds no questions of a batch: move it and its note away, and look at the server for what "
                "was paid"
            ) from None

    def begin(self, endpoint: str, lines: Sequence[Line], *, usd: float, before: Note | None = None) -> Note:
        """Note a new batch of these questions; `before`: the batch that left them, which is dropped."""
        name = secrets.token_hex(8)
        after, number = (None, 1) if before is None else (before.name, before.round + 1)
        note = Note(name, endpoint, len(lines), usd, after=after, round=number)
        with self.questions(note).open("wb") as file:
            file.writelines(line.encoded() for line in lines)
            file.flush()
            os.fsync(file.fileno())
        self.write(note)
        if before is not None:
            self.drop(before)
        return note


@dataclass(frozen=True)
class Left:
    """What runs left that ended, under a recipe that said otherwise where or how to ask: keys of questions to the
    folder of their batch's notes."""

    folders: Mapping[bytes, Path]

    @classmethod
    def of(cls, folder: Path, *, sampling: Mapping[str, Any], but: Path | None) -> Left:
        """Look for them in a folder of notes.

        Args:
            sampling: of the teacher. but: the folder whose batches are picked up.
        """
        wanted, found = json_value(json.dumps(dict(sampling))), dict[bytes, Path]()
        for path in sorted(folder.glob(f"*/{TEACHER}")):
            told = _told(path)
            alike = {name: value for name, value in told.items() if name not in _WHERE} == wanted
            if alike and path.parent != but and any(path.parent.glob("*.json")):
                with suppress(TeacherError), Notes(folder, teacher=told) as notes:
                    keys = (line.key for note in notes.pending() for line in notes.lines(note))
                    found |= dict.fromkeys(keys, notes.folder)
        return cls(found)

    def refuse(self) -> None:
        """Raise TeacherError where there are any: their questions would be paid for twice."""
        for folder in self.folders.values():
            raise _unfetched(folder)

    async def none_of(self, requests: AsyncIterator[Request]) -> AsyncIterator[Request]:
        """Yield the requests. Raises: TeacherError for one whose answer such a batch may hold."""
        async for request in requests:
            if (folder := self.folders.get(request.key)) is not None:
                raise _unfetched(folder)
            yield request


def _unfetched(folder: Path) -> TeacherError:
    endpoints = ", ".join(map(str, _told(folder / TEACHER).get("endpoints", ())))
    return TeacherError(
        f"a batch that was handed over to {endpoints} is not fetched yet, and its questions would be paid for twice: "
        'say mode = "batch", its endpoints and its token_limit as they were until it is fetched, or delete '
        f"{folder} and lose its answers"
    )


def _told(path: Path) -> dict[str, Any]:
    """Read whose notes a folder holds."""
    try:
        told = json_value(path.read_bytes())
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise Failure(
            f"{path} does not tell a teacher: move {path.parent} away, and look at the server for what was paid"
        )
    return told


def _read(path: Path) -> Note:
    try:
        note = _NOTE.validate_json(path.read_bytes())
    except ValueError:
        note = None
    # Its name becomes a path: a note that was made elsewhere may say any.
    if note is None or note.name != path.stem:
        raise Failure(f"{path} is no note of a batch: move it away, and look at the server for what was paid")
    return note
