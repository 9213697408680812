"""Conversations that nearly repeat another, found by MinHash and bands, verified by their exact Jaccard similarity."""

from __future__ import annotations

import importlib.metadata
from array import array
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from orca_plugins.filters._words import jaccard, words
from orca_recipes.contract.comparison import Comparison, Sketch
from orca_recipes.contract.draws import splitmix64
from orca_recipes.errors import PluginError

if TYPE_CHECKING:
    import polars as pl

# Fixed, so that every build finds the same candidates.
_SEED = 42
_NUMBERS = 64
_BANDS, _OF_BAND = 21, 3
"""Bands of so many numbers each: two texts of Jaccard similarity 0.7 share one with probability 0.9998, of 0.5 with
0.94."""
_AT_ONCE = 64
"""Texts whose signatures are made at a time."""
_MARGIN = 0.25
"""Over four standard deviations of an estimate by 64 numbers at 0.7."""


class NearDuplicates(Comparison):
    """Reject conversations whose words nearly repeat another conversation's.

        filters = [{ kind = "near_duplicates", of = "question", ngram = 5, threshold = 0.7 }]

    Compared are the sets of all runs of `ngram` words, whatever their case and the white space between them; a text
    of fewer words is one run. Of two that are alike the one whose example comes first in keyed order stays, whichever
    collection it is of; rows of `against` always stay. Repeats of one row are left alone. Needs the extra `near`.
    """

    kind: Literal["near_duplicates"] = "near_duplicates"
    revision: ClassVar[int] = 3
    of: Annotated[
        Literal["question", "answer", "both"],
        Field(description="what is compared; both: question and answer as one text"),
    ] = "question"
    ngram: Annotated[int, Field(ge=1, le=50, description="words of a run")] = 5
    threshold: Annotated[
        float, Field(ge=0.5, le=1, description="the Jaccard similarity of two texts from which they are duplicates")
    ] = 0.7
    against: Annotated[
        tuple[str, ...], Field(description="other mixtures, none of whose rows may nearly stand in this dataset")
    ] = ()

    def identity(self) -> dict[str, Any]:
        """Extend the kind's identity by the version of rensa, which finds the candidates."""
        return {**super().identity(), "rensa": _version()}

    def mixtures(self) -> tuple[str, ...]:
        return self.against

    def of_questions(self) -> Self | None:
        return self if self.of == "question" and self.action == "reject" else None

    def least_estimate(self) -> float:
        return self.threshold - _MARGIN

    def sketch(self, *, texts: pl.DataFrame) -> Sketch:
        runs = words(self._text(texts), "spaced").runs(self.ngram)
        full = np.flatnonzero(np.diff(runs.starts)).astype(np.uint32)  # a text without a word meets nobody
        bounds = np.concatenate([[0], runs.starts[1:][full]]).astype(np.uint64)
        found = _digests(runs.numbers, bounds)
        bands = found[:, : _BANDS * _OF_BAND].reshape(-1, _BANDS, _OF_BAND).astype(np.uint64)
        keys = splitmix64(bands[:, :, 0] << np.uint64(32) | bands[:, :, 1])
        keys = splitmix64(keys ^ bands[:, :, 2] ^ np.arange(_BANDS, dtype=np.uint64) << np.uint64(32))
        signature = np.zeros((texts.height, _NUMBERS), dtype=np.uint16)
        signature[full] = found.astype(np.uint16)
        return Sketch(keys.reshape(-1), np.repeat(full, _BANDS), signature)

    def likeness(self, *, mine: pl.DataFrame, theirs: pl.DataFrame, shared: np.ndarray) -> pl.Series:
        import polars as pl

        texts = pl.concat([self._text(mine), self._text(theirs)]).alias("text").to_frame()
        different = texts.unique(maintain_order=True).with_row_index("number")
        number = texts.join(different, on="text", how="left", maintain_order="left")["number"].cast(pl.Int64).to_numpy()
        runs = words(different["text"], "spaced").runs(self.ngram)
        found = pl.Series(jaccard(runs, number[: mine.height], number[mine.height :]))
        return pl.select(pl.when(found >= self.threshold).then(found)).to_series()

    def reason(self, *, other: str | None) -> str:
        return f"nearly the same {self._what()} stands in {other or 'the dataset'}"

    def _what(self) -> str:
        return "question and answer" if self.of == "both" else self.of

    def _text(self, texts: pl.DataFrame) -> pl.Series:
        import polars as pl

        if self.of != "both":
            return texts[self.of]
        return texts.select(pl.concat_str("question", pl.lit("\n"), "answer"))["question"]


def _digests(numbers: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return uint32 [texts, 64]: the signatures of texts, some at a time.

    rensa 0.5.0 gives them out as Python's numbers alone: few at a time stay in the cache and wake no garbage collector.
    """
    import rensa

    found = np.empty((len(bounds) - 1, _NUMBERS), dtype=np.uint32)
    for start in range(0, len(found), _AT_ONCE):
        mine = bounds[start : start + _AT_ONCE + 1]
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            numbers[int(mine[0]) : int(mine[-1])], mine - mine[0], num_perm=_NUMBERS, seed=_SEED
        )
        made = array("I")
        for row in matrix.to_rows():
            made.fromlist(row)
        found[start : start + _AT_ONCE] = np.frombuffer(made, dtype=np.uint32).reshape(-1, _NUMBERS)
    return found


def _version() -> str:
    try:
        return importlib.metadata.version("rensa")
    except importlib.metadata.PackageNotFoundError as error:
        raise PluginError(
            "filter \"near_duplicates\" needs an extra package: pip install 'orca-recipes[near]'"
        ) from error
