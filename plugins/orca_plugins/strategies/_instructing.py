"""Base of strategies that tell the teacher how to reason, in words hidden from the student.

The words follow the system message, so the question stays as it is and erasing the prompt removes them. They are data:
each kind has its own in `<kind>_words.toml`, and a recipe may give a table of them by task and category.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PrivateAttr, model_validator

from orca_recipes.contract.kinds import Place, Strategy
from orca_recipes.contract.messages import Turn, conversations_of, heading
from orca_recipes.contract.toml_text import toml_table

if TYPE_CHECKING:
    import polars as pl

_TABLES = ("tasks", "categories")


class Instructing(Strategy):
    """Put words of its own after the system message; train the student on question and answer."""

    instructs: ClassVar[bool] = True
    instructions: Annotated[
        Place | None,
        Field(description="TOML with [tasks] and [categories] (names or patterns to words) and default = words"),
    ] = None
    _table: Mapping[str, Any] = PrivateAttr(default={})

    @model_validator(mode="after")
    def _read_instructions(self) -> Instructing:
        if self.instructions is not None:
            self._table = _checked(_read(self.instructions), str(self.instructions))
        return self

    def identity(self) -> dict[str, Any]:
        """Extend the kind's identity by the words themselves, wherever they lie."""
        return {**super().identity(), "instructions": dict(self._table)}

    def columns(self) -> tuple[str, ...]:
        """List the columns by which words are chosen: task, category."""
        return tuple(word for table, word in zip(_TABLES, ("task", "category"), strict=True) if self._table.get(table))

    def ask(self, *, examples: pl.DataFrame) -> pl.Series:
        """Ask with system message and words, then the question. A row that brings a conversation has no question to
        ask."""
        import polars as pl

        told = examples.with_columns(self._words(examples).alias("words"))
        system = told.select(
            pl.concat_str(pl.lit(heading(told["system"])), "words", separator="\n\n", ignore_nulls=True).alias("system")
        )["system"]
        asked = conversations_of([Turn("system", heading(system)), Turn("user", examples["question"])])
        return pl.select(pl.when(examples["question"].is_not_null()).then(asked).alias("messages")).to_series()

    def teach(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        """Build the student's conversation: its system message, the question, and the answer, which alone is
        trained."""
        turns = [Turn("system", heading(examples["system"])), Turn("user", examples["question"])]
        return conversations_of([*turns, Turn("assistant", answers, trained=True)])

    def _words(self, examples: pl.DataFrame) -> pl.Series:
        """Choose the words for each example by its task, else its category, else the same for all."""
        import polars as pl

        default = str(self._table.get("default", _own_words(self.kind)))
        if not any(self._table.get(name) for name in _TABLES):
            return pl.Series([default]).new_from_index(0, examples.height)
        # Patterns are tried once for each pair of task and category: rows have few of them, and are many.
        distinct = examples.select("task", "category").unique(maintain_order=True)
        words = [self._chosen({"tasks": t, "categories": c}) or default for t, c in distinct.iter_rows()]
        table = distinct.with_columns(pl.Series("words", words, dtype=pl.String))
        on = ["task", "category"]
        # A join of polars keeps no order unless it is asked to, and null meets null only by nulls_equal.
        return examples.select(on).join(table, on=on, how="left", nulls_equal=True, maintain_order="left")["words"]

    def _chosen(self, names: Mapping[str, str | None]) -> str | None:
        for table, name in names.items():
            for pattern, words in self._table.get(table, {}).items():
                if name is not None and fnmatch.fnmatchcase(name, pattern):
                    return str(words)
        return None


def _read(path: Any) -> Mapping[str, Any]:
    try:
        return toml_table(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path}: it cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: it is not TOML ({error})") from error


def _checked(table: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Raises: ValueError where the table holds something else than words."""
    for name, value in table.items():
        if name not in (*_TABLES, "default"):
            raise ValueError(f"{where}: it holds {name!r}; it may hold [tasks], [categories] and default")
        words = value.values() if isinstance(value, dict) else [value]
        if isinstance(value, dict) == (name == "default") or not all(isinstance(one, str) and one for one in words):
            raise ValueError(f"{where}: {name} must be {'words' if name == 'default' else 'a table of words'}")
    if not table:
        raise ValueError(f"{where}: it holds no words")
    return table


@cache
def _own_words(kind: str) -> str:
    table = tomllib.loads((files("orca_plugins.strategies") / f"{kind}_words.toml").read_text(encoding="utf-8"))
    return str(table["words"]).strip()
