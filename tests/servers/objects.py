"""An S3 server on loopback (moto's), and a proxy before it that fails now and then."""

from __future__ import annotations

import http.client
import logging
import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from random import Random

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "hush/very+secret",
    "AWS_REGION": "us-east-1",
}
_NUMBERS = count()
FAULTS = ("503", "cut", "cut answer", "half")


@contextmanager
def serving_objects() -> Iterator[str]:
    """Serve S3 from threads of this process; gives its address."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def new_bucket(address: str) -> str:
    """Make a bucket; gives its name."""
    name = f"bucket-{os.getpid()}-{next(_NUMBERS)}"
    with urllib.request.urlopen(urllib.request.Request(f"{address}/{name}", method="PUT")):
        return name


class Failing(ThreadingHTTPServer):
    """Stands before a server and fails in a share of the requests: 503, a cut before the request is passed on, a cut of
    its answer, half of its answer. Faults are drawn in the order of requests, the same for a seed.

    refused: a method that nobody may use. share and faults may be changed at any time.
    """

    daemon_threads = True

    def __init__(self, address: str, *, share: float, seed: int = 1, refused: str = "", port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Passing)
        self.behind = address.removeprefix("http://")
        self.requests, self.failed, self.refused = 0, 0, refused
        self.share, self.faults, self.connections = share, FAULTS, set[socket.socket]()
        self._random, self._lock = Random(seed), threading.Lock()

    def cut(self) -> None:
        """Break all connections, whatever is under way on them."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def drawn(self) -> str | None:
        """The fault of the next request, or None."""
        with self._lock:
            self.requests += 1
            if self._random.random() >= self.share:
                return None
            self.failed += 1
            return self._random.choice(self.faults)

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections break here on purpose."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Failing

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline()
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self._pass()

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command == self.server.refused:
            self._answer(403, [], b"<Error><Code>AccessDenied</Code></Error>")
            return
        fault = self.server.drawn()
        if fault == "503":
            self._answer(503, [], b"<Error><Code>SlowDown</Code></Error>")
            return
        if fault == "cut":
            self._cut()
            return
        asked = http.client.HTTPConnection(self.server.behind)
        try:
            asked.request(self.command, self.path, body, dict(self.headers))
            answer = asked.getresponse()
            found = answer.read()
        finally:
            asked.close()
        if fault == "cut answer":
            self._cut()
        elif fault == "half":
            self._answer(answer.status, answer.getheaders(), found, sent=len(found) // 2)
            self._cut()
        else:
            self._answer(answer.status, answer.getheaders(), found)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, sent: int | None = None) -> None:
        self.send_response(status)
        length = str(len(body))
        for name, value in headers:
            if self.command == "HEAD" and name.lower() == "content-length":
                length = value
            elif name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def failing(address: str, *, share: float, seed: int = 1, refused: str = "") -> Iterator[tuple[str, Failing]]:
    """Serve what stands at an address through a proxy that fails; gives its address, and the proxy to be looked at."""
    server = Failing(address, share=share, seed=seed, refused=refused)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
