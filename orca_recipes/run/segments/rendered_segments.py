"""The result of rendering: tokens of conversations in their order, with their segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.run.segments.items import Items
from orca_recipes.run.segments.template_pieces import CONTROL
from orca_recipes.run.segments.text_runs import Runs
from orca_recipes.run.segments.token_rows import Encoded
from orca_recipes.shards.layout import segment_modes

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Held:
    """Examples that hold a certain text: anywhere, bool [examples], and in how many answers, int64 [examples]."""

    anywhere: np.ndarray
    answers: np.ndarray

    @classmethod
    def of(cls, owners: np.ndarray, trained: np.ndarray, examples: int) -> Held:
        """owners: the example of each text that was found, trained: whether it is part of a trained answer."""
        counts = np.bincount(owners, minlength=examples)
        return cls(counts > 0, np.bincount(owners[trained], minlength=examples))

    def counts(self) -> dict[str, int]:
        """Count the examples with it anywhere, and the answers that hold it."""
        return {"examples": int(self.anywhere.sum()), "answers": int(self.answers.sum())}


@dataclass(frozen=True)
class Rendered:
    """The tokens of a part's conversations, in their order.

    Args:
        tokens: uint16 or int32 [tokens], as shards store them. example_starts: int64 [examples + 1] into tokens.
        segment_lengths: int32 [segments], segment_modes: int8 [segments], segment_starts: int64 [examples + 1].
        trained_tokens: int32 [examples], the sum of the loss mask.
        trained_texts: large_binary [examples], the text of each example's trained tokens but its control tokens, as the
            tokenizer keeps it.
        reasons: why a conversation gave no tokens, by position; such an example has no segments.
        disagreeing: positions of checked examples where the fast tokenizer is not the reference.
        unspelt: text that the vocabulary cannot spell. changed: text that the tokenizer's normalizer makes another of.
        marked: bool [examples], whose text holds what the template itself may print or look for.
    """

    tokens: np.ndarray
    example_starts: np.ndarray
    segment_lengths: np.ndarray
    segment_modes: np.ndarray
    segment_starts: np.ndarray
    trained_tokens: np.ndarray
    trained_texts: pa.LargeBinaryArray
    reasons: dict[int, str]
    disagreeing: np.ndarray
    unspelt: Held
    changed: Held
    marked: np.ndarray


def assembled(
    items: Items,
    runs: Runs,
    encoded: Encoded,
    *,
    examples: int,
    trained_texts: pa.LargeBinaryArray,
    reasons: dict[int, str],
    disagreeing: np.ndarray,
    unspelt: Held,
    changed: Held,
    marked: np.ndarray,
) -> Rendered:
    """Put runs and control tokens in their order, and find the segments.

    Args:
        encoded: the texts of runs, then the control tokens.
    """
    elements = _Elements.of(items, runs, encoded)
    begins = _changes(elements.example)
    breaks = np.flatnonzero(begins | _changes(elements.role) | _changes(elements.trained))
    lengths = np.add.reduceat(elements.lengths, breaks) if len(breaks) else np.empty(0, np.int64)
    example, trained, starts = elements.example[breaks], elements.trained[breaks], begins[breaks]
    trained_tokens = np.bincount(example, weights=lengths * trained, minlength=examples).astype(np.int32)
    # The first token of an example is never a label, since nothing stands before it.
    trained_tokens[example[starts & trained]] -= 1
    return Rendered(
        tokens=encoded.gathered(elements.rows),
        example_starts=_starts(np.bincount(example, weights=lengths, minlength=examples)),
        segment_lengths=lengths.astype(np.int32),
        segment_modes=segment_modes(trained=trained, starts=starts, roles=elements.role[breaks]),
        segment_starts=_starts(np.bincount(example, minlength=examples)),
        trained_tokens=trained_tokens,
        trained_texts=trained_texts,
        reasons=reasons,
        disagreeing=disagreeing,
        unspelt=unspelt,
        changed=changed,
        marked=marked,
    )


@dataclass(frozen=True)
class _Elements:
    """Runs and control tokens in order, those that gave tokens.

    rows: int64 [elements], of the encoded. lengths: int64 [elements], tokens.
    """

    rows: np.ndarray
    lengths: np.ndarray
    example: np.ndarray
    role: np.ndarray
    trained: np.ndarray

    @classmethod
    def of(cls, items: Items, runs: Runs, encoded: Encoded) -> _Elements:
        is_element = items.what == CONTROL
        # A run stands for all of its items: its first one keeps its place among the control tokens.
        is_element[runs.first_item] = True
        item = np.flatnonzero(is_element)
        is_run = items.what[item] != CONTROL
        rows = items.payload[item] + np.int64(len(runs.texts))
        rows[is_run] = runs.text
        role = items.role[item]
        role[is_run] = runs.role
        lengths = encoded.counts[rows]
        columns = (rows, lengths, items.example[item], role, items.trained[item])
        # A text of which the tokenizer kept nothing is no segment: shards hold none without tokens.
        present = lengths > 0
        return cls(*columns) if present.all() else cls(*(column[present] for column in columns))


def _changes(column: np.ndarray) -> np.ndarray:
    """Return bool [n]: where a value is not the one before it; the first is not."""
    changes = np.ones(len(column), dtype=bool)
    changes[1:] = column[1:] != column[:-1]
    return changes


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
