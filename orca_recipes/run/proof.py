"""The text of trained tokens, from both sides: as it goes into ids, and as it is read back from the tokens alone.

Both give the same bytes, so their digest proves tokens, mask and order at once. Runs are what a tokenizer encodes in
one piece: spans of trained tokens between control tokens. Everything works on the columns of many examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.kinds import Encoder
from orca_recipes.shards.layout import is_trained

if TYPE_CHECKING:
    import pyarrow as pa


def texts_to_train(
    *, texts: pa.LargeStringArray, opens: np.ndarray, owners: np.ndarray, examples: int, encoder: Encoder
) -> list[bytes]:
    """The trained text of each example as the template and the tokenizer's normalizer leave it, in UTF-8.

    Args:
        texts: large_string [runs], of trained runs alone, in order. opens: bool [runs], as for `Encoder.encode`.
        owners: int64 [runs], the example of each run, rising.
    """
    import pyarrow as pa

    found: list[bytes] = [b""] * len(texts)
    for kind in (True, False):
        group = np.flatnonzero(opens == kind)
        if len(group):
            normal = encoder.normalized(texts=texts.take(pa.array(group)), opens=kind)
            for run, text in zip(group.tolist(), normal.cast(pa.large_binary()).to_pylist(), strict=True):
                found[run] = text
    return _joined(found, owners, examples)


def trained_texts(
    *, tokens: np.ndarray, lengths: np.ndarray, modes: np.ndarray, example_starts: np.ndarray, encoder: Encoder
) -> list[bytes]:
    """The text of each example's trained segments without their control tokens, in UTF-8.

    Args:
        tokens: integers [tokens]. lengths: [segments], those of a cut example's end may be 0. modes: int8 [segments].
        example_starts: int64 [examples + 1] into tokens.
    """
    is_control = control_table(encoder)
    starts, stops = _runs(tokens, lengths, modes, is_control)
    owners = np.searchsorted(example_starts, starts, side="right") - 1
    at_start = starts == example_starts[owners]
    after_control = is_control[tokens[np.maximum(starts - 1, 0)]]
    opens = at_start | (after_control & (not encoder.prefix_only_at_start))
    found: list[bytes] = [b""] * len(starts)
    for kind in (True, False):
        group = np.flatnonzero(opens == kind)
        if len(group):
            for run, text in zip(group.tolist(), _decoded(tokens, starts, stops, group, kind, encoder), strict=True):
                found[run] = text.encode()
    return _joined(found, owners, len(example_starts) - 1)


def control_table(encoder: Encoder) -> np.ndarray:
    """bool [vocabulary]: the control tokens, but for the one that stands for text that cannot be spelt."""
    vocabulary = encoder.vocabulary
    table = np.zeros(vocabulary.size, dtype=np.bool_)
    table[[token for text, token in vocabulary.control.items() if text != vocabulary.unknown]] = True
    return table


def _runs(
    tokens: np.ndarray, lengths: np.ndarray, modes: np.ndarray, is_control: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs of trained text begin and end."""
    text = np.repeat(is_trained(modes), lengths) & ~is_control[tokens]
    bounds = np.ones(len(tokens) + 1, dtype=np.bool_)
    bounds[1:-1] = text[1:] != text[:-1]
    bounds[np.cumsum(lengths, dtype=np.int64)] = True
    return np.flatnonzero(text & bounds[:-1]), np.flatnonzero(text & bounds[1:]) + 1


def _decoded(
    tokens: np.ndarray, starts: np.ndarray, stops: np.ndarray, group: np.ndarray, opens: bool, encoder: Encoder
) -> Sequence[str]:
    counts = (stops - starts)[group]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    places = np.repeat(starts[group] - offsets[:-1], counts) + np.arange(offsets[-1])
    return encoder.decode_runs(ids=tokens[places], offsets=offsets, opens=opens)


def _joined(texts: Sequence[bytes], owners: np.ndarray, examples: int) -> list[bytes]:
    """One text an example; nearly all have one run."""
    found = [b""] * examples
    for owner, text in zip(owners.tolist(), texts, strict=True):
        found[owner] = found[owner] + text if found[owner] else text
    return found


def blocks(example_starts: np.ndarray, block_tokens: int) -> Iterator[tuple[int, int]]:
    """Spans of examples [start, stop) of about so many tokens, so that memory is bounded."""
    start, examples = 0, len(example_starts) - 1
    while start < examples:
        limit = example_starts[start] + block_tokens
        stop = max(start + 1, int(np.searchsorted(example_starts, limit, side="right")) - 1)
        yield start, min(stop, examples)
        start = stop
