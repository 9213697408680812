"""The question of an erased prompt, told by a digest: so that whoever reads tokens can say that it was left as it was.

The digest is of the question as the tokenizer keeps it, without white space at its ends, because that is all of it that
can be read back from tokens behind any template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import digests
from orca_recipes.contract.kinds import Encoder
from orca_recipes.run.segments.flat_messages import PYTHON_SPACE
from orca_recipes.shards.records import ALL_TURNS
from orca_recipes.store.arrow_files import indices

if TYPE_CHECKING:
    import pyarrow as pa


def kept_question_digests(conversations: pa.Table, encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """Compute the digests of each conversation's last user's turn; 0 where nothing was erased.

    Returns: uint64 [conversations] each, high and low half.
    """
    import polars as pl
    import pyarrow as pa

    high, low = np.zeros((2, conversations.num_rows), dtype=np.uint64)
    views = conversations["teacher_view"]
    if views.null_count == len(views):
        return high, low
    erased = np.flatnonzero(views.is_valid())
    messages: Any = pl.from_arrow(conversations["messages"].take(indices(erased)))
    said = pl.element().struct
    users = said.field("content").filter(said.field("role") == "user")
    questions = messages.list.eval(users).list.last().fill_null("")
    texts = questions.rechunk().to_arrow().cast(pa.large_string())
    kept = encoder.normalized(texts=texts, opens=False).to_pylist()
    high[erased], low[erased] = digests(_stripped(text) for text in kept)
    return high, low


def kept_questions_of_turns(
    given: Sequence[str | None], turns: np.ndarray, high: np.ndarray, low: np.ndarray, encoder: Encoder
) -> None:
    """Put the digest of its own last question in the place of its conversation's, for examples of single turns.

    Args:
        given: what inference is given of each example. turns: `records.ALL_TURNS` where it holds all of them.
        high, low: as `kept_question_digests` gives them for each example's conversation.
    """
    for at in np.flatnonzero((turns != ALL_TURNS) & ((high | low) != 0)).tolist():
        told = given[at]
        assert told is not None
        high[at], low[at] = kept_question_digest(kept_question(told, encoder))


def given_before(given: str) -> list[Mapping[str, str]]:
    """Return the messages that inference is given before an example's last answer."""
    messages: list[Mapping[str, str]] = json.loads(given)["messages"]
    return [{"role": message["role"], "content": message.get("content", "")} for message in messages[:-1]]


def kept_question(given: str, encoder: Encoder) -> str:
    """Normalize, with the tokenizer, the last question that inference is given."""
    import pyarrow as pa

    asked = [message["content"] for message in json.loads(given)["messages"] if message["role"] == "user"]
    texts = pa.array(asked[-1:] or [""], type=pa.large_string())
    kept: str = encoder.normalized(texts=texts, opens=False)[0].as_py()
    return kept


def kept_question_digest(text: str) -> tuple[int, int]:
    """Compute the digest of a question read back from tokens."""
    high, low = digests([_stripped(text)])
    return int(high[0]), int(low[0])


def _stripped(text: str) -> bytes:
    return text.strip(PYTHON_SPACE).encode()
