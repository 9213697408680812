"""The files and batches of the OpenAI Batch API, for the stub.

A batch is worked off when its time has come, the next time that somebody looks at it. Faults are drawn a question, as
for single questions; those that make no sense in a file count as 500, which lands in the error file.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.servers.faults import error, with_choice

if TYPE_CHECKING:
    from tests.servers.stub import Stub

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000


@dataclass
class Batch:
    """One batch: lines of its file, when it is done, and how it ends ("completed", "expired", "failed")."""

    identity: str
    input_file: str
    lines: list[dict[str, Any]]
    done_at: float
    ends: str
    metadata: dict[str, str]
    status: str = "in_progress"
    output_file: str | None = None
    error_file: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        return {
            "id": self.identity,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": self.input_file,
            "completion_window": "24h",
            "created_at": int(time.time()),
            "status": self.status,
            "output_file_id": self.output_file,
            "error_file_id": self.error_file,
            "metadata": self.metadata,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "request_counts": {"total": len(self.lines), "completed": 0, "failed": 0},
        }


class Batches:
    """The part of the server that batches take; `stub.batches` lets tests look at it and order endings."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Batch] = {}
        self.endings: list[str] = []
        self.uploads: list[int] = []
        self._numbers = itertools.count()
        stub.batches = self

    def add_to(self, app: web.Application) -> None:
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{file}/content", self._content)
        app.router.add_delete("/v1/files/{file}", self._delete)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{batch}", self._retrieve)
        app.router.add_post("/v1/batches/{batch}/cancel", self._cancel)

    async def _upload(self, request: web.Request) -> web.Response:
        if (refused := self.stub.refusal(request)) is not None:
            return refused
        fields = await request.post()
        upload = fields["file"]
        assert isinstance(upload, web.FileField)
        assert fields["purpose"] == "batch"
        data = upload.file.read()
        self.uploads.append(len(data))
        if len(data) > MOST_BYTES or data.count(b"\n") > MOST_REQUESTS:
            return error(400, "The file is too large for a batch")
        return web.json_response(self._stored(data, upload.filename))

    def _stored(self, data: bytes, name: str) -> dict[str, Any]:
        identity = f"file-{next(self._numbers)}"
        self.files[identity] = data
        told = {"object": "file", "bytes": len(data), "created_at": 0, "filename": name}
        return {"id": identity, **told, "purpose": "batch", "status": "processed"}

    async def _content(self, request: web.Request) -> web.Response:
        data = self.files.get(request.match_info["file"])
        if data is None:
            return error(404, "No such file")
        return web.Response(body=data, content_type="application/octet-stream")

    async def _delete(self, request: web.Request) -> web.Response:
        self.files.pop(request.match_info["file"], None)
        return web.json_response({"id": request.match_info["file"], "object": "file", "deleted": True})

    async def _create(self, request: web.Request) -> web.Response:
        if (refused := self.stub.refusal(request)) is not None:
            return refused
        asked = await request.json()
        waiting = sum(len(batch.lines) for batch in self.batches.values() if batch.status == "in_progress")
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        if self.stub.queue_limit is not None and waiting + len(lines) > self.stub.queue_limit:
            return error(429, "Enqueued token limit reached", "token_limit_exceeded")
        identity = f"batch_{len(self.batches)}"
        batch = Batch(
            identity=identity,
            input_file=asked["input_file_id"],
            lines=lines,
            done_at=time.monotonic() + self.stub.batch_seconds,
            ends=self.endings.pop(0) if self.endings else "completed",
            metadata=asked.get("metadata") or {},
        )
        self.batches[identity] = batch
        for line in lines:
            self.stub.asked[_key(line)] += 1
        return web.json_response(batch.told())

    async def _list(self, request: web.Request) -> web.Response:
        told = [batch.told() for batch in reversed(self.batches.values())]
        return web.json_response({"object": "list", "data": told, "has_more": False})

    async def _retrieve(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["batch"])
        if batch is None:
            return error(404, "No such batch")
        if batch.status == "in_progress" and time.monotonic() >= batch.done_at:
            self._work_off(batch)
        return web.json_response(batch.told())

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["batch"]]
        batch.status = "cancelled"
        return web.json_response(batch.told())

    def _work_off(self, batch: Batch) -> None:
        """End a batch: whole, or with half its questions answered, or refused altogether."""
        batch.status = batch.ends
        if batch.ends == "failed":
            batch.errors = [{"code": "invalid_json_line", "message": "This line is not parseable", "line": 1}]
            return
        answered = batch.lines if batch.ends == "completed" else batch.lines[: len(batch.lines) // 2]
        good, bad = [], []
        for line in answered:
            response, fault = self._response(line)
            (good if fault is None else bad).append(response)
        bad += [
            _line(line, None, {"code": "batch_expired", "message": "not run"}) for line in batch.lines[len(answered) :]
        ]
        # The order of a result file is not the order of the questions.
        good.reverse()
        if good:
            batch.output_file = str(self._stored(_jsonl(good), "output")["id"])
        if bad:
            batch.error_file = str(self._stored(_jsonl(bad), "error")["id"])

    def _response(self, line: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
        key = _key(line)
        if (wrong := self.stub.fault_of(line["body"])) is not None:
            return _line(line, {"error": wrong}, None, status=400), wrong["code"]
        body = self.stub.completion(line["body"])
        fault = self.stub.faults.drawn(key, self.stub.asked[key])
        if fault is None:
            self.stub.answered[key] += 1
            return _line(line, body, None), None
        if fault == "refusal":
            return _line(line, with_choice(body, content=None, refusal="No."), None), None
        if fault in _REFUSALS:
            status, said = _REFUSALS[fault]
            return _line(line, {"error": said}, None, status=status), fault
        return _line(line, {"error": {"message": "The server had an error", "code": None}}, None, status=500), fault


_REFUSALS = {
    "context": (
        400,
        {"code": "context_length_exceeded", "message": "maximum context length", "param": "messages"},
    ),
    "quota": (429, {"code": "insufficient_quota", "message": "You exceeded your current quota"}),
    "unknown_model": (404, {"code": "model_not_found", "message": "The model does not exist"}),
    "bad_option": (400, {"code": "invalid_value", "message": "Invalid 'temperature'", "param": "temperature"}),
}
"""What the server says of a question that it does not answer: status and error."""


def _key(line: Mapping[str, Any]) -> str:
    from tests.servers.stub import key_of

    return key_of(line["body"])


def _line(line: Mapping[str, Any], body: Any, fault: Any, status: int = 200) -> dict[str, Any]:
    response = None if body is None else {"status_code": status, "request_id": "req_batch", "body": body}
    return {
        "id": f"batch_req_{line['custom_id']}",
        "custom_id": line["custom_id"],
        "response": response,
        "error": fault,
    }


def _jsonl(lines: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()
