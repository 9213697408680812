"""Examples that were rendered in several ways, put in one order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orca_recipes.run.segments.ragged import gathered_rows, ragged
from orca_recipes.run.segments.rendered_segments import Held, Rendered
from orca_recipes.store.arrow_files import indices


def joined(parts: Sequence[tuple[Rendered, np.ndarray]], order: np.ndarray) -> Rendered:
    """Join some examples of each part, in a given order.

    Args:
        parts: a rendering, and int64 the examples that are taken of it.
        order: int64 [examples], into those that are taken, one part after the other.
    """
    import pyarrow as pa

    kept = [_taken(rendered, rows) for rendered, rows in parts]
    tokens = np.concatenate([one.tokens for one in kept])
    sizes = np.concatenate([np.diff(one.example_starts) for one in kept])
    segments = np.concatenate([np.diff(one.segment_starts) for one in kept])
    source = ragged(_starts(segments)[:-1][order], segments[order])
    texts = pa.concat_arrays([one.trained_texts for one in kept])
    offsets = np.cumsum([0, *(len(one.trained_tokens) for one in kept)])
    place = np.argsort(order)
    disagreeing = np.concatenate([one.disagreeing + start for one, start in zip(kept, offsets, strict=False)])
    return Rendered(
        tokens=gathered_rows(tokens, _starts(sizes), order),
        example_starts=_starts(sizes[order]),
        segment_lengths=np.concatenate([one.segment_lengths for one in kept])[source],
        segment_modes=np.concatenate([one.segment_modes for one in kept])[source],
        segment_starts=_starts(segments[order]),
        trained_tokens=np.concatenate([one.trained_tokens for one in kept])[order],
        trained_texts=texts.take(indices(order)),
        # Who joins has put the reasons beside: examples without tokens are not among those that are taken.
        reasons={},
        disagreeing=np.sort(place[disagreeing.astype(np.int64)]),
        unspelt=_held([one.unspelt for one in kept], order),
        changed=_held([one.changed for one in kept], order),
        marked=np.concatenate([one.marked for one in kept])[order],
    )


def _taken(rendered: Rendered, rows: np.ndarray) -> Rendered:
    counts, segments = np.diff(rendered.example_starts), np.diff(rendered.segment_starts)
    source = ragged(rendered.segment_starts[:-1][rows], segments[rows])
    return Rendered(
        tokens=gathered_rows(rendered.tokens, rendered.example_starts, rows),
        example_starts=_starts(counts[rows]),
        segment_lengths=rendered.segment_lengths[source],
        segment_modes=rendered.segment_modes[source],
        segment_starts=_starts(segments[rows]),
        trained_tokens=rendered.trained_tokens[rows],
        trained_texts=rendered.trained_texts.take(indices(rows)),
        reasons={},
        disagreeing=np.flatnonzero(np.isin(rows, rendered.disagreeing)),
        unspelt=_held([rendered.unspelt], rows),
        changed=_held([rendered.changed], rows),
        marked=rendered.marked[rows],
    )


def _held(parts: Sequence[Held], rows: np.ndarray) -> Held:
    return Held(
        np.concatenate([part.anywhere for part in parts])[rows], np.concatenate([part.answers for part in parts])[rows]
    )


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
