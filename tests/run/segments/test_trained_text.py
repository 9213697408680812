"""The text of trained tokens is that of their runs, one by one."""

from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_recipes.contract.kinds import Encoder, Vocabulary
from orca_recipes.run.segments.trained_text import context_texts, trained_texts
from orca_recipes.shards.layout import TRAINED, is_trained

CONTROL = {"<a>": 1, "<b>": 4, "<unk>": 6}
LENGTHS = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=6)


class Letters(Encoder):
    """A token is a letter, and a run that opens begins with "^"."""

    def __init__(self, prefix_only_at_start: bool) -> None:
        self.vocabulary = Vocabulary(9, CONTROL, {}, frozenset(), None, None, None, None, unknown="<unk>")
        self.prefix_only_at_start = prefix_only_at_start

    def encode(self, *, texts: pa.LargeStringArray, opens: bool, exact: bool = False) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def normalized(self, *, texts: pa.LargeStringArray, opens: bool) -> pa.LargeStringArray:
        raise NotImplementedError

    def decode_runs(self, *, ids: np.ndarray, offsets: np.ndarray, opens: bool) -> pa.LargeStringArray:
        spans = pairwise(offsets)
        texts = ["^" * opens + "".join("abcdefghi"[token] for token in ids[start:stop]) for start, stop in spans]
        return pa.array(texts, pa.large_string())

    def decode(self, *, ids: np.ndarray) -> str:
        raise NotImplementedError

    def verdict(self) -> str:
        return ""


def by_the_book(tokens: list[int], segments: list[tuple[int, bool]], encoder: Letters) -> str:
    """The text of one example, token by token: a run ends at a control token and at the end of its segment."""
    text, place = "", 0
    for length, trained in segments:
        span = [(place + at, token) for at, token in enumerate(tokens[place : place + length])]
        for is_text, run in groupby(span, key=lambda each: each[1] not in (1, 4)):
            first, *_ = ids = list(run)
            after = first[0] == 0 or (not encoder.prefix_only_at_start and tokens[first[0] - 1] in (1, 4))
            if trained and is_text:
                text += "^" * after + "".join("abcdefghi"[token] for _, token in ids)
        place += length
    return text


@pytest.mark.parametrize("prefix_only_at_start", [True, False])
@settings(max_examples=200, deadline=None)
@given(examples=st.lists(LENGTHS, min_size=1, max_size=4), data=st.data())
def test_trained_texts_are_those_of_runs_between_control_tokens(
    prefix_only_at_start: bool, examples: list[list[tuple[int, bool]]], data: Any
):
    encoder = Letters(prefix_only_at_start)
    examples = [[(max(segments[0][0], 1), segments[0][1]), *segments[1:]] for segments in examples]
    sizes = [sum(length for length, _ in segments) for segments in examples]
    tokens = [data.draw(st.lists(st.integers(0, 8), min_size=size, max_size=size)) for size in sizes]
    flat = [segment for segments in examples for segment in segments]
    modes = np.array([TRAINED if trained else 0 for _, trained in flat], dtype=np.int8)
    assert is_trained(modes).tolist() == [trained for _, trained in flat]
    asked: dict[str, Any] = {
        "tokens": np.array([token for example in tokens for token in example], dtype=np.uint16),
        "lengths": np.array([length for length, _ in flat], dtype=np.int32),
        "modes": modes,
        "example_starts": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        "encoder": encoder,
    }
    expected = [by_the_book(*each, encoder) for each in zip(tokens, examples, strict=True)]
    assert [text.decode() for text in trained_texts(**asked).to_pylist()] == expected
    others = [[(length, not trained) for length, trained in segments] for segments in examples]
    assert context_texts(**asked) == [by_the_book(*each, encoder) for each in zip(tokens, others, strict=True)]
