"""A hub of data sets on this machine: everything is real but the network."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

NOWHERE = "http://127.0.0.1:9"
"""Where nothing listens."""


@dataclass
class HubSet:
    """One data set: branch to commit, and the files of each commit, by name."""

    branches: dict[str, str]
    commits: Mapping[str, Mapping[str, bytes]]


@dataclass
class Hub:
    """The data sets of a hub by name, and what it was asked for."""

    sets: dict[str, HubSet]
    address: str = ""
    asked: list[str] = field(default_factory=list)

    def files(self, name: str, revision: str) -> tuple[str, Mapping[str, bytes]] | None:
        """The commit that a revision of a data set is, and its files."""
        held = self.sets.get(name)
        commit = held.branches.get(revision, revision) if held else revision
        return (commit, held.commits[commit]) if held and commit in held.commits else None


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """The hub, on a free port of this machine."""
    server = _Server(hub)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def lead_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `huggingface_hub` and `datasets` take what answers there, or nothing, for the hub; its cache stays."""
    import datasets
    from huggingface_hub import HfFileSystem, constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
    # It keeps one object for each choice of options, and in it what it saw.
    HfFileSystem.clear_instance_cache()


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.hub = hub


class _Answers(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.hub.asked.append(f"{self.command} {path}")
        parts = path.removeprefix("/api").removeprefix("/datasets/").split("/")
        name, verb, rest = "/".join(parts[:2]), (parts[2:3] or [""])[0], parts[3:]
        if name not in self.server.hub.sets or not path.removeprefix("/api").startswith("/datasets/"):
            self._send(404, b'{"error": "not found"}', {"X-Error-Code": "RepoNotFound"})
            return
        revision = rest[0] if rest else "main"
        found = self.server.hub.files(name, revision)
        if found is None:
            self._send(404, b'{"error": "no such revision"}', {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("/api/"):
            self._about(name, verb, *found, "/".join(rest[1:]))
        else:
            self._file(*found, "/".join(rest[1:]))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def _about(self, name: str, verb: str, commit: str, files: Mapping[str, bytes], below: str) -> None:
        if verb in ("revision", ""):
            siblings = [{"rfilename": one} for one in files]
            told = {"id": name, "sha": commit, "siblings": siblings, "private": False, "gated": False, "tags": []}
            self._send(200, json.dumps(told | {"downloads": 0, "likes": 0}).encode())
        elif verb == "tree":
            everything = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
            self._send(200, json.dumps(list(_tree(files, below, everything))).encode())
        elif verb == "paths-info":
            length = int(self.headers.get("Content-Length", 0))
            wanted = json.loads(self.rfile.read(length))["paths"]
            self._send(200, json.dumps([_entry(one, files[one]) for one in wanted if one in files]).encode())
        else:
            self._send(404, b'{"error": "not found"}', {"X-Error-Code": "EntryNotFound"})

    def _file(self, commit: str, files: Mapping[str, bytes], name: str) -> None:
        if name not in files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        data, status, headers = files[name], 200, {"ETag": f'"{_oid(files[name])}"', "X-Repo-Commit": commit}
        span = self.headers.get("Range", "").removeprefix("bytes=")
        if span and self.command == "GET":
            first, _, last = span.partition("-")
            start, stop = int(first), min(int(last or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{stop}/{len(data)}"
            data, status = data[start : stop + 1], 206
        self._send(status, data, headers)

    def _send(self, status: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _oid(data: bytes) -> str:
    return sha1(data, usedforsecurity=False).hexdigest()


def _entry(name: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(data), "oid": _oid(data)}


def _tree(files: Mapping[str, bytes], below: str, everything: bool) -> Iterator[dict[str, object]]:
    """What lies below a folder: all of it, or only its own files and folders."""
    start = f"{below}/" if below else ""
    folders = set()
    for name, data in files.items():
        if name.startswith(start):
            folder, slash, _ = name.removeprefix(start).partition("/")
            if everything or not slash:
                yield _entry(name, data)
            if slash and folder not in folders:
                folders.add(folder)
                yield {"type": "directory", "path": start + folder, "size": 0, "oid": _oid(folder.encode())}
