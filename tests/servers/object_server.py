"""An S3 server on loopback (moto's) in a process of its own, which can be restarted and made to fail now and then.

What it holds outlives a restart, as a server's disk would.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.objects import CREDENTIALS, Failing, new_bucket, serving_objects

HOME = Path(__file__).parents[2]


class ObjectServer(AbstractContextManager["ObjectServer"]):
    """The server, until the end of a `with`.

    Attributes:
        environment: what a process needs to reach it. bucket: one that is there. pid: of the server.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.object_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # moto's own tracebacks: a listing meets a removal, and is answered with 500
            text=True,
            cwd=HOME,
        )
        address, self.bucket = self._heard().split()
        self.environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": address}
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def go_down(self) -> None:
        """Break all connections and listen no more."""
        self._tell("down")

    def come_up(self) -> None:
        """Listen again at the same port."""
        self._tell("up")

    def fail(self, share: float) -> int:
        """Fail in a share of the requests from now on; gives how many of them failed until now."""
        return int(self._tell(f"share {share}"))

    def _tell(self, words: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()
        return self._heard()

    def _heard(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the S3 server ended"
        return line.strip()


def _serve() -> None:
    with serving_objects() as address:
        server = _begun(Failing(address, share=0))
        port, failed = server.server_address[1], 0
        print(f"http://127.0.0.1:{port}", new_bucket(address), flush=True)
        for line in sys.stdin:
            what, _, told = line.strip().partition(" ")
            if what == "down":
                server.shutdown()
                server.server_close()
                server.cut()
            elif what == "up":
                failed += server.failed
                server = _begun(Failing(address, share=server.share, port=port))
            else:
                server.share = float(told)
            print(failed + server.failed, flush=True)


def _begun(server: Failing) -> Failing:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    _serve()
