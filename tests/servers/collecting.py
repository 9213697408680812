"""What tests of collecting teachers share: questions, a panel that remembers, and one call that collects."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca_plugins.teachers.openai.kind import OpenAI
from orca_recipes.contract.answers import Answer, Budget, Collecting, Request, request_key
from orca_recipes.contract.kinds import Teacher


@dataclass
class Seen:
    """A panel that remembers what it was told."""

    asks: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    states: list[tuple[str, str]] = field(default_factory=list)
    limits: dict[str, dict[str, float | None]] = field(default_factory=dict)
    kept: list[Answer] = field(default_factory=list)

    def endpoint_limits(self, endpoint: str, **limits: float | None) -> None:
        self.limits[endpoint] = limits

    def endpoint_state(self, endpoint: str, state: str) -> None:
        self.states.append((endpoint, state))

    def asked(self, endpoint: str) -> None:
        self.asks[endpoint] += 1

    def answered(self, answer: Answer) -> None:
        self.kept.append(answer)

    def failed(self, endpoint: str, kind: str) -> None:
        self.failures[kind] += 1


@dataclass
class Collected:
    """What a collection gave: answers in the order in which they were kept, and what the panel saw."""

    answers: list[Answer] = field(default_factory=list)
    panel: Seen = field(default_factory=Seen)
    fault: BaseException | None = None

    @property
    def last(self) -> dict[bytes, Answer]:
        """The last answer to each key."""
        return {answer.key: answer for answer in self.answers}


def teacher(base_url: str | None = None, **options: Any) -> OpenAI:
    """A teacher as a recipe makes it; `base_url` and options of an endpoint make its one endpoint."""
    names = ("key_env", "concurrency", "requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")
    if base_url is not None:
        endpoint = {name: options.pop(name) for name in names if name in options}
        options["endpoints"] = [{"base_url": base_url, **endpoint}]
    return OpenAI.model_validate_json(json.dumps({"model": "m", "timeout_seconds": 5, **options}))


def requests_of(asked: Teacher, texts: Iterable[str]) -> list[Request]:
    """A request for each text, as the core makes them."""
    limit = asked.lengths().limits[0]
    return [
        Request(request_key(messages=(("user", text),), sampling=asked.sampling()), (("user", text),), 0, limit)
        for text in texts
    ]


async def stream(requests: Iterable[Request]) -> AsyncIterator[Request]:
    for request in requests:
        yield request


def collected(
    asked: Teacher,
    requests: Iterable[Request],
    *,
    budget: Budget | None = None,
    notes: Path | None = None,
    **hooks: Any,
) -> Collected:
    """Collect to the end; a fault that the teacher raises is kept beside the answers."""
    found = Collected()

    async def keep(answer: Answer) -> None:
        if "keep" in hooks:
            await hooks["keep"](answer)
        found.answers.append(answer)

    async def work() -> None:
        allowed = budget or Budget(asked.money().budget_usd)
        await asked.collect(Collecting(stream(requests), keep, found.panel, allowed, notes))

    try:
        asyncio.run(work())
    except Exception as fault:
        found.fault = fault
    return found


def contents(requests: Iterable[Request], asked: Teacher) -> list[Mapping[str, Any]]:
    """The bodies as they go out."""
    return [asked.as_sent(request=request) for request in requests]
