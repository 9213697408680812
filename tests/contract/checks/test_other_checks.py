"""The checks of teachers, templates, tokenizers, writers and engines: built-in kinds pass, broken ones are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from orca_plugins.engines.local import Local
from orca_plugins.teachers.reference import Reference
from orca_plugins.templates.chatml import ChatML
from orca_plugins.tokenizers.hf.kind import HF
from orca_plugins.writers.megatron import Megatron
from orca_recipes.contract.checks.other_checks import (
    check_engine,
    check_teacher,
    check_template,
    check_tokenizer,
    check_writer,
)
from orca_recipes.contract.checks.promises import example_kinds

TOKENIZER = Path(__file__).parents[3] / "recipes" / "quickstart" / "tokenizer.json"


def test_built_in_kinds_keep_their_promises(tmp_path: Path) -> None:
    check_teacher(Reference())
    check_template(ChatML(default_system="Be kind."))
    check_engine(Local())
    (tmp_path / "tokenizer").mkdir()
    check_tokenizer(HF(path=TOKENIZER), tmp_path / "tokenizer")
    (tmp_path / "writer").mkdir()
    check_writer(Megatron(), tmp_path / "writer")


class Counting(Reference):
    """Answer by how many rows come together.

    [teachers.own]
    kind = "counting"
    """

    kind: Literal["counting"] = "counting"

    def answer(self, *, examples: Any, requests: Any, seed: int) -> Any:
        import polars as pl

        found = super().answer(examples=examples, requests=requests, seed=seed)
        return found.with_columns(answer=pl.lit(str(len(examples))), reason=pl.lit(None, pl.String))


class Forgetting(Local):
    """Lose the last task.

    [engine]
    kind = "forgetting"
    """

    kind: Literal["forgetting"] = "forgetting"

    def map(self, *, function: Any, tasks: Any, workers: int) -> Iterator[tuple[int, Any]]:
        yield from super().map(function=function, tasks=tasks[:-1], workers=1)


class Otherwise(ChatML):
    """Ship jinja text that prints something else.

    [template]
    kind = "otherwise"
    """

    kind: Literal["otherwise"] = "otherwise"

    def markup(self, *, vocabulary: Any) -> Any:
        from dataclasses import replace

        return replace(super().markup(vocabulary=vocabulary), chat_template="{{ messages[0]['content'] }}")


def test_kinds_that_break_a_promise_are_told_which() -> None:
    with pytest.raises(AssertionError, match="answer depends on which rows come together"):
        check_teacher(Counting())
    with pytest.raises(AssertionError, match="map answers"):
        check_engine(Forgetting())
    with pytest.raises(AssertionError, match=r"joints print .* and jinja"):
        check_template(Otherwise())


def test_the_examples_of_docstrings_begin_where_they_are_asked_to(tmp_path: Path) -> None:
    (kind,) = example_kinds(HF, tmp_path)
    assert isinstance(kind, HF)
    assert kind.path == tmp_path / "tokenizer"
