"""A hub of data sets on this machine: everything is real but the network."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

NOWHERE = "http://127.0.0.1:9"
"""Where nothing listens."""

USER = "me"
LFS_BYTES = 1000
"""Files that hold a zero byte, or more than so many, are stored apart."""


@dataclass
class HubSet:
    """One data set: branch to commit, and the files of each commit, by name.

    hidden: who has no token is told that there is none. gated: who has none may look at it and take no file.
    """

    branches: dict[str, str]
    commits: dict[str, Mapping[str, bytes]]
    private: bool = False
    hidden: bool = False
    gated: bool = False


@dataclass
class Hub:
    """The data sets of a hub by name, and what it was asked for.

    token: who has it may write. stored: large files, by SHA-256. part_bytes: larger files come in parts.
    holds_from: the number of the large file that is never taken, and those after it; `held` tells that it has come.
    """

    sets: dict[str, HubSet] = field(default_factory=dict)
    address: str = ""
    asked: list[str] = field(default_factory=list)
    token: str = "hf_secret"
    stored: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    part_bytes: int | None = None
    holds_from: int | None = None
    held: Event = field(default_factory=Event)

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
        # A branch with a slash in its name comes quoted, so that it is one part.
        spelt = urlsplit(self.path).path.removeprefix("/api").removeprefix("/datasets/")
        parts = [unquote(part) for part in spelt.split("/")]
        name, verb, rest = "/".join(parts[:2]), (parts[2:3] or [""])[0], parts[3:]
        if name not in self.server.hub.sets or not path.removeprefix("/api").startswith("/datasets/"):
            self._send(404, b'{"error": "not found"}', {"X-Error-Code": "RepoNotFound"})
            return
        held, knows = self.server.hub.sets[name], self.headers.get("Authorization") == f"Bearer {self.server.hub.token}"
        if held.hidden and not knows:
            self._send(401, b'{"error": "Invalid username or password."}', {"X-Error-Code": "RepoNotFound"})
            return
        if held.gated and not knows and not path.startswith("/api/"):
            self._send(403, b'{"error": "consent"}', {"X-Error-Code": "GatedRepo"})
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
        path = unquote(urlsplit(self.path).path)
        if "/paths-info/" in path:
            self.do_GET()
            return
        told = self._body()
        self.server.hub.asked.append(f"{self.command} {path}")
        if told == b"":
            self.close_connection = True  # who asked was killed meanwhile
        elif path == "/verify":
            self._send(200, b"{}")
        elif path == "/api/validate-yaml":
            self._send(200, b'{"errors": [], "warnings": []}')
        elif path == "/api/repos/create":
            self._create(json.loads(told))
        elif path.startswith("/parts/"):
            self._join(json.loads(told))
        elif self.headers.get("Authorization") != f"Bearer {self.server.hub.token}":
            self._send(403, b'{"error": "forbidden"}')
        elif path.endswith("/info/lfs/objects/batch"):
            self._send(
                200, json.dumps({"objects": [self._wanted(one) for one in json.loads(told)["objects"]]}).encode()
            )
        elif "/preupload/" in path:
            held = self.server.hub.files(_name(path), "main")
            files = [_mode(one, held[1] if held else {}) for one in json.loads(told)["files"]]
            self._send(200, json.dumps({"files": files}).encode())
        else:
            self._commit(_name(path), [json.loads(line) for line in told.splitlines()])

    def do_PUT(self) -> None:
        hub, data = self.server.hub, self._body()
        _, oid, number = (f"{self.path}/0").split("/")[1:4]
        if hub.holds_from is not None and len(hub.stored) >= hub.holds_from:
            hub.held.set()
            Event().wait()
        hub.asked.append(f"PUT {oid}")
        if number == "0":
            hub.stored[oid] = data
        else:
            hub.parts.setdefault(oid, {})[int(number)] = data
        self._send(200, b"", {"ETag": _oid(data)})

    def _create(self, told: Mapping[str, str]) -> None:
        hub = self.server.hub
        if self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._send(401, b'{"error": "no such token"}')
            return
        name = f"{told['organization'] or USER}/{told['name']}"
        status = 409 if name in hub.sets else 200
        is_private = told.get("visibility") == "private" or bool(told.get("private"))
        first = {"0" * 40: {".gitattributes": b"*.bin filter=lfs"}}
        hub.sets.setdefault(name, HubSet({"main": "0" * 40}, dict(first), is_private))
        self._send(status, json.dumps({"url": f"{hub.address}/datasets/{name}"}).encode())

    def _wanted(self, one: Mapping[str, object]) -> dict[str, object]:
        """What is to be done with a large file: nothing where it is here."""
        hub, oid, size = self.server.hub, str(one["oid"]), int(str(one["size"]))
        if oid in hub.stored:
            return {"oid": oid, "size": size}
        verify = {"href": f"{hub.address}/verify"}
        if hub.part_bytes is None or size <= hub.part_bytes:
            return {
                "oid": oid,
                "size": size,
                "actions": {"upload": {"href": f"{hub.address}/put/{oid}"}, "verify": verify},
            }
        count = -(-size // hub.part_bytes)
        urls = {f"{number:05d}": f"{hub.address}/put/{oid}/{number}" for number in range(1, count + 1)}
        upload = {"href": f"{hub.address}/parts/{oid}", "header": {"chunk_size": str(hub.part_bytes), **urls}}
        return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}

    def _join(self, told: Mapping[str, str]) -> None:
        hub, parts = self.server.hub, self.server.hub.parts[told["oid"]]
        hub.stored[told["oid"]] = b"".join(parts[number] for number in sorted(parts))
        self._send(200, b"{}")

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        hub = self.server.hub
        held = hub.sets[name]
        files = dict(held.commits[held.branches["main"]])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
                continue
            whole = base64.b64decode(value["content"]) if "content" in value else hub.stored[value["oid"]]
            if "content" not in value and sha256(whole).hexdigest() != value["oid"]:
                self._send(400, b'{"error": "other bytes"}')
                return
            files[value["path"]] = whole
        commit = _oid(b"".join(name.encode() + data for name, data in sorted(files.items())))
        held.commits[commit], held.branches["main"] = files, commit
        self._send(200, json.dumps({"commitUrl": f"{hub.address}/datasets/{name}", "commitOid": commit}).encode())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _about(self, name: str, verb: str, commit: str, files: Mapping[str, bytes], below: str) -> None:
        if verb in ("revision", ""):
            siblings = [{"rfilename": one} for one in files]
            private = self.server.hub.sets[name].private
            told = {"id": name, "sha": commit, "siblings": siblings, "private": private, "gated": False, "tags": []}
            self._send(200, json.dumps(told | {"downloads": 0, "likes": 0}).encode())
        elif verb == "tree":
            everything = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
            found = list(_tree(files, below, everything))
            if below and not found:
                self._send(404, b'{"error": "not found"}', {"X-Error-Code": "EntryNotFound"})
            else:
                self._send(200, json.dumps(found).encode())
        elif verb == "paths-info":
            length = int(self.headers.get("Content-Length", 0))
            told = self.rfile.read(length).decode()
            is_form = "form" in self.headers.get("Content-Type", "")
            wanted = parse_qs(told)["paths"] if is_form else json.loads(told)["paths"]
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


def _name(path: str) -> str:
    """The data set that an address below /api/datasets is about."""
    return "/".join(path.split("/")[3:5])


def _mode(one: Mapping[str, str], held: Mapping[str, bytes]) -> dict[str, object]:
    """How a file is to be sent, and which is there already."""
    is_large = b"\0" in base64.b64decode(one["sample"]) or int(one["size"]) > LFS_BYTES
    data = held.get(one["path"])
    oid = data and (sha256(data).hexdigest() if is_large else _oid(b"blob %d\0" % len(data) + data))
    return {"path": one["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False, "oid": oid}


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
