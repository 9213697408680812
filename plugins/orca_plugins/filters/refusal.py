"""Answers that refuse the question, told by how they begin."""

from __future__ import annotations

import hashlib
import tomllib
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from orca_plugins.filters._answers import AnswerFilter

if TYPE_CHECKING:
    import polars as pl

_FILE = "refusals.toml"


class Refusal(AnswerFilter):
    """Reject answers that begin by refusing the question, in English, whoever the teacher is.

        [[datasets.main.filters]]
        kind = "refusal"

    Each answer that a conversation trains is looked at; with `action = "untrain"` one that is found stays as context.
    The patterns are a data file of this package
    (`refusals.toml`), whose digest is part of the recipe's plan.
    """

    kind: Literal["refusal"] = "refusal"
    revision: ClassVar[int] = 2
    opening_chars: Annotated[int, Field(gt=0, description="characters of an answer that are looked at")] = 300

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "patterns": hashlib.blake2b(_data(), digest_size=16).hexdigest()}

    def reason(self) -> str:
        return "it refuses the question"

    def found(self, *, told: pl.DataFrame) -> pl.Series:
        # Teachers also write the typographic apostrophe; the patterns have the plain one.
        opening = told["answer"].str.slice(0, self.opening_chars).str.replace_all("\u2019", "'", literal=True)
        return opening.str.contains(_pattern())


@lru_cache(maxsize=1)
def _pattern() -> str:
    """Join the patterns of `refusals.toml` into one regular expression that ignores case."""
    patterns = tomllib.loads(_data().decode())["patterns"]
    return "(?i)" + "|".join(f"(?:{pattern})" for pattern in patterns)


@lru_cache(maxsize=1)
def _data() -> bytes:
    return resources.files(__package__).joinpath(_FILE).read_bytes()
