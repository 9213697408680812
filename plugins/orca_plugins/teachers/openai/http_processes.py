"""Several collecting processes behind one limiter.

What a question costs in time is making and reading its HTTP exchange, so only that is done elsewhere: each process is
handed bodies and hands back replies, and limits, budget, retries and answers stay in the process that collects. So the
limits are as exact with eight processes as with one: nobody has a share of them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import signal
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from orca_plugins.teachers.openai.endpoint import Endpoint
from orca_plugins.teachers.openai.http import Broken, ClientWire, NoReply, Reply, needed
from orca_recipes.errors import Failure

_LENGTH = struct.Struct("<Q")
# asyncio's own 64 KiB would pause the stream again and again within one long reply.
_BUFFER_BYTES = 1 << 20


@dataclass
class _Worker:
    """One collecting process, and the exchanges that it is at."""

    process: asyncio.subprocess.Process
    waiting: dict[int, asyncio.Future[Reply | NoReply | Broken]] = field(default_factory=dict)
    alive: bool = True
    reading: asyncio.Task[None] | None = None


class ProcessWire:
    """A wire through so many processes; to be used within `async with`. They end with it, and with this process."""

    def __init__(self, endpoints: Sequence[Endpoint], *, timeout_seconds: float, processes: int) -> None:
        """Raises: PluginError, TeacherError, as an openai client of these endpoints would."""
        needed()
        for endpoint in endpoints:
            endpoint.key()
        told = [endpoint.model_dump(mode="json") for endpoint in endpoints]
        self._settings = _framed({"endpoints": told, "timeout_seconds": timeout_seconds})
        self._processes = processes
        self._workers: list[_Worker] = []
        self._numbers = itertools.count()

    async def __aenter__(self) -> ProcessWire:
        for _ in range(self._processes):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # else modules that lie in the current folder would run in it
                "-m",
                "orca_plugins.teachers.openai.http_processes",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_BUFFER_BYTES,
            )
            worker = _Worker(process)
            _pipe(process.stdin).write(self._settings)
            worker.reading = asyncio.create_task(self._read(worker))
            self._workers.append(worker)
        return self

    async def __aexit__(self, *_: object) -> None:
        # They hold nothing that is worth a moment: who still waits for a reply was told to stop waiting.
        for worker in self._workers:
            with suppress(ProcessLookupError):
                worker.process.kill()
        for worker in self._workers:
            await worker.process.wait()
            if worker.reading is not None:
                await worker.reading

    async def chat(self, endpoint: int, body: Mapping[str, Any], token: str = "") -> Reply | NoReply:
        """Send the body of a chat completion through the process that has least to do.

        Raises: Failure where a process failed in a way that nobody foresaw, or none is left.
        """
        alive = [worker for worker in self._workers if worker.alive]
        if not alive:
            raise Failure("all collecting processes have ended; run the same command again")
        worker = min(alive, key=lambda one: len(one.waiting))
        number = next(self._numbers)
        reply = asyncio.get_running_loop().create_future()
        worker.waiting[number] = reply
        try:
            _pipe(worker.process.stdin).write(_framed((number, endpoint, dict(body), token)))
            found: Reply | NoReply | Broken = await reply
        finally:
            worker.waiting.pop(number, None)
        if isinstance(found, Broken):
            raise Failure(f"a request could not be sent ({found.fault}); say processes = 1 to see where that came from")
        return found

    async def _read(self, worker: _Worker) -> None:
        """Hand replies to whoever waits for them, until the process ends."""
        stdout = worker.process.stdout
        assert stdout is not None
        while (told := await _next(stdout)) is not None:
            number, reply = told
            waiting = worker.waiting.get(number)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)
        worker.alive = False
        for waiting in worker.waiting.values():
            if not waiting.done():
                waiting.set_result(NoReply("cut connection", "a collecting process ended"))


def _framed(told: Any) -> bytes:
    data = pickle.dumps(told, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


async def _next(stream: asyncio.StreamReader) -> Any:
    """Read the next frame, None where there is no whole one left."""
    try:
        (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        # Safe, since the process at the other end is one of ours.
        return pickle.loads(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _pipe(pipe: asyncio.StreamWriter | None) -> asyncio.StreamWriter:
    assert pipe is not None
    return pipe


# --- in the processes that collect -----------------------------------------------------------------------------------


async def serve() -> None:
    """Exchange what standard input asks for, until it ends: with the process at its other end."""
    loop = asyncio.get_running_loop()
    # Whatever prints goes to standard error: frames alone go to the process that collects.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    stream = asyncio.StreamReader(limit=_BUFFER_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, out)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    settings = await _next(stream)
    endpoints = [Endpoint.model_validate(told) for told in settings["endpoints"]]
    async with ClientWire(endpoints, timeout_seconds=settings["timeout_seconds"]) as wire:
        tasks: set[asyncio.Task[None]] = set()
        while (told := await _next(stream)) is not None:
            task = asyncio.create_task(_exchange(wire, writer, *told))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    transport.abort()


async def _exchange(
    wire: ClientWire, writer: asyncio.StreamWriter, number: int, endpoint: int, body: Mapping[str, Any], token: str
) -> None:
    try:
        reply: Reply | NoReply | Broken = await wire.chat(endpoint, body, token)
    except Exception as fault:  # whoever waits for a reply would wait for ever
        reply = Broken(type(fault).__name__)
    writer.write(_framed((number, reply)))


if __name__ == "__main__":
    # The process that collects is told to stop, and ends this one when it has kept what is in flight.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve())
