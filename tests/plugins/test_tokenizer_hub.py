"""A tokenizer of the hub, on a hub that runs on this machine: everything is real but the network."""

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from orca_plugins.tokenizers.hf.kind import HF
from orca_recipes.errors import TokenizerError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubOfOne(ThreadingHTTPServer):
    """A hub that holds one model, "org/name", in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.folder = folder

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: HubOfOne

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if not path.removeprefix("/api/models").startswith("/org/name/"):
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif path == "/api/models/org/name/revision/main":
            self.answer(200, json.dumps({"id": "org/name", "sha": COMMIT, "siblings": []}).encode())
        elif path.startswith("/api/models/org/name/revision/"):
            self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("/api/models/org/name/tree/"):
            self.answer(200, json.dumps([entry(file) for file in self.server.folder.iterdir()]).encode())
        else:
            data = (self.server.folder / path.rsplit("/", 1)[1]).read_bytes()
            self.answer(200, data, {"ETag": f'"{len(data)}"', "X-Repo-Commit": COMMIT})

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def entry(file: Path) -> dict[str, object]:
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}


@pytest.fixture
def hub(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubOfOne]:
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((shared / "data/tokenizer/tokenizer.json").read_bytes())
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>"}', encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"0" * 100)
    server = HubOfOne(folder)
    Thread(target=server.serve_forever, daemon=True).start()
    resolve = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + resolve)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    unplug(monkeypatch)


def unplug(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("the network is unreachable")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)


def test_a_hub_name_is_resolved_to_a_commit_and_loads_only_the_tokenizer(hub: HubOfOne, tmp_path: Path) -> None:
    kind = HF(hub="org/name")
    files = kind.files()
    assert [file.name for file in files] == ["tokenizer.json", "tokenizer_config.json"]
    assert files[0].path.parent.name == COMMIT
    assert not list((tmp_path / "cache").rglob("model.safetensors"))
    kind.materialize(files=files, folder=tmp_path)
    assert kind.open(folder=tmp_path).vocabulary.eos == "</s>"


def test_without_network_a_hub_name_is_found_in_the_cache(hub: HubOfOne, monkeypatch: pytest.MonkeyPatch) -> None:
    online = HF(hub="org/name").files()
    unplug(monkeypatch)
    assert HF(hub="org/name").files() == online
    assert HF(hub="org/name", hub_revision=COMMIT).files() == online


def test_without_network_and_cache_a_hub_name_is_told_in_a_sentence(hub: HubOfOne, no_network: None) -> None:
    with pytest.raises(TokenizerError, match="org/name at main cannot be had from the hub and is not in the cache"):
        HF(hub="org/name").files()


def test_a_hub_name_that_is_not_there_is_told_in_a_sentence(hub: HubOfOne) -> None:
    with pytest.raises(TokenizerError, match="the hub has no org/other"):
        HF(hub="org/other").files()
    with pytest.raises(TokenizerError, match="org/name has no revision v9 on the hub"):
        HF(hub="org/name", hub_revision="v9").files()
    with pytest.raises(TokenizerError, match="cannot be had from the hub"):
        HF(hub="no such name!").files()
