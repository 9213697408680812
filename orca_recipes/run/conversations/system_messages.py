"""The system message of each prompt: drawn by the example's key, or every one of a set in turn.

An example that is expanded becomes several, one for each message, and each has an id of its own made of the example's
id and the message's name: so they are told apart in shards and draws, and the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.draws import draw_below, draw_keys, splitmix64
from orca_recipes.run.conversations.matching_rule import Message

if TYPE_CHECKING:
    import polars as pl


def headed(
    examples: pl.DataFrame,
    messages: Sequence[Message],
    *,
    seed: int,
    is_expanded: bool,
    open_to_words: pl.Series | None = None,
) -> pl.DataFrame:
    """Give each example a system message; one that the row brings itself stays.

    Args:
        examples: columns of `frames.EXAMPLES`.
        is_expanded: every message for every example that brings none, instead of one drawn by key.
        open_to_words: Boolean [examples], those whose conversation takes a system message; none does, if left out.
    Returns: the columns, with `system` as it is now, and message_id: the name of the message, "" where none was drawn.
    """
    import polars as pl

    if not messages:
        return examples.with_columns(message_id=pl.lit(""))
    brought = examples["messages"].is_not_null()
    own = examples["system"].is_not_null() | (brought if open_to_words is None else brought & ~open_to_words)
    if is_expanded:
        kept = examples.filter(own).with_columns(message_id=pl.lit(""))
        return pl.concat([kept, _each(examples.filter(~own), messages)])
    names, texts = _drawn(examples, messages, seed=seed, purpose="system message")
    return examples.with_columns(
        pl.select(pl.when(own).then(examples["system"]).otherwise(texts).alias("system")).to_series(),
        pl.select(pl.when(own).then(pl.lit("")).otherwise(names).alias("message_id")).to_series(),
    )


def drawn_texts(examples: pl.DataFrame, messages: Sequence[Message], *, seed: int, purpose: str) -> pl.Series:
    """Draw the text of one message for each example, by key; null for all if there are no messages."""
    import polars as pl

    if not messages:
        return pl.Series([None] * examples.height, dtype=pl.String)
    return _drawn(examples, messages, seed=seed, purpose=purpose)[1]


def expanded_ids(id_hi: np.ndarray, id_lo: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Derive the ids, uint64 [examples], of the copies that a rule makes under the message of this name."""
    hi, lo = _salt(name)
    return splitmix64(id_hi ^ np.uint64(hi)), splitmix64(id_lo ^ np.uint64(lo))


def _drawn(
    examples: pl.DataFrame, messages: Sequence[Message], *, seed: int, purpose: str
) -> tuple[pl.Series, pl.Series]:
    """Draw names and texts: a message of weight w stands w times in the urn."""
    import polars as pl

    ends = np.cumsum([message.weight for message in messages])
    ids = {name: examples[name].to_numpy() for name in ("id_hi", "id_lo")}
    keys = draw_keys(**ids, seed=seed, purpose=purpose)
    drawn = draw_below(keys=keys, bounds=np.full(examples.height, ends[-1], dtype=np.int64))
    places = pl.Series(np.searchsorted(ends, drawn, side="right").astype(np.uint32))
    names, texts = ([getattr(message, part) for message in messages] for part in ("name", "text"))
    return pl.Series(names, dtype=pl.String).gather(places), pl.Series(texts, dtype=pl.String).gather(places)


def _each(examples: pl.DataFrame, messages: Sequence[Message]) -> pl.DataFrame:
    """Repeat each example once for every message, side by side, with ids of their own."""
    import polars as pl

    count = len(messages)
    rows = np.repeat(np.arange(examples.height, dtype=np.uint32), count)
    which = np.tile(np.arange(count, dtype=np.uint32), examples.height)
    salts = np.array([_salt(message.name) for message in messages], dtype=np.uint64)
    repeated = examples[rows]
    return repeated.with_columns(
        pl.Series("id_hi", splitmix64(repeated["id_hi"].to_numpy() ^ salts[which, 0])),
        pl.Series("id_lo", splitmix64(repeated["id_lo"].to_numpy() ^ salts[which, 1])),
        pl.Series([message.text for message in messages], dtype=pl.String).gather(which).alias("system"),
        pl.Series([message.name for message in messages], dtype=pl.String).gather(which).alias("message_id"),
    )


def _salt(name: str) -> tuple[int, int]:
    """Derive a salt from one message's name alone, so that copies under other messages keep their ids when messages are
    added."""
    digest = hashlib.blake2b(name.encode(), digest_size=16, person=b"expand each").digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
