"""Bought answers: the requests handed to a teacher's model, and the replies taken back.

A teacher sends requests and keeps answers; it never sees recipes, examples or files. An answer counts as bought when
`keep` returns, because then it is on the disk: a teacher that is killed later has lost nothing that it counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from orca_recipes.contract.tool_calls import calls_as_sent
from orca_recipes.errors import BudgetSpent

CUT = "length"
"""The finish reason of an answer that its limit of tokens cut off."""

EMPTY = "empty"
"""The reason of a reply that holds no text and no tool call: no answer, and asked again."""

_EMPTY_BEFORE = "empty answer"
_NO_CONTENT_BEFORE = "null content"


@dataclass(frozen=True)
class Request:
    """One question as it is sent.

    Attributes:
        key: 32 bytes, `request_key` of the other fields but max_tokens.
        messages: (role, content), oldest first.
        sample: which of several answers to the same messages this one asks for; a teacher that sends a seed adds it.
        max_tokens: the limit to ask under, one of the teacher's `Lengths.limits`; a later one where an answer under the
            one before is kept already and was cut.
        beside: what messages hold beside role and content, one for each message or none at all: canonical JSON of a
            table of tool_calls, tool_call_id and name, null where a message has none of them.
        tools: what the model may call, canonical JSON of OpenAI's list of tools; null for none.
    """

    key: bytes
    messages: tuple[tuple[str, str], ...]
    sample: int = 0
    max_tokens: int | None = None
    beside: tuple[str | None, ...] = ()
    tools: str | None = None

    def sent_messages(self) -> list[dict[str, Any]]:
        """Return the messages in the form of OpenAI's servers."""
        beside = self.beside or (None,) * len(self.messages)
        return [_sent(*message, more) for message, more in zip(self.messages, beside, strict=True)]

    def bytes_beside(self) -> int:
        """Count the bytes of the tools and of everything its messages hold beside content."""
        return sum(len(text.encode("utf-8", "replace")) for text in (*self.beside, self.tools) if text is not None)


@dataclass(frozen=True)
class Answer:
    """One finished exchange, or a rejection.

    Attributes:
        text: null exactly where there is a reason.
        finish_reason: "stop", "length" (cut by max_tokens), or the server's own word.
        reason: why there is no answer and asking again would give none ("content filter", "context too long").
        input_tokens, cached_input_tokens, output_tokens: as the server counted; null where it did not say.
        model_asked, model_reported: differ where a server answers with another model than it was asked for.
        endpoint: the recipe's name of it. time: seconds since 1970. request_id: the server's.
        max_tokens: the limit under which it was made, null for none.
        reasoning: what was thought before the text, where the server tells it apart.
        tool_calls: `tool_calls.calls_told` of what it calls; its text may then be "".
    """

    key: bytes
    text: str | None
    finish_reason: str
    reason: str | None
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    model_asked: str
    model_reported: str | None
    endpoint: str
    time: float
    request_id: str | None
    max_tokens: int | None
    reasoning: str | None = None
    tool_calls: str | None = None

    @property
    def is_empty(self) -> bool:
        """Tell whether a reply has neither text nor tool call, also under the reasons that older traces gave it."""
        if self.reason is not None:
            return self.reason in (EMPTY, _EMPTY_BEFORE) or self.finish_reason == _NO_CONTENT_BEFORE
        return self.finish_reason != CUT and self.tool_calls is None and not (self.text or "").strip()

    def as_kept(self) -> Answer:
        """Return the answer as it is stored: one without text becomes a rejection."""
        if self.reason is not None or not self.is_empty:
            return self
        return replace(self, text=None, finish_reason=EMPTY, reason=EMPTY)

    def serves(self, max_tokens: int | None) -> bool:
        """Tell whether the answer also serves a request under this limit: a finished one if the limit is not below its
        length, a cut one or a rejection only under its own limit."""
        if self.reason is not None or self.finish_reason == CUT:
            return self.max_tokens == max_tokens
        return is_within(max_tokens, output_tokens=self.output_tokens, made_under=self.max_tokens)


def is_within(max_tokens: int | None, *, output_tokens: int | None, made_under: int | None) -> bool:
    """Tell whether a finished answer surely fits into max_tokens: by its length, else by the limit it was made
    under."""
    if max_tokens is None or made_under == max_tokens:
        return True
    bounds = [bound for bound in (output_tokens, made_under) if bound is not None]
    return bool(bounds) and min(bounds) <= max_tokens


@dataclass(frozen=True)
class Lengths:
    """Limits of tokens for a teacher's answers.

    Attributes:
        limits: `max_tokens` in the order in which they are tried: an answer that one cuts is asked again under the next
            (`on_length = "ask_again"`); null is no limit.
        keep_cut: whether an answer that the last limit cuts is kept, as an unfinished one, or rejected.
    """

    limits: tuple[int | None, ...] = (None,)
    keep_cut: bool = False


class Prices(BaseModel):
    """A model's prices in USD for a million tokens; `prices = { input = 0.5, output = 1.5 }` in a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    input: Annotated[float, Field(ge=0, description="USD for a million tokens of questions")]
    cached_input: Annotated[float | None, Field(ge=0, description="of those, what the server had cached")] = None
    output: Annotated[float, Field(ge=0, description="USD for a million tokens of answers")]
    batch_discount: Annotated[float, Field(ge=0, le=1, description="share that batches are cheaper by (0.5)")] = 0.0

    def cost(self, *, input_tokens: float, output_tokens: float, cached: float = 0, batch: bool = False) -> float:
        """Compute the USD of so many tokens; cached: those of the input tokens that the server had cached."""
        kept = self.input if self.cached_input is None else self.cached_input
        whole = (input_tokens - cached) * self.input + cached * kept + output_tokens * self.output
        return whole / 1e6 * (1 - self.batch_discount if batch else 1)

    def cost_of(self, answer: Answer, *, batch: bool = False) -> float | None:
        """Compute the USD of an answer, None where its server did not count."""
        if answer.input_tokens is None or answer.output_tokens is None:
            return None
        cached = min(answer.cached_input_tokens or 0, answer.input_tokens)
        tokens = {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens}
        return self.cost(**tokens, cached=cached, batch=batch)


@dataclass(frozen=True)
class Money:
    """A teacher's prices (null if the recipe gives none) and budget in USD; `batch`: the batch discount applies."""

    prices: Prices | None = None
    budget_usd: float | None = None
    batch: bool = False


class Budget:
    """A hard spending limit in USD that counts requests in flight.

    A teacher reserves the most that a request can cost before it sends it, and settles it with what it did cost. Where
    a reservation does not fit, it waits for those in flight, which mostly cost less than was reserved.
    """

    def __init__(self, limit_usd: float | None = None, *, spent_usd: float = 0.0) -> None:
        """limit_usd: None for no limit. spent_usd: what was spent already."""
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self.reserved_usd = 0.0
        self._in_flight = 0
        self._settled = asyncio.Condition()

    async def reserve(self, usd: float) -> None:
        """Put an amount aside; wait where only what is in flight could make room for it.

        Raises: BudgetSpent where it does not fit and nothing is in flight.
        """
        async with self._settled:
            while not self._fits(usd):
                if not self._in_flight:
                    raise BudgetSpent(
                        f"budget_usd = {self.limit_usd:g} is reached: {self.spent_usd:.2f} USD are spent, and the next "
                        f"question can cost {usd:.4f}; all answers are kept: raise budget_usd and run the same command "
                        "again"
                    )
                await self._settled.wait()
            self.reserved_usd += usd
            self._in_flight += 1

    async def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """Release a reservation, and add the cost of the request (0 where it was not answered)."""
        async with self._settled:
            self.reserved_usd = max(self.reserved_usd - reserved_usd, 0.0)
            self.spent_usd += spent_usd
            self._in_flight -= 1
            self._settled.notify_all()

    def _fits(self, usd: float) -> bool:
        return self.limit_usd is None or self.spent_usd + self.reserved_usd + usd <= self.limit_usd


class CollectPanel(Protocol):
    """Progress reports of a collecting teacher; endpoints go by the recipe's names of them."""

    def endpoint_limits(
        self,
        endpoint: str,
        *,
        requests_per_minute: float | None,
        input_tokens_per_minute: float | None,
        output_tokens_per_minute: float | None,
    ) -> None:
        """Report the limits of an endpoint, once."""

    def endpoint_state(self, endpoint: str, state: str) -> None:
        """Report the state of an endpoint ("open", "resting 12 s: 503"), in a few words."""

    def asked(self, endpoint: str) -> None:
        """Report that a request goes out (each try counts)."""

    def answered(self, answer: Answer) -> None:
        """Report an answer, once it is on the disk."""

    def failed(self, endpoint: str, kind: str) -> None:
        """Report a failed try that will be repeated; kind groups well ("429", "timeout", "cut connection")."""


class Sendings(Protocol):
    """Records each request before it is sent, for teachers with `tells_sendings`: a kill then loses none unnoticed."""

    def begin(self, request: Request, endpoint: str, *, once: bool = False) -> str:
        """Write down that a request goes out now, each time; call it before the first byte goes.

        Args:
            once: whether the endpoint answers one token once, however often it is sent (idempotency keys).
        Returns: a token to send along: the same as before where nothing came back of the last sending to this endpoint.
        """

    def refused(self, request: Request) -> None:
        """Record the server's word that it did not answer the last sending, and bills nothing."""


@dataclass(frozen=True)
class Collecting:
    """Requests, answer store, progress panel and budget, handed to a teacher that collects.

    requests: may be millions and may make one wait: take no more than are in flight.
    keep: returns when the answer is on the disk, so call it from as many tasks as there are answers at a time; what it
        raises ends the collection. An answer that was cut is kept too, before it is asked again.
    panel: is told what goes on. budget: reserve from it before asking.
    notes: a folder that is kept from run to run, for what must outlive this one (the ids of batches that are waited
        for).
    sendings: is told what goes out, by teachers that say so.
    """

    requests: AsyncIterator[Request]
    keep: Callable[[Answer], Awaitable[None]]
    panel: CollectPanel
    budget: Budget
    notes: Path | None = None
    sendings: Sendings | None = None


def request_key(
    *,
    messages: Sequence[tuple[str, str]],
    sampling: Mapping[str, Any],
    sample: int = 0,
    beside: Sequence[str | None] = (),
    tools: str | None = None,
) -> bytes:
    """Digest a request to its identity: BLAKE2b-256 over its messages, the model with its sampling options, and the
    sample.

    Not of endpoint, recipe, collection, order or max_tokens.

    Args:
        sampling: `Teacher.sampling()`, JSON values. beside, tools: as of `Request`; no part of the key where nothing
            is there.
    """
    identity: list[Any] = [[list(message) for message in messages], dict(sampling), sample]
    if tools is not None or any(beside):
        identity.append({"beside": list(beside), "tools": tools})
    # Canonical JSON: a changed byte here would buy every stored answer again.
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # surrogatepass: a lone surrogate, which JSON may hold, is no UTF-8 and would raise here.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32, person=b"orca request").digest()


def _sent(role: str, content: str, beside: str | None) -> dict[str, Any]:
    more = {} if beside is None else json.loads(beside)
    if "tool_calls" in more:
        more["tool_calls"] = calls_as_sent(more["tool_calls"])
    return {"role": role, "content": content, **more}
