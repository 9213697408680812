"""A server that says the key that it was sent: in every spelling, in every place of a reply."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from urllib.parse import quote, quote_plus

from aiohttp import web

from tests.servers.faults import with_choice
from tests.servers.stub import Stub

PLACES = (
    "content",
    "pieces of content",
    "reasoning",
    "call of a tool",
    "refusal",
    "finish reason",
    "model",
    "another choice",
    "request id",
    "name that stands twice",
    "error",
    "code of an error",
    "page of a gateway",
)
_ASKED = "echo "


def spellings(key: str) -> dict[str, str]:
    """Ways in which servers and proxies say a key again."""
    return {
        "as it is": key,
        "backwards": key[::-1],
        "shortened": f"{key[:14]}...{key[-4:]}",
        "the middle": key[9:22],
        "in capitals": key.upper(),
        "in the other case": key.swapcase(),
        "in an address": quote(key, safe=""),
        "in an address, plus for space": quote_plus(key),
        "in an address, small": quote(key, safe="").lower(),
        "in an address, twice": quote(quote(key, safe=""), safe=""),
        "each letter in an address": "".join(f"%{ord(letter):02X}" for letter in key),
        "hexadecimal": key.encode().hex(),
        "hexadecimal with colons": key.encode().hex(":").upper(),
        "base64": base64.b64encode(key.encode()).decode(),
        "base64 of a header": base64.b64encode(f"Bearer {key}\n".encode()).decode(),
        "base64 of a longer header": base64.b64encode(f"Bearer: {key}\n".encode()).decode(),
        "base64 for addresses": base64.urlsafe_b64encode(f"user:{key}".encode()).decode(),
        "escaped": "".join(f"\\u{ord(letter):04x}" for letter in key),
        "escaped in capitals": "".join(f"\\u{ord(letter):04X}" for letter in key),
        "escaped twice": json.dumps(json.dumps(key))[3:-3],
        "escaped slashes": key.replace("/", "\\/"),
        "escaped as bytes": "".join(f"\\x{ord(letter):02x}" for letter in key),
        "escaped for a page": "".join(f"&#{ord(letter)};" for letter in key),
        "escaped for a page, hexadecimal": "".join(f"&#x{ord(letter):X};" for letter in key),
        "escaped for a page where it must be": html.escape(key).replace("/", "&#47;"),
        "with spaces between": " ".join(key),
        "over lines": "\n".join(key[at : at + 5] for at in range(0, len(key), 5)),
        "with what is not seen between": "\u200b".join(key),
    }


def questions(key: str) -> list[str]:
    """A question for each place and spelling."""
    return [
        f"{_ASKED}{number}: in {place}, {how}" for number, (place, how) in enumerate(product(PLACES, spellings(key)))
    ]


@dataclass
class Echoes(Stub):
    """Says its key as a question asks for it. said: place and spelling of each time that it did."""

    said: set[tuple[str, str]] = field(default_factory=set)

    def completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        good = super().completion(body)
        place, spelt = self._asked_for(body)
        call = {"id": spelt, "type": "function", "function": {"name": "f", "arguments": json.dumps({"key": spelt})}}
        pieces = [{"type": "text", "text": spelt[at : at + 5]} for at in range(0, len(spelt), 5)]
        told: dict[str, dict[str, Any]] = {
            "content": {"content": f"Your key is {spelt}, is it not?"},
            "pieces of content": {"content": pieces},
            "reasoning": {"reasoning_content": f"They sent {spelt}."},
            "call of a tool": {"tool_calls": [call]},
            "refusal": {"content": None, "refusal": f"I say {spelt} and no more."},
        }
        if place in told:
            return with_choice(good, **told[place])
        if place == "another choice":
            good["choices"].append({"index": 1, "message": {"role": "assistant", "content": spelt}})
        if place == "finish reason":
            good["choices"][0]["finish_reason"] = spelt
        return {**good, "model": spelt} if place == "model" else good

    def fault_of(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        place, spelt = self._asked_for(body)
        if place == "error":
            return {"message": f"Something is wrong with {spelt}", "code": "content_filter"}
        return {"message": "no", "code": spelt} if place == "code of an error" else None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        place, spelt = self._asked_for(body)
        reply = await super()._answer(request)
        assert isinstance(reply, web.Response)
        if place == "request id":
            reply.headers["x-request-id"] = spelt.encode("ascii", "replace").decode().replace("\n", " ")
        if place == "name that stands twice":
            assert isinstance(reply.body, bytes)
            reply.body = b'{"model": ' + json.dumps(spelt).encode() + b", " + reply.body[1:]
        if place == "page of a gateway" and self.asked.total() % 2:
            return web.Response(text=f"<html>sent: {spelt}</html>", status=502, content_type="text/html")
        return reply

    def _asked_for(self, body: Mapping[str, Any]) -> tuple[str, str]:
        text = next((str(m["content"]) for m in body["messages"] if str(m["content"]).startswith(_ASKED)), None)
        if text is None or self.key is None:
            return "", ""
        number = int(text.removeprefix(_ASKED).partition(":")[0])
        place, (how, spelt) = list(product(PLACES, spellings(self.key).items()))[number]
        self.said.add((place, how))
        return place, spelt
