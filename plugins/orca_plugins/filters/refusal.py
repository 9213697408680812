"""Answers that refuse the question, told by how they begin."""

from __future__ import annotations

import hashlib
import tomllib
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from orca_plugins.filters._exchanges import exchanges, reasons_of
from orca_recipes.contract.kinds import Filter

if TYPE_CHECKING:
    import polars as pl

_FILE = "refusals.toml"


class Refusal(Filter):
    """Reject answers that begin by refusing the question, in English, whoever the teacher is.

        [[datasets.main.filters]]
        kind = "refusal"

    Each answer that a conversation trains is looked at. The patterns are a data file of this package
    (`refusals.toml`), whose digest is part of the recipe's plan.
    """

    kind: Literal["refusal"] = "refusal"
    revision: ClassVar[int] = 2
    opening_chars: Annotated[int, Field(gt=0, description="characters of an answer that are looked at")] = 300

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "patterns": hashlib.blake2b(_data(), digest_size=16).hexdigest()}

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        # Teachers also write the typographic apostrophe; the patterns have the plain one.
        told = exchanges(conversations)
        opening = told["answer"].str.slice(0, self.opening_chars).str.replace_all("\u2019", "'", literal=True)
        refused = opening.str.contains(_pattern())
        return reasons_of(refused, told["row"], conversations.height, "it refuses the question")


@lru_cache(maxsize=1)
def _pattern() -> str:
    """Join the patterns of `refusals.toml` into one regular expression that ignores case."""
    patterns = tomllib.loads(_data().decode())["patterns"]
    return "(?i)" + "|".join(f"(?:{pattern})" for pattern in patterns)


@lru_cache(maxsize=1)
def _data() -> bytes:
    return resources.files(__package__).joinpath(_FILE).read_bytes()
