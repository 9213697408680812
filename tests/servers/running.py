"""A stub that runs for the length of a `with`: in a thread of this process, or as a process of its own."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.stub import Stub, serving

HOME = Path(__file__).parents[2]


@contextmanager
def running(stub: Stub) -> Iterator[str]:
    """Serve a stub from a thread; gives its base_url, and the stub can be looked at meanwhile."""
    loop = asyncio.new_event_loop()
    runner, base_url = loop.run_until_complete(serving(stub))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield base_url
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def running_apart(folder: Path, *words: str) -> Iterator[str]:
    """Serve a stub from another process, with the options of `python -m tests.servers.stub`; gives its base_url."""
    ready = folder / "stub-address"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.servers.stub", "--ready", str(ready), *words]
    process = subprocess.Popen(command, cwd=HOME)
    try:
        ends = time.monotonic() + 30
        while not ready.exists():
            assert process.poll() is None, "the stub did not start"
            assert time.monotonic() < ends, "the stub does not listen"
            time.sleep(0.02)
        yield ready.read_text(encoding="utf-8")
    finally:
        process.kill()
        process.wait()
