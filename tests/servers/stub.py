"""A deterministic stand-in for an OpenAI-compatible server: answers come from a hash of the question, faults on order.

    python -m tests.servers.stub --port 0 --ready FILE --faults '{"500": 0.1, "hang": 0.01}'

writes its address into FILE once it listens on loopback. What it was asked can be read while it runs:
`GET /_asked` is {key of content: times asked}, `GET /_answered` the same for whole answers given, and `GET /_log` a
line for each try: seconds, input tokens, output tokens, status. The key of a question is `key_of(body)`: messages,
model and sampling options, not max_tokens.
"""

import asyncio
import hashlib
import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from aiohttp import web

from tests.servers.batches import Batches
from tests.servers.faults import Faults, error, failed

WORDS = ("the", "answer", "follows", "from", "what", "was", "said", "so", "far", "and", "nothing", "else", "counts")
_LIMITS = ("max_tokens", "max_completion_tokens")


def key_of(body: Mapping[str, Any]) -> str:
    """What a question is known by: everything in its body but the limit of tokens."""
    content = {name: value for name, value in body.items() if name not in _LIMITS}
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def limit_of(body: Mapping[str, Any]) -> int | None:
    """The limit of tokens that a body names, by either name."""
    return next((body[name] for name in _LIMITS if body.get(name) is not None), None)


def answer_to(key: str) -> str:
    """The answer to a question, by its key: some 5 to 40 words, or a letter, or a number."""
    state = int(key, 16)
    count = 5 + state % 36
    words = [WORDS[(state >> (at % 100)) % len(WORDS)] for at in range(count)]
    return f"{' '.join(words)}.\nThe answer is {state % 1000}."


def tokens_of(text: str) -> int:
    """This server's tokens: four bytes make one."""
    return (len(text.encode("utf-8", "surrogatepass")) + 3) // 4


@dataclass
class Stub:
    """What the server is told and what it has seen.

    Attributes:
        key: what the Authorization header must bear, where it is set. models: those it knows, all where empty.
        expires_after: answers after which the key is refused.
        delay_seconds: how long an answer takes.
        requests_per_minute: more than that in any sliding minute is answered by 429.
        says: what it answers to a body, None where that is a hash's to say. bodies: what it was sent, in order.
        adds: what a message holds beside its text.
        reasons: whether it refuses max_tokens and takes max_completion_tokens, as models that reason do.
    """

    faults: Faults = field(default_factory=Faults)
    key: str | None = None
    models: tuple[str, ...] = ()
    expires_after: int | None = None
    delay_seconds: float = 0.0
    batch_seconds: float = 0.0
    queue_limit: int | None = None
    requests_per_minute: int | None = None
    reasons: bool = False
    says: Callable[[Mapping[str, Any]], str] | None = None
    adds: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda body: {}
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    headers: deque[dict[str, str]] = field(default_factory=lambda: deque(maxlen=64))
    answered: Counter[str] = field(default_factory=Counter)
    log: list[tuple[float, int, int, int]] = field(default_factory=list)
    limits_seen: list[int | None] = field(default_factory=list)
    batches: Any = None
    in_flight: int = 0
    most_in_flight: int = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/_asked", self._tell(lambda: self.asked))
        app.router.add_get("/_answered", self._tell(lambda: self.answered))
        app.router.add_get("/_log", self._tell(lambda: self.log))
        Batches(self).add_to(app)
        return app

    def refusal(self, request: web.Request) -> web.Response | None:
        """Why a request is not listened to: its key."""
        expired = self.expires_after is not None and self.answered.total() >= self.expires_after
        self.headers.append(dict(request.headers))
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if (self.key is not None and sent != self.key) or expired:
            # Some servers say the key again, whole.
            return error(401, f"Incorrect API key provided: {sent}.", "invalid_api_key", type="invalid_request_error")
        return None

    def fault_of(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is wrong with a body, as OpenAI words it: the limit of tokens goes by a name that is not taken."""
        if not (self.reasons and "max_tokens" in body):
            return None
        message = "Unsupported parameter: 'max_tokens' is not supported with this model."
        message += " Use 'max_completion_tokens' instead."
        return {"message": message, "code": "unsupported_parameter", "param": "max_tokens"}

    def completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The good answer to a body, cut where it is longer than the limit."""
        key = key_of(body)
        text = answer_to(key) if self.says is None else self.says(body)
        limit = limit_of(body)
        cut = limit is not None and tokens_of(text) > limit
        text = text.encode()[: limit * 4].decode() if cut and limit is not None else text
        asked = sum(tokens_of(message["content"]) + 4 for message in body["messages"])
        return {
            "id": f"chatcmpl-{key}",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, **self.adds(body)},
                    "finish_reason": "length" if cut else "stop",
                }
            ],
            "usage": {
                "prompt_tokens": asked,
                "completion_tokens": tokens_of(text),
                "total_tokens": asked + tokens_of(text),
            },
        }

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._answer(request)
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        arrived = time.monotonic()
        body = await request.json()
        refused = self.refusal(request)
        if refused is not None:
            return refused
        key = key_of(body)
        self.asked[key] += 1
        self.bodies.append(body)
        self.limits_seen.append(limit_of(body))
        if self.models and body["model"] not in self.models:
            return error(404, f"The model {body['model']} does not exist", "model_not_found")
        if (wrong := self.fault_of(body)) is not None:
            return error(400, **wrong)
        if self._is_over_its_limit(arrived):
            self.log.append((arrived, 0, 0, 429))
            return error(429, "Rate limit reached", "rate_limit_exceeded", **{"Retry-After": "1"})
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        good = self.completion(body)
        usage = good["usage"]
        fault = self.faults.drawn(key, self.asked[key])
        counted = (usage["prompt_tokens"], usage["completion_tokens"]) if fault is None else (0, 0)
        self.log.append((arrived, *counted, 200 if fault is None else 0))
        if fault is not None:
            return await failed(fault, request=request, body=good, faults=self.faults)
        self.answered[key] += 1
        return web.json_response(good, headers={"x-request-id": f"req_{key[:8]}_{self.asked[key]}"})

    def _is_over_its_limit(self, now: float) -> bool:
        if self.requests_per_minute is None:
            return False
        recent = sum(1 for seconds, _, _, status in self.log if seconds > now - 60 and status != 429)
        return recent >= self.requests_per_minute

    @staticmethod
    def _tell(what: Any) -> Any:
        async def handler(_: web.Request) -> web.Response:
            return web.json_response(what())

        return handler


async def serving(stub: Stub, port: int = 0) -> tuple[web.AppRunner, str]:
    """Listen on loopback: what to `cleanup()` afterwards, and the base_url."""
    runner = web.AppRunner(stub.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"


@click.command()
@click.option("--port", default=0, help="0 for any that is free")
@click.option("--ready", type=click.Path(path_type=Path), help="file that the base_url is written into")
@click.option("--faults", default="{}", help="JSON: fault to share of tries")
@click.option("--most", default=2, help="faults of one question at most")
@click.option("--delay", default=0.0, help="seconds that an answer takes")
@click.option("--key", default=None, help="the key that is asked for")
@click.option("--batch-seconds", default=0.0, help="how long a batch takes")
def main(
    port: int, ready: Path | None, faults: str, most: int, delay: float, key: str | None, batch_seconds: float
) -> None:
    """Serve until killed."""
    stub = Stub(faults=Faults(shares=json.loads(faults), most=most), delay_seconds=delay, key=key)
    stub.batch_seconds = batch_seconds
    asyncio.run(_serve(stub, port, ready))


async def _serve(stub: Stub, port: int, ready: Path | None) -> None:
    _, base_url = await serving(stub, port)
    if ready is not None:
        aside = ready.with_suffix(".new")
        aside.write_text(base_url, encoding="utf-8")
        os.replace(aside, ready)
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
