"""Base of teachers that chat with a model: the options of sampling, and the length of an answer.

Options that decide an answer are part of a request's key. Unset ones are left out of it, so an option added later
changes no key.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from orca_plugins.teachers.openai.endpoint import begins_like_key
from orca_recipes.contract.answers import Lengths, Money, Prices, Request
from orca_recipes.contract.kinds import Teacher

_LONGER = 2
# A model that never stops would be paid for again and again: sixteen times the tokens are the end.
_TIMES = 4


class ChatTeacher(Teacher, ABC):
    """A teacher that is sent messages and sends a message back."""

    collects: ClassVar[bool] = True
    tells_sendings: ClassVar[bool] = True

    temperature: Annotated[float | None, Field(ge=0, description="0 is greedy; unset, the server's default")] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, description="nucleus sampling")] = None
    max_tokens: Annotated[int | None, Field(gt=0, description="most tokens of an answer")] = None
    seed: Annotated[int | None, Field(description="sent to the server, plus the number of the sample")] = None
    stop: Annotated[tuple[str, ...] | None, Field(min_length=1, description="texts that end an answer")] = None
    extra_body: Annotated[
        Mapping[str, JsonValue], Field(description="what else the server is sent with each question, as it is")
    ] = {}
    on_length: Annotated[
        Literal["reject", "keep", "ask_again"],
        Field(description="an answer cut at max_tokens: reject it, keep it unfinished, or ask again for more tokens"),
    ] = "reject"
    empty_retries: Annotated[
        int, Field(ge=0, le=8, description="how often a run asks again where the reply is empty")
    ] = 1
    leave_out: Annotated[
        tuple[Literal["reasoning", "tool_calls"], ...],
        Field(description="what of answers stays in their traces and is no part of conversations"),
    ] = ()
    prices: Annotated[Prices | None, Field(description="USD per million tokens; unset, the cost is not known")] = None
    budget_usd: Annotated[float | None, Field(gt=0, description="the run stops before it spends more")] = None

    @model_validator(mode="after")
    def _options_fit_together(self) -> ChatTeacher:
        for name in sorted(set(self.extra_body) & {*_OWN_NAMES, self.limit_name()}):
            raise ValueError(f"extra_body.{name} is set by this teacher itself; use its options")
        if any(map(begins_like_key, _texts(dict(self.extra_body)))):
            raise ValueError(
                "extra_body holds what looks like a key; keys come from key_env, and must stand in no recipe (one that "
                "did is to be replaced)"
            )
        if self.on_length == "ask_again" and self.max_tokens is None:
            raise ValueError('on_length = "ask_again" needs max_tokens, which it raises')
        if self.budget_usd is not None and (self.prices is None or self.max_tokens is None):
            raise ValueError("budget_usd needs prices and max_tokens, or nobody knows what a question can cost")
        return self

    def identity(self) -> dict[str, Any]:
        """Identify the teacher by the options that decide answers; not by where and how they are fetched, nor by their
        cost."""
        decisive = super().identity()
        silent = self.only_fetching() | (frozenset() if self.leave_out else {"leave_out"})
        return {name: value for name, value in decisive.items() if name not in silent}

    def only_fetching(self) -> frozenset[str]:
        """Return names of the options that decide no answer."""
        return frozenset({"prices", "budget_usd", "empty_retries"})

    @abstractmethod
    def model_name(self) -> str:
        """Return the model's name, as the server is asked for it."""

    def limit_name(self) -> str:
        """Return the server's name of max_tokens."""
        return "max_tokens"

    def sampling(self) -> Mapping[str, Any]:
        """Return the model and the options that were set, without max_tokens."""
        options: dict[str, Any] = {"model": self.model_name()}
        options |= {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}
        options["stop"] = None if self.stop is None else list(self.stop)
        options["extra_body"] = dict(self.extra_body) or None
        return {name: value for name, value in options.items() if value is not None}

    def lengths(self) -> Lengths:
        """Return the limits of an answer: max_tokens, and with `ask_again` four doublings of it for answers that were
        cut."""
        if self.on_length != "ask_again" or self.max_tokens is None:
            return Lengths(limits=(self.max_tokens,), keep_cut=self.on_length == "keep")
        return Lengths(limits=tuple(self.max_tokens * _LONGER**times for times in range(_TIMES + 1)))

    def left_out(self) -> frozenset[str]:
        """Return the fields left out by the recipe."""
        return frozenset(self.leave_out)

    def most_empty_retries(self) -> int:
        """Return how often a run asks again after an empty reply, as the recipe says."""
        return self.empty_retries

    def money(self) -> Money:
        return Money(prices=self.prices, budget_usd=self.budget_usd)

    def as_sent(self, *, request: Request) -> Mapping[str, Any]:
        """Build the body of a request as it goes out."""
        chosen = dict(self.sampling())
        more = chosen.pop("extra_body", {})
        if self.seed is not None:
            # Else all samples of a question would get the same answer.
            chosen["seed"] = self.seed + request.sample
        if request.max_tokens is not None:
            chosen[self.limit_name()] = request.max_tokens
        tools = {} if request.tools is None else {"tools": json.loads(request.tools)}
        return {**chosen, "messages": request.sent_messages(), **tools, **more}


def _texts(value: JsonValue) -> Iterator[str]:
    """Yield the texts within a value of JSON, keys of objects too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)


# Set by this teacher: extra_body may not overwrite them.
_OWN_NAMES = {"model", "messages", "temperature", "top_p", "max_tokens", "seed", "stop", "n", "stream"}
