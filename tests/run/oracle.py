"""A teacher that answers out of its head and writes down what it was asked."""

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from orca_recipes.contract.answers import Answer, Collecting, Lengths, Money, Prices, Request
from orca_recipes.contract.hooks import hookimpl
from orca_recipes.contract.kinds import Place, Teacher
from orca_recipes.errors import TeacherError


class Oracle(Teacher):
    """Answers "It is N words." after the words of the question, one token a word.

    [teachers.oracle]
    kind = "oracle"
    asked = "asked.jsonl"
    """

    kind: Literal["oracle"] = "oracle"
    collects: ClassVar[bool] = True
    asked: Annotated[Place, Field(description="where it writes down what it was asked")]
    model: Annotated[str, Field(description="its name")] = "oracle-1"
    max_tokens: Annotated[int | None, Field(description="the longest answer")] = None
    on_length: Annotated[Literal["reject", "keep", "ask_again"], Field(description="what of cut answers")] = "reject"
    stops_after: Annotated[int | None, Field(description="refuses its key after so many answers")] = None
    refuses: Annotated[str, Field(description="questions that hold this are rejected")] = "\0"
    prices: Annotated[Prices | None, Field(description="prices")] = None
    budget_usd: Annotated[float | None, Field(description="budget")] = None
    at_a_time: Annotated[int, Field(description="requests in flight")] = 8

    def identity(self) -> dict[str, Any]:
        apart = {"stops_after", "prices", "budget_usd", "at_a_time"}
        return {name: value for name, value in super().identity().items() if name not in apart}

    def sampling(self) -> Mapping[str, Any]:
        return {"model": self.model}

    def lengths(self) -> Lengths:
        if self.on_length == "ask_again" and self.max_tokens is not None:
            return Lengths((self.max_tokens, self.max_tokens * 4), keep_cut=False)
        return Lengths((self.max_tokens,), keep_cut=self.on_length == "keep")

    def money(self) -> Money:
        return Money(self.prices, self.budget_usd)

    async def collect(self, collecting: Collecting) -> None:
        answered = 0

        async def work() -> None:
            nonlocal answered
            while True:
                async with turn:
                    request = await anext(collecting.requests, None)
                if request is None:
                    return
                if self.stops_after is not None and answered >= self.stops_after:
                    raise TeacherError("teachers.oracle: the key is refused")
                answered += 1
                for limit in self.lengths().limits[self.lengths().limits.index(request.max_tokens) :]:
                    most = 0.0 if self.prices is None else self.prices.cost(input_tokens=100, output_tokens=100)
                    await collecting.budget.reserve(most)
                    collecting.panel.asked("head")
                    await asyncio.sleep(0)
                    answer = self.answer_to(request, limit)
                    cost = 0.0 if self.prices is None else self.prices.cost_of(answer) or 0.0
                    await collecting.budget.settle(most, cost)
                    await collecting.keep(answer)
                    collecting.panel.answered(answer)
                    if answer.finish_reason != "length":
                        break

        turn = asyncio.Lock()
        async with asyncio.TaskGroup() as group:
            for _ in range(self.at_a_time):
                group.create_task(work())

    def answer_to(self, request: Request, max_tokens: int | None) -> Answer:
        """What it answers; it writes the question down first."""
        with self.asked.open("a") as file:
            line = {"key": request.key.hex(), "max_tokens": max_tokens, "messages": request.messages}
            file.write(json.dumps({**line, "sample": request.sample}) + "\n")
        question = request.messages[-1][1]
        number = int(hashlib.sha256(request.key).hexdigest()[:6], 16) % 20
        words = ["It", "is", str(len(question.split())), "words.", *["Well"] * number, f"({request.sample})"]
        cut = max_tokens is not None and len(words) > max_tokens
        refused = self.refuses in question
        return Answer(
            key=request.key,
            text=None if refused else " ".join(words[:max_tokens]),
            finish_reason="content_filter" if refused else "length" if cut else "stop",
            reason="content filter" if refused else None,
            input_tokens=len(question.split()),
            cached_input_tokens=0,
            output_tokens=len(words[:max_tokens]),
            model_asked=self.model,
            model_reported=self.model,
            endpoint="head",
            time=time.time(),
            request_id=None,
            max_tokens=max_tokens,
        )


class Delphi:
    """The plugin that offers it."""

    @hookimpl
    def orca_teachers(self) -> dict[str, str]:
        return {"oracle": f"{__name__}:Oracle"}


def was_asked(path: Path) -> list[dict[str, Any]]:
    """All that an oracle wrote down."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
