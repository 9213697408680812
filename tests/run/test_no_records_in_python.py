"""No Python runs for each record: calls grow with parts and stages, not with rows."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from tests.run.chats import built, recipe_of

SIZES = (2_000, 8_000)
LESS_THAN_A_TENTH = 0.1
"""Calls for each further row; what is drawn by key (one row in 512 is held against the reference) varies a little."""


def chat(number: int) -> str:
    messages = [
        {"role": "user", "content": f"What is {number} + {number * 7}?"},
        {"role": "assistant", "content": f"It is {number * 8}."},
    ]
    return json.dumps({"messages": messages})


def calls_of(work: Callable[[], object]) -> int:
    """How many Python functions, generators and comprehensions were entered meanwhile."""
    count = 0

    def heard(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(heard)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def made(path: Path) -> None:
    built(path, store=path.parent / "store", out=path.parent / "out")


def proven(path: Path) -> None:
    report = prove(path.parent / "out", kinds=Catalogue(), sample=None, progress=Progress())
    assert not report.findings
    assert report.checked["texts"]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Recipes over few and over many rows; what is imported and loaded once is there already."""
    folder = tmp_path_factory.mktemp("sizes")
    first = recipe_of(folder / "first", map(chat, range(600)))
    made(first)
    proven(first)
    return [recipe_of(folder / str(size), map(chat, range(size))) for size in SIZES]


def a_row(calls: list[int]) -> float:
    return (calls[1] - calls[0]) / (SIZES[1] - SIZES[0])


def test_neither_building_nor_verifying_calls_python_for_each_row(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("prove.prove", "run.renderers.prompt_trial"):
        monkeypatch.setattr(f"orca_recipes.{module}.PROMPTS_CHECKED", 0)  # each of these is looked at by itself
    assert a_row([calls_of(lambda path=path: made(path)) for path in paths]) < LESS_THAN_A_TENTH
    assert a_row([calls_of(lambda path=path: proven(path)) for path in paths]) < LESS_THAN_A_TENTH


def test_the_counting_sees_a_function_called_for_each_row() -> None:
    assert a_row([calls_of(lambda size=size: sorted(range(size), key=lambda n: n)) for size in SIZES]) >= 1
