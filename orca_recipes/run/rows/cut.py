"""Cuts of an example longer than a row: to whole turns, or to the head of its last answer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from orca_recipes.contract.draws import binary_digests
from orca_recipes.contract.kinds import Encoder, Packer
from orca_recipes.run.segments.trained_text import trained_texts
from orca_recipes.shards.ids_digest import ids_digests
from orca_recipes.shards.layout import ROLES, TRAINED, role_codes
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import CUT, TRUNCATED, TURNS_DROPPED
from orca_recipes.shards.segments import Segments


@dataclass(frozen=True)
class Cut:
    """An example as it fits: its first `tokens` tokens."""

    tokens: int
    trained_tokens: int
    flags: int
    text_hi: int
    text_lo: int
    ids_hi: int
    ids_lo: int


def cut_example(
    prefix: Path, index: int, *, packer: Packer, flags: int, encoder: Encoder, turn_ends: Collection[int]
) -> Cut | str:
    """Cut an example of an unpacked pair to a row's length as the packer says, or say why it is rejected.

    Args:
        turn_ends: the last ids of the texts that end answers.
    """
    row = Shard.open(prefix).row(index)
    segments = row.segments
    ends = np.cumsum(segments.lengths)
    trained = segments.modes & TRAINED > 0
    if packer.overlong == "drop_turns":
        whole = _ends_turn(row.tokens, segments, np.asarray(list(turn_ends)))
        fitting = ends[whole & (ends <= packer.row_tokens)]
        if not len(fitting):
            return "longer than a row with its first answer alone"
        length, flags = int(fitting[-1]), (flags & ~CUT) | TURNS_DROPPED
    else:
        last = np.flatnonzero(trained)[-1]
        if ends[last] - segments.lengths[last] >= packer.row_tokens:
            return "its context alone is longer than a row"
        length, flags = packer.row_tokens, flags | TRUNCATED
    lengths = np.diff(np.minimum(ends, length), prepend=0)
    texts = trained_texts(
        tokens=row.tokens[:length],
        lengths=lengths,
        modes=segments.modes,
        example_starts=np.array([0, length]),
        encoder=encoder,
    )
    hi, lo = binary_digests(texts)
    ((ids_hi, ids_lo),) = ids_digests(row.tokens[:length], np.array([0, length])).tolist()
    # The first token of an example is never a label, since nothing stands before it.
    count = int(lengths[trained].sum()) - int(trained[0] and lengths[0] > 0)
    if not count:
        return "its context alone is longer than a row"
    return Cut(length, count, flags, int(hi[0]), int(lo[0]), ids_hi, ids_lo)


def _ends_turn(tokens: np.ndarray, segments: Segments, turn_ends: np.ndarray) -> np.ndarray:
    """Mark the last trained segment of each turn: bool [segments].

    Where content is not trained, a thought and a call of one turn are two trained segments, with no end between them.
    """
    trained = np.flatnonzero(segments.modes & TRAINED)
    answers = role_codes(segments.modes) == ROLES.index("assistant")
    marked = np.zeros(len(segments.modes), dtype=np.bool_)
    for here, following in pairwise([*trained.tolist(), None]):
        stop = None if following is None else int(segments.token_starts[following])
        between = tokens[int(segments.token_starts[here]) : stop]
        marked[here] = following is None or not answers[here:following].all() or bool(np.isin(between, turn_ends).any())
    return marked
