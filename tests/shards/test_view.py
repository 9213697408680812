"""The training view of a row is FORMAT's, token for token."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_recipes.errors import DamagedShard
from orca_recipes.shards.layout import STARTS, TRAINED
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.segments import Segments
from orca_recipes.shards.view import training_view
from orca_recipes.shards.writer import write_pair

PAD = 99
Examples = list[list[tuple[bool, list[int]]]]
"""Each example as segments: trained, tokens."""


def segments_of(examples: Examples) -> tuple[np.ndarray, Segments]:
    flat = [(number == 0, trained, ids) for example in examples for number, (trained, ids) in enumerate(example)]
    tokens = np.array([token for _, _, ids in flat for token in ids], dtype=np.int32)
    modes = np.array([STARTS * starts | TRAINED * trained | 2 << 2 for starts, trained, _ in flat], dtype=np.int8)
    return tokens, Segments(np.array([len(ids) for *_, ids in flat], dtype=np.int32), modes, np.array([0, len(flat)]))


def slow_view(examples: Examples, row_tokens: int, align: int) -> dict[str, list[int]]:
    """FORMAT's words, one token at a time."""
    tokens, labels, mask, positions, bounds = [], [], [], [], [0]
    for example in examples:
        ids = [(token, trained) for trained, segment in example for token in segment]
        for place, (token, _) in enumerate(ids):
            last = place == len(ids) - 1
            tokens.append(token)
            labels.append(0 if last else ids[place + 1][0])
            mask.append(0 if last else int(ids[place + 1][1]))
            positions.append(place)
        while len(tokens) % align:
            tokens.append(PAD)
            labels.append(0)
            mask.append(0)
            positions.append(positions[-1] + 1)
        bounds.append(len(tokens))
    rest = row_tokens - len(tokens)
    if rest:
        bounds.append(row_tokens)
    return {
        "tokens": tokens + [PAD] * rest,
        "labels": labels + [0] * rest,
        "loss_mask": mask + [0] * rest,
        "position_ids": positions + list(range(rest)),
        "cu_seqlens": bounds,
    }


@st.composite
def rows(draw) -> tuple[Examples, int, int]:
    segment = st.tuples(st.booleans(), st.lists(st.integers(0, 98), min_size=1, max_size=6))
    examples = draw(st.lists(st.lists(segment, min_size=1, max_size=4), min_size=1, max_size=6))
    align = draw(st.sampled_from([1, 2, 4, 8]))
    rooms = [-(-sum(len(ids) for _, ids in example) // align) * align for example in examples]
    return examples, sum(rooms) + align * draw(st.integers(0, 3)), align


@settings(max_examples=300, deadline=None)
@given(rows())
def test_the_view_is_that_of_the_words_of_the_format(row):
    examples, row_tokens, align = row
    tokens, segments = segments_of(examples)
    view = training_view(stored=tokens, segments=segments, row_tokens=row_tokens, align=align, pad_id=PAD)
    told = {
        name: getattr(view, name).tolist() for name in ("tokens", "labels", "loss_mask", "position_ids", "cu_seqlens")
    }
    assert told == slow_view(examples, row_tokens, align)
    assert view.max_seqlen == max(np.diff(view.cu_seqlens))
    assert view.loss_mask.sum() == segments.example_trained_tokens.sum()


def test_the_types_are_those_that_torch_and_megatron_take():
    tokens, segments = segments_of([[(False, [1]), (True, [2, 3])]])
    view = training_view(stored=tokens.astype(np.uint16), segments=segments, row_tokens=4, align=1, pad_id=PAD)
    types = (view.tokens, view.labels, view.loss_mask, view.position_ids, view.cu_seqlens)
    assert [array.dtype.name for array in types] == ["int64", "int64", "float32", "int64", "int32"]


def test_a_full_row_has_no_span_of_pads():
    tokens, segments = segments_of([[(False, [1]), (True, [2])], [(False, [3]), (True, [4])]])
    view = training_view(stored=tokens, segments=segments, row_tokens=4, align=2, pad_id=PAD)
    assert view.cu_seqlens.tolist() == [0, 2, 4]
    assert view.max_seqlen == 2


def test_the_last_span_counts_in_the_longest():
    tokens, segments = segments_of([[(False, [1]), (True, [2])]])
    view = training_view(stored=tokens, segments=segments, row_tokens=9, align=1, pad_id=PAD)
    assert view.cu_seqlens.tolist() == [0, 2, 9]
    assert view.max_seqlen == 7


def test_a_row_that_does_not_fit_is_refused_by_name(tmp_path):
    write_pair(
        prefix=tmp_path / "00000",
        vocabulary_size=300,
        blocks=iter([np.arange(10, dtype=np.uint32)]),
        segment_lengths=np.array([3, 2, 2, 3], dtype=np.int32),
        segment_modes=np.array([10, 13, 10, 13], dtype=np.int8),
        row_starts=np.array([0, 4]),
    )
    shard = Shard.open(tmp_path / "00000")
    assert shard.training_view(0, row_tokens=16, align=8, pad_id=PAD).max_seqlen == 8
    with pytest.raises(DamagedShard, match=r"00000\.idx: row 0: its examples take 16 of 12 tokens"):
        shard.training_view(0, row_tokens=12, align=8, pad_id=PAD)
