"""The process that serves a model: it ends with the collection, however that ends.

It reads its standard input, whose other end only the collecting process holds: when that closes it, or is killed, the
input ends and the server with it. On Linux the kernel is asked to kill it with its parent as well, for the moments
before it reads (loading a model takes a while).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO, Any

from orca_recipes.errors import TeacherError

# Gigabytes of a model come from a disk or a network before the first word.
LOADING_SECONDS = 600.0
_STOPPING_SECONDS = 5.0
# From <sys/prctl.h>: the standard library has no prctl.
_PR_SET_PDEATHSIG = 1


@contextlib.asynccontextmanager
async def serving(model: Path, settings: Mapping[str, Any]) -> AsyncIterator[str]:
    """Serve a model on loopback; gives its base_url.

    Args:
        settings: context_tokens, threads (None: half of the cores), alias (the name that answers bear).
    Raises: TeacherError where the model does not load.
    """
    told = json.dumps({**settings, "model": str(model), "parent": os.getpid()})
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # else modules that lie in the current folder would run in it
            "-m",
            "orca_plugins.teachers.llamacpp.server_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        try:
            yield await _address(process, told, model, log)
        finally:
            await _stop(process)


async def _address(process: asyncio.subprocess.Process, told: str, model: Path, log: IO[bytes]) -> str:
    """Hand over the settings and wait until the server listens."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(told.encode() + b"\n")
    try:
        async with asyncio.timeout(LOADING_SECONDS):
            async for line in process.stdout:
                # llama.cpp may print lines of its own.
                if line.startswith(_LISTENS):
                    return f"{line.removeprefix(_LISTENS).decode().strip()}/v1"
    except TimeoutError:
        pass
    log.seek(0)
    words = log.read()[-2000:].decode("utf-8", "replace").split()
    said = "".join(letter for letter in " ".join(words)[-200:] if letter.isprintable())
    raise TeacherError(
        f"the model {model} does not load: is it a GGUF file that llama.cpp reads? ({said or 'no word'})"
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_STOPPING_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


# --- in the process that serves --------------------------------------------------------------------------------------

_LISTENS = b"orca: listens at "


def main() -> None:
    """Serve until standard input ends."""
    # The process that collects is told to stop, and ends this one when it has kept what is in flight.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = json.loads(sys.stdin.readline())
    _die_with(settings["parent"])
    import xllamacpp

    server = xllamacpp.Server(_parameters(settings))
    sys.stdout.buffer.write(_LISTENS + server.listening_address.encode() + b"\n")
    sys.stdout.buffer.flush()
    sys.stdin.read()
    # Its own end waits for connections that are open; nothing is lost by leaving at once.
    os._exit(0)


def _parameters(settings: Mapping[str, Any]) -> Any:
    """Set up one slot and no cache, so that an answer does not depend on the questions before it."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings["model"]
    parameters.model_alias = {settings["alias"]}
    parameters.n_ctx = settings["context_tokens"]
    parameters.n_parallel = 1
    # The system picks a port that is free.
    parameters.port = 0
    parameters.cache_prompt = False
    parameters.cache_ram_mib = 0
    parameters.n_ctx_checkpoints = 0
    parameters.warmup = False
    parameters.ui = False
    parameters.endpoint_slots = False
    # Threads of llama.cpp wait for each other busily: on a machine that does other work too, one too many and an answer
    # takes twenty times as long.
    parameters.cpuparams.n_threads = settings["threads"] or max(1, (os.cpu_count() or 1) // 2)
    parameters.cpuparams.poll = 0
    return parameters


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before prctl, and then no signal comes.
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main()
