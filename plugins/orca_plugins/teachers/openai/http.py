"""One exchange with a server, through the openai client: bytes out of it, or no reply at all.

The client is used for its connections and headers alone: its retries are off (limits and budgets must see every try),
replies are taken raw (building its response objects takes longer than the exchange), and redirects are not followed,
since a redirect would carry the key to another host. No exception of it leaves this module: they hold requests, and
requests hold keys.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from orca_plugins.teachers.openai.endpoint import Endpoint
from orca_plugins.teachers.openai.masking import Mask
from orca_recipes.errors import PluginError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# Apart from the time for an answer, which may be an hour: a host that is not there is known at once.
CONNECT_SECONDS = 10.0
# A reply is parsed in memory, and hundreds are in flight: a server gone wild must not take all of it.
MOST_REPLY_BYTES = 64_000_000
# The openai client cannot be made without a key.
_NO_KEY = "none"
# A server may say any number, a year too, and a run would sleep and look alive.
_LONGEST_PAUSE_SECONDS = 86_400.0
# The client then returns replies unparsed: building its objects takes longer than the exchange.
_RAW: Any = {"headers": {"X-Stainless-Raw-Response": "true"}}


@dataclass(frozen=True)
class Reply:
    """A server's reply. retry_after: seconds, where it asks for a pause."""

    status: int
    body: bytes
    request_id: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True)
class Broken:
    """No exchange, for a fault that nobody foresaw; its words may hold a request, and so a key.

    It stands here, since a process that runs `http_processes` would pickle a class of that module as one of __main__.
    """

    fault: str


@dataclass(frozen=True)
class NoReply:
    """No whole reply came. kind: "timeout", "cut connection", "no connection", "reply too large"."""

    kind: str
    detail: str = ""


class Wire(Protocol):
    """Sends the body of a chat completion to the endpoint of that number; token: for servers that know it again."""

    async def chat(self, endpoint: int, body: Mapping[str, Any], token: str = "") -> Reply | NoReply: ...


class ClientWire:
    """An openai client for each endpoint, in this process; to be used within `async with`."""

    def __init__(self, endpoints: Sequence[Endpoint], *, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self.clients = [client_of(endpoint, timeout_seconds) for endpoint in endpoints]
        self._masks = [Mask(endpoint.key()) for endpoint in endpoints]
        self._token_headers = [endpoint.idempotency_header for endpoint in endpoints]

    async def __aenter__(self) -> ClientWire:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            await client.close()

    async def chat(self, endpoint: int, body: Mapping[str, Any], token: str = "") -> Reply | NoReply:
        """Send the body of a chat completion, with a token where the endpoint takes one."""
        header = self._token_headers[endpoint]
        options: Any = _RAW if header is None or not token else {"headers": {**_RAW["headers"], header: token}}
        work = self.clients[endpoint].post("/chat/completions", cast_to=object, body=body, options=options)
        mask = self._masks[endpoint]
        sent = await attempt(work, mask=mask, timeout_seconds=self._timeout_seconds)
        return sent if isinstance(sent, (Reply, NoReply)) else _reply(sent.http_response, mask)


async def attempt(work: Awaitable[Any], *, mask: Mask, timeout_seconds: float) -> Any | Reply | NoReply:
    """Await a call of an openai client and return its result; in place of an exception, the Reply or NoReply behind
    it."""
    import aiohttp
    import openai

    try:
        async with asyncio.timeout(timeout_seconds):
            return await work
    except openai.APIStatusError as fault:
        return _reply(fault.response, mask)
    except openai.APIConnectionError as fault:
        return _no_reply(fault)
    except TimeoutError:
        return NoReply("timeout")
    except _TooLarge:
        return NoReply("reply too large")
    except (aiohttp.ClientError, OSError, openai.OpenAIError) as fault:
        return NoReply("cut connection", type(fault).__name__)


def needed() -> None:
    """Raise PluginError where the packages of the openai client are missing."""
    if find_spec("openai") is None or find_spec("aiohttp") is None:
        raise PluginError("teacher \"openai\" needs an extra package: pip install 'orca-recipes[openai]'")


def client_of(endpoint: Endpoint, timeout_seconds: float) -> AsyncOpenAI:
    """Make a client of the endpoint. Raises: PluginError where its packages are missing, TeacherError for a missing
    key."""
    needed()
    import openai

    key = endpoint.key()
    timeout = openai.Timeout(timeout_seconds, connect=CONNECT_SECONDS)
    http_client = openai.DefaultAioHttpClient(
        timeout=timeout,
        follow_redirects=False,
        limits=_limits(endpoint),
        event_hooks={"response": [_read_within_bounds]},
    )
    client = openai.AsyncOpenAI(
        api_key=key or _NO_KEY,
        base_url=endpoint.base_url,
        max_retries=0,
        timeout=timeout,
        http_client=http_client,
    )
    # The client takes these from OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS, and would tell them to
    # every endpoint (openai 1 to 3): nothing of the environment is sent but the key that the recipe names.
    client.organization = client.project = client.admin_api_key = None
    client._custom_headers = {}
    return client


def seconds_to_wait(headers: Mapping[str, str], *, now: float) -> float | None:
    """Read the seconds to wait from Retry-After and its kin, at most a day; None where they make no sense.

    Args:
        now: seconds since 1970, for dates.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name)
        seconds = None if text is None else _number(text, unit)
        if seconds is None and text is not None and unit == 1.0:
            seconds = _until(text, now)
        if seconds is not None and math.isfinite(seconds) and seconds >= 0:
            return min(seconds, _LONGEST_PAUSE_SECONDS)
    return None


def parsed(body: bytes) -> Any:
    """Parse the JSON of a reply. Raises: ValueError where it is none."""
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deep") from None


class _TooLarge(Exception):
    """A reply goes on beyond what is read of one."""


async def _read_within_bounds(response: Any) -> None:
    """Read a reply before the client does, which would read on for as long as the server sends. Raises: _TooLarge."""
    if response.status_code == 200 and response.request.url.path.endswith("/content"):
        return  # a file of results, which is read piece by piece
    held, size = [], 0
    async for chunk in response.aiter_bytes():
        held.append(chunk)
        size += len(chunk)
        if size > MOST_REPLY_BYTES:
            raise _TooLarge
    response._content = b"".join(held)  # where `aread` looks first (httpx 0.28, httpx2 2.16)


# --- what the client's objects and exceptions mean -------------------------------------------------------------------


def _limits(endpoint: Endpoint) -> Any:
    import openai

    limits = type(openai.DEFAULT_CONNECTION_LIMITS)
    return limits(max_connections=endpoint.concurrency + 8, max_keepalive_connections=endpoint.concurrency)


def _reply(response: Any, mask: Mask) -> Reply:
    headers = response.headers
    good = response.status_code == 200
    request_id = headers.get("x-request-id")
    body = mask.body(response.content, answer=good)
    request_id = request_id and mask.text(request_id)
    wait = None if good else seconds_to_wait(headers, now=time.time())
    return Reply(response.status_code, body, request_id, wait)


def _no_reply(fault: BaseException) -> NoReply:
    """Tell what cut an exchange short: the aiohttp transport calls a cut connection a timeout."""
    import aiohttp

    cause: BaseException | None = fault
    while cause is not None:
        if isinstance(cause, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
            return NoReply("no connection", type(cause).__name__)
        if isinstance(cause, (aiohttp.ServerTimeoutError, TimeoutError)):
            return NoReply("timeout")
        if isinstance(cause, (aiohttp.ClientError, OSError)):
            return NoReply("cut connection", type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    return NoReply("timeout" if "Timeout" in type(fault).__name__ else "cut connection")


def _number(text: str, unit: float) -> float | None:
    try:
        return float(text) * unit
    except ValueError:
        return None


def _until(text: str, now: float) -> float | None:
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
