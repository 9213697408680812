"""The ways in which a server goes wrong, each as the answer that it gives.

Whether a try fails is drawn by a hash of the question, the number of the try and a seed: the same faults on every run,
in whatever order the questions arrive. After `most` faults a question is answered, so that every collection ends.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

HANGING_SECONDS = 30.0
HUGE_BYTES = 10_000_000


@dataclass
class Faults:
    """shares: fault name to share of tries. after_seconds: what Retry-After says. codes of stops last for good."""

    shares: Mapping[str, float] = field(default_factory=dict)
    most: int = 2
    seed: int = 1
    after_seconds: float = 0.05

    def drawn(self, key: str, attempt: int) -> str | None:
        """The fault of a question's try, counted from 1, or None."""
        if attempt > self.most:
            return None
        digest = hashlib.blake2b(f"{key} {attempt} {self.seed}".encode(), digest_size=8).digest()
        left = int.from_bytes(digest, "big") / 2**64
        for name, share in self.shares.items():
            if left < share:
                return name
            left -= share
        return None


def error(status: int, message: str, code: str | None = None, **more: Any) -> web.Response:
    """An error as OpenAI words it."""
    body = {
        "error": {"message": message, "type": more.pop("type", "error"), "code": code, "param": more.pop("param", None)}
    }
    return web.json_response(body, status=status, headers=more)


async def failed(name: str, *, request: web.Request, body: Mapping[str, Any], faults: Faults) -> web.StreamResponse:
    """Answer a request as the named fault does; `body` is the good answer."""
    after = {"Retry-After": f"{faults.after_seconds:g}"}
    plain = {
        "429": lambda: error(429, "Rate limit reached", "rate_limit_exceeded"),
        "429_after": lambda: error(429, "Rate limit reached", "rate_limit_exceeded", **after),
        "408": lambda: error(408, "Request timeout"),
        "409": lambda: error(409, "Conflict"),
        "500": lambda: error(500, "The server had an error"),
        "503": lambda: error(503, "Overloaded"),
        "503_after": lambda: error(503, "Overloaded", **after),
        "quota": lambda: error(429, "You exceeded your current quota", "insufficient_quota", type="insufficient_quota"),
        "unknown_model": lambda: error(404, "The model does not exist", "model_not_found"),
        "context": lambda: error(
            400, "This model's maximum context length is 8 tokens", "context_length_exceeded", param="messages"
        ),
        "policy": lambda: error(400, "The prompt was filtered", "content_filter", param="messages"),
        "bad_option": lambda: error(400, "Invalid 'temperature'", "invalid_value", param="temperature"),
        "error_in_200": lambda: web.json_response({"error": {"message": "Provider returned error", "code": 502}}),
        "not_json": lambda: web.Response(text="<html>502 Bad Gateway</html>", content_type="text/html"),
        "truncated": lambda: web.Response(text=json.dumps(body)[:-20], content_type="application/json"),
        "empty_choices": lambda: web.json_response({**body, "choices": []}),
        "null_content": lambda: web.json_response(with_choice(body, content=None)),
        "empty_content": lambda: web.json_response(with_choice(body, content="")),
        "content_filter": lambda: web.json_response(with_choice(body, content=None, finish_reason="content_filter")),
        "refusal": lambda: web.json_response(with_choice(body, content=None, refusal="I can't help with that.")),
        "length": lambda: web.json_response(with_choice(body, finish_reason="length")),
        "huge": lambda: web.json_response(with_choice(body, content="x" * HUGE_BYTES)),
        "wrong_usage": lambda: web.json_response({**body, "usage": {"prompt_tokens": -7, "completion_tokens": "many"}}),
        "no_usage": lambda: web.json_response({name: value for name, value in body.items() if name != "usage"}),
        "other_model": lambda: web.json_response({**body, "model": "another-model"}),
    }
    if name == "hang":
        await asyncio.sleep(HANGING_SECONDS)
        return error(500, "too late")
    if name in ("cut", "cut_at_once"):
        return await _cut(request, body, whole_headers=name == "cut")
    return plain[name]()


def with_choice(body: Mapping[str, Any], *, finish_reason: str | None = None, **message: Any) -> dict[str, Any]:
    """The good answer with another message or finish reason."""
    choice = body["choices"][0]
    changed = {**choice, "message": {**choice["message"], **message}}
    return {**body, "choices": [{**changed, "finish_reason": finish_reason or choice["finish_reason"]}]}


async def _cut(request: web.Request, body: Mapping[str, Any], *, whole_headers: bool) -> web.StreamResponse:
    """Close the connection in the middle of the body, or before a byte of the answer."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    data = json.dumps(body).encode()
    response.content_length = len(data)
    if whole_headers:
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
    if request.transport is not None:
        request.transport.abort()
    return response
