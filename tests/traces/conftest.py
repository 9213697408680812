"""Traces made up for tests, and a store of their own."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orca_recipes.contract.answers import Answer
from orca_recipes.traces.trace_lines import Question, Trace
from orca_recipes.traces.trace_store import TraceStore

MakeTrace = Callable[..., Trace]


@pytest.fixture
def trace() -> MakeTrace:
    """Makes a finished answer to a question; words name fields of the answer."""

    def make(question: str = "Why?", **words) -> Trace:
        asked = Question((("system", "Be kind."), ("user", question)), {"model": "m", "temperature": 0.5}, 0)
        answer = Answer(
            key=asked.key(),
            text="Because.",
            finish_reason="stop",
            reason=None,
            input_tokens=7,
            cached_input_tokens=0,
            output_tokens=3,
            model_asked="m",
            model_reported="m",
            endpoint="here",
            time=1_700_000_000.25,
            request_id="r-1",
            max_tokens=10,
        )
        return Trace(replace(answer, **words), asked)

    return make


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TraceStore]:
    with TraceStore(tmp_path / "traces", index=tmp_path / "index.sqlite") as store:
        yield store
