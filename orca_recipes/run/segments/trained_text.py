"""The text of trained tokens, from both sides: as it goes into ids, and as it is read back from the tokens alone.

Both give the same bytes, so their digest proves tokens, mask and order at once. Runs are what a tokenizer encodes in
one piece: spans of trained tokens between control tokens. Everything works on the columns of many examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from orca_recipes.contract.kinds import Encoder
from orca_recipes.run.segments.ragged import ragged
from orca_recipes.shards.layout import TRAINED, is_trained
from orca_recipes.store.arrow_files import indices, string_buffers

if TYPE_CHECKING:
    import pyarrow as pa


def texts_to_train(
    *, texts: pa.LargeStringArray, opens: np.ndarray, owners: np.ndarray, examples: int, encoder: Encoder
) -> pa.LargeBinaryArray:
    """Return the trained text of each example after chat template and tokenizer normalizer, in UTF-8.

    Args:
        texts: large_string [runs], of trained runs alone, in order. opens: bool [runs], as for `Encoder.encode`.
        owners: int64 [runs], the example of each run, rising.
    Returns: large_binary [examples].
    """

    def normal(group: np.ndarray, kind: bool) -> pa.LargeStringArray:
        return encoder.normalized(texts=texts if len(group) == len(texts) else texts.take(indices(group)), opens=kind)

    return _joined(_in_order(opens, normal), owners, examples)


def trained_texts(
    *, tokens: np.ndarray, lengths: np.ndarray, modes: np.ndarray, example_starts: np.ndarray, encoder: Encoder
) -> pa.LargeBinaryArray:
    """Decode the trained segments of each example without their control tokens, in UTF-8.

    Args:
        tokens: integers [tokens]. lengths: [segments], those of a cut example's end may be 0. modes: int8 [segments].
        example_starts: int64 [examples + 1] into tokens.
    Returns: large_binary [examples].
    """
    is_control = control_table(encoder)
    runs = _runs(tokens, lengths, modes, is_control)
    owners = np.searchsorted(example_starts, runs.starts, side="right") - 1
    at_start = runs.starts == example_starts[owners]
    # The place before the first token does not exist; what stands at 0 instead does no harm, since that run opens
    # anyway.
    after_control = is_control[tokens[np.maximum(runs.starts - 1, 0)]]
    opens = at_start | (after_control & (not encoder.prefix_only_at_start))

    def read(group: np.ndarray, kind: bool) -> pa.LargeStringArray:
        return _decoded(runs, group, kind, encoder)

    return _joined(_in_order(opens, read), owners, len(example_starts) - 1)


def context_texts(
    *, tokens: np.ndarray, lengths: np.ndarray, modes: np.ndarray, example_starts: np.ndarray, encoder: Encoder
) -> list[str]:
    """Decode the untrained segments of each example without control tokens; arguments as in `trained_texts`."""
    # With the mark turned over, what decodes trained text decodes the rest.
    turned = (modes ^ TRAINED).astype(modes.dtype)
    texts = trained_texts(tokens=tokens, lengths=lengths, modes=turned, example_starts=example_starts, encoder=encoder)
    return [text.decode() for text in texts.to_pylist()]


def control_table(encoder: Encoder) -> np.ndarray:
    """Return bool [vocabulary]: the control tokens, but for the one that stands for text that cannot be spelt."""
    vocabulary = encoder.vocabulary
    table = np.zeros(vocabulary.size, dtype=np.bool_)
    table[[token for text, token in vocabulary.control.items() if text != vocabulary.unknown]] = True
    return table


@dataclass(frozen=True)
class _Runs:
    """Runs of trained text: ids [tokens of all runs], offsets int64 [runs + 1] into them, and where each run starts
    among the tokens that it was found in, int64 [runs]."""

    ids: np.ndarray
    offsets: np.ndarray
    starts: np.ndarray


def _runs(tokens: np.ndarray, lengths: np.ndarray, modes: np.ndarray, is_control: np.ndarray) -> _Runs:
    """Find the runs of trained text, looking at trained tokens only, which are few among all."""
    trained = np.flatnonzero(is_trained(modes))
    counts = lengths[trained].astype(np.int64)
    places = ragged(np.cumsum(lengths, dtype=np.int64)[trained] - counts, counts)
    ids = tokens.take(places)
    text = ~is_control.take(ids)
    bounds = np.ones(len(ids) + 1, dtype=np.bool_)
    bounds[1:-1] = text[1:] != text[:-1]
    # Trained spans that touch each other are of different answers, and were encoded apart.
    bounds[np.cumsum(counts)] = True
    starts, stops = np.flatnonzero(text & bounds[:-1]), np.flatnonzero(text & bounds[1:]) + 1
    offsets = np.concatenate([[0], np.cumsum(stops - starts)])
    return _Runs(ids[text], offsets, places[starts])


def _decoded(runs: _Runs, group: np.ndarray, opens: bool, encoder: Encoder) -> pa.LargeStringArray:
    ids, offsets = runs.ids, runs.offsets
    if len(group) < len(runs.starts):
        counts = np.diff(offsets)[group]
        ids = ids.take(ragged(offsets[group], counts))
        offsets = np.concatenate([[0], np.cumsum(counts)])
    return encoder.decode_runs(ids=ids, offsets=offsets, opens=opens)


def _in_order(opens: np.ndarray, texts_of: Callable[[np.ndarray, bool], pa.LargeStringArray]) -> pa.LargeStringArray:
    """Compute the texts of opening and other runs separately, and return all in the order of runs."""
    import pyarrow as pa

    groups = [group for kind in (True, False) if len(group := np.flatnonzero(opens == kind))]
    found = [texts_of(group, bool(opens[group[0]])) for group in groups]
    if len(found) == 1:
        return found[0]
    if not found:
        return cast("pa.LargeStringArray", pa.array([], type=pa.large_string()))
    return cast("pa.LargeStringArray", pa.concat_arrays(found).take(indices(np.argsort(np.concatenate(groups)))))


def _joined(texts: pa.LargeStringArray, owners: np.ndarray, examples: int) -> pa.LargeBinaryArray:
    """Join the texts of each example's runs without a copy: they are neighbours in memory."""
    import pyarrow as pa

    offsets, data = string_buffers(texts)
    bounds = pa.py_buffer(offsets[np.searchsorted(owners, np.arange(examples + 1))])
    joined = pa.LargeBinaryArray.from_buffers(pa.large_binary(), examples, [None, bounds, data])
    return cast("pa.LargeBinaryArray", joined)


def blocks(example_starts: np.ndarray, block_tokens: int) -> Iterator[tuple[int, int]]:
    """Yield spans of examples [start, stop) of about so many tokens, so that memory is bounded."""
    start, examples = 0, len(example_starts) - 1
    while start < examples:
        limit = example_starts[start] + block_tokens
        stop = max(start + 1, int(np.searchsorted(example_starts, limit, side="right")) - 1)
        yield start, min(stop, examples)
        start = stop
