"""What must outlive a run in batch mode: which questions were handed over, and under which ids.

A batch is two files in the notes folder, `<name>.jsonl`, its questions as sent, and `<name>.json`, written before each
step that costs something and replaced as a whole. So a run that is killed at any moment finds every batch it paid for:
even one that was made but whose id never came back bears its name in its metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from orca_recipes.errors import Failure, TeacherError
from orca_recipes.json_text import json_value


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
        told = json.dumps(teacher, sort_keys=True).encode()
        self.folder = folder / hashlib.blake2b(told, digest_size=8).hexdigest()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / "lock", timeout=0)

    def __enter__(self) -> Notes:
        try:
            self._lock.acquire()
        except Timeout:
            raise TeacherError(
                f"another run collects the same teacher's batches (its notes are in {self.folder}): wait for it"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def pending(self) -> list[Note]:
        """The batches that were left, oldest first; a batch whose missing questions went on in another is done."""
        notes = [_read(path) for path in sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)]
        followed = {note.after for note in notes}
        for note in notes:
            if note.name in followed:
                self.drop(note)
        known = {note.name for note in notes}
        for path in self.folder.glob("*.jsonl"):
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
        """The file of its questions."""
        return self.folder / f"{note.name}.jsonl"

    def lines(self, note: Note) -> Iterator[Line]:
        """Its questions, one by one."""
        with self.questions(note).open("rb") as file:
            for text in file:
                told = json.loads(text)
                yield Line(bytes.fromhex(told["custom_id"]), told["body"])

    def begin(self, endpoint: str, lines: Sequence[Line], *, usd: float, before: Note | None = None) -> Note:
        """A batch of these questions; `before`: the batch that they are left of, which is done with that."""
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


def _read(path: Path) -> Note:
    try:
        return Note(**json_value(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise Failure(f"{path} is no note of a batch: move it away, and look at the server for what was paid") from None
