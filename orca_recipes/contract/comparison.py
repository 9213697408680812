"""Filters that compare: a conversation is kept or rejected for what other conversations or other collections hold.

A comparison says by which numbers texts may meet (`sketch`) and how alike two that met are (`likeness`). The core lets
all rows meet, in parts of bounded size, so that neither parts nor workers decide what is found; of two conversations
that are too much alike the one whose example comes first in keyed order is kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, Self

from pydantic import Field

from orca_recipes.contract.kinds import Filter

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


@dataclass(frozen=True)
class Sketch:
    """Keys by which texts may meet, and a signature to estimate their likeness.

    keys: uint64 [n]; two rows meet where they share one. rows: uint32 [n], the row of each key.
    signature: uint16 [rows, m]; the share of equal numbers of two rows estimates how alike they are. None: no estimate.
    """

    keys: np.ndarray
    rows: np.ndarray
    signature: np.ndarray | None = None


class KnownKeys(Protocol):
    """The keys that others have."""

    def may_hold(self, keys: np.ndarray) -> np.ndarray:
        """Tell of each key whether some known one begins with the same `KNOWN_BITS` bits: bool [keys]."""

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Tell which keys are known: bool [keys]."""


KNOWN_BITS = 23
"""First bits of a key that `KnownKeys.may_hold` looks at: a table of 1 MiB, which a processor's cache holds."""


class Comparison(Filter, ABC):
    """Keeps or rejects conversations for what others hold.

    `texts` of all methods hold a question and an answer a row (String, never null): what the row's users say, under a
    system message of the row's own unless its whole collection shares that; and what is trained, or the reference
    answers.
    """

    action: Annotated[
        Literal["reject", "report"],
        Field(description="reject: what is found is rejected; report: it is kept, and told beside the build's rows"),
    ] = "reject"

    def collections(self) -> tuple[str, ...]:
        """Name the collections to compare with, row by row; they need not be part of the dataset."""
        return ()

    def mixtures(self) -> tuple[str, ...]:
        """Name the mixtures to compare with."""
        return ()

    def among_themselves(self) -> bool:
        """Tell whether the dataset's conversations are compared with each other too."""
        return True

    def reads_prompts(self) -> bool:
        """Tell whether a conversation's question is to hold all that users say in it, shots and a strategy's words too,
        and not only what its row asks."""
        return False

    def of_questions(self) -> Self | None:
        """Return the same comparison of questions alone, to run before answers are bought; None: it needs answers.

        Its `texts` have no answer on the dataset's side. What stays is compared once more when it is answered.
        """
        return None

    def least_estimate(self) -> float:
        """Return the least likeness of signatures; pairs of rows that met below it are passed by."""
        return 0.0

    def most_sharing(self) -> int | None:
        """Return the most rows, among those compared with, that may share a key before it counts for nothing; None: no
        limit."""
        return None

    @abstractmethod
    def sketch(self, *, texts: pl.DataFrame) -> Sketch:
        """Sketch the dataset's conversations: the keys by which they may meet others."""

    def sketch_near(self, *, texts: pl.DataFrame, known: KnownKeys) -> Sketch:
        """Sketch the dataset's conversations where only keys that others have count: those of `sketch` that are known.

        A kind that makes few keys of the first bits that are known needs not make the others.
        """
        sketch = self.sketch(texts=texts)
        held = known.holds(sketch.keys)
        return Sketch(sketch.keys[held], sketch.rows[held], sketch.signature)

    def sketch_others(self, *, texts: pl.DataFrame) -> Sketch:
        """Sketch rows of other collections and mixtures: the keys by which they may be met."""
        return self.sketch(texts=texts)

    @abstractmethod
    def likeness(self, *, mine: pl.DataFrame, theirs: pl.DataFrame, shared: np.ndarray) -> pl.Series:
        """Measure the likeness of each pair of rows that met.

        Args:
            shared: uint64, rising: the keys of `most_sharing`.
        Returns: Float64 [rows], null where they are not alike enough to be told.
        """

    @abstractmethod
    def reason(self, *, other: str | None) -> str:
        """Word the reason why a conversation is rejected.

        Args:
            other: the collection or mixture that holds its twin, None for the dataset.
        """

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        """Return None: no conversation is rejected for itself."""
        import polars as pl

        return pl.repeat(None, conversations.height, dtype=pl.String, eager=True)
