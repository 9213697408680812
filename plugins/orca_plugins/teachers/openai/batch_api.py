"""Files and batches of a server: each call is repeated until it is answered, or asking on is useless."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_plugins.teachers.openai.endpoint import Endpoint
from orca_plugins.teachers.openai.http import MOST_REPLY_BYTES, NoReply, Reply, attempt, client_of
from orca_plugins.teachers.openai.masking import Mask
from orca_plugins.teachers.openai.replies import Again, Useless, cleaned, read
from orca_recipes.errors import TeacherError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CALL_SECONDS = 600.0
# Batches go on at the server meanwhile: an outage shorter than this loses nothing but time.
PATIENCE_SECONDS = 1800.0
# In a batch's metadata: finds a batch whose id never came back.
MARK = "orca_recipes"
_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 60.0
# Batches come newest first: one that was just made is among these, and an account may have made any number before.
_PAGES = 50
_CHUNK_BYTES = 1 << 20


class QueueFull(Exception):
    """The server takes no more batches before some are done."""


class Gone(Exception):
    """The server does not know that file or batch."""


class BatchApi:
    """One endpoint's batches; `told` is called with the kind of each failure."""

    def __init__(self, endpoint: Endpoint, *, told: Callable[[str], None]) -> None:
        self.endpoint = endpoint
        self.client: AsyncOpenAI = client_of(endpoint, CALL_SECONDS)
        self._mask = Mask(endpoint.key())
        self._told = told

    async def upload(self, path: Path) -> str:
        """Hand over a file of questions; gives its id. Raises: Gone where the server takes no files."""
        stored = await self._until_answered(lambda: self.client.files.create(file=path, purpose="batch"))
        return self.id_of(stored.id)

    async def create(self, file: str, name: str) -> str | None:
        """Make a batch of a file; gives its id, or None where no reply came and it may have been made.

        Raises: QueueFull, Gone.
        """
        work = self.client.batches.create(
            input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h", metadata={MARK: name}
        )
        made = await attempt(work, mask=self._mask, timeout_seconds=CALL_SECONDS)
        if not isinstance(made, (Reply, NoReply)):
            return self.id_of(made.id)
        fault = self._fault(made)
        self._told(fault.kind)
        if fault.busy:
            raise QueueFull
        return None

    async def find(self, name: str) -> str | None:
        """Find the id of the batch with a name, among the latest 5,000; None if it is not there.

        Raises: TeacherError where the server has no such list.
        """
        try:
            page = await self._until_answered(lambda: self.client.batches.list(limit=100))
        except Gone:
            raise self.takes_none() from None
        for _ in range(_PAGES):
            for batch in page.data:
                if (batch.metadata or {}).get(MARK) == name:
                    return self.id_of(batch.id)
            if not page.has_next_page():
                break
            page = await self._until_answered(page.get_next_page)
        return None

    async def look(self, batch: str) -> Any:
        """Fetch the state of a batch. Raises: Gone."""
        return await self._until_answered(lambda: self.client.batches.retrieve(batch))

    async def download(self, file: str, path: Path) -> None:
        """Write a result file to a path. Raises: Gone."""
        await self._until_answered(lambda: self._download(file, path))

    async def remove(self, file: str) -> None:
        """Delete a file that is done with; that it stays costs nothing."""
        await attempt(self.client.files.delete(file), mask=self._mask, timeout_seconds=CALL_SECONDS)

    def id_of(self, said: object) -> str:
        """Return a server's id of a file or batch, which is noted. Raises: TeacherError where it holds the key."""
        if self._mask.holds(str(said)):
            raise TeacherError(
                f"endpoint {self.endpoint.title()} calls a file or batch by the key that it was sent, and an id is "
                'written down: look at that server, or use mode = "live"'
            )
        return str(said)

    def takes_none(self) -> TeacherError:
        """Build the error for a server that has no files or no batches."""
        return TeacherError(
            f"endpoint {self.endpoint.title()} takes no batches (404 Not Found): is base_url right, with /v1? "
            'Where a server has none, use mode = "live"'
        )

    async def close(self) -> None:
        await self.client.close()

    def words(self, batch: Any) -> str:
        """Return the server's words on a failed batch: its first three errors, with the key masked."""
        errors = (batch.errors.data if batch.errors is not None else None) or []
        said = "; ".join(f"{error.code}: {error.message}" for error in errors[:3])
        return cleaned(self._mask.text(said, answer=False))

    async def _download(self, file: str, path: Path) -> None:
        rest = b""
        async with self.client.files.with_streaming_response.content(file) as response:
            with path.open("wb") as out:
                async for chunk in response.iter_bytes(_CHUNK_BYTES):
                    # By whole lines, so that a key is found wherever the chunks part.
                    *whole, rest = (rest + chunk).split(b"\n")
                    if len(rest) > MOST_REPLY_BYTES:
                        raise TeacherError(
                            f"endpoint {self.endpoint.title()} sends results in which one answer is larger than "
                            f"{MOST_REPLY_BYTES:,} bytes: look at that server"
                        )
                    out.writelines(self._mask.body(line) + b"\n" for line in whole)
                out.write(self._mask.body(rest))

    async def _until_answered(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Repeat a call that changes nothing when it is repeated."""
        started = asyncio.get_running_loop().time()
        delay = _FIRST_DELAY_SECONDS
        while True:
            found = await attempt(call(), mask=self._mask, timeout_seconds=CALL_SECONDS)
            if not isinstance(found, (Reply, NoReply)):
                return found
            fault = self._fault(found)
            self._told(fault.kind)
            if asyncio.get_running_loop().time() - started > PATIENCE_SECONDS:
                raise TeacherError(
                    f"endpoint {self.endpoint.title()} has not answered for half an hour ({fault.kind}); its batches "
                    "are noted: look at the server and run the same command again"
                )
            # Random, so that callers that failed together do not come back together.
            await asyncio.sleep(fault.after if fault.after is not None else delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)

    def _fault(self, reply: Reply | NoReply) -> Again:
        """Read a failure that may pass. Raises: Gone; TeacherError for one that will not."""
        if isinstance(reply, Reply) and reply.status == 404:
            raise Gone
        outcome = read(reply, body={}, input_bytes=0)
        if isinstance(outcome, Again):
            return outcome
        if isinstance(outcome, Useless):
            raise outcome.fault(self.endpoint)
        raise TeacherError(f"endpoint {self.endpoint.title()} refuses a file or batch: {_words(outcome)}")


def _words(outcome: Any) -> str:
    return str(getattr(outcome, "words", None) or getattr(outcome, "reason", None) or "no reason given")
