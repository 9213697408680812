"""Verb `tokenize`: conversations become tokens with their mask, in unpacked pairs of the shard's own format.

In an unpacked pair a document is an example, so that another packing costs no tokenizing. Beside it stand the records:
one line an example, in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import binary_digests, draw_keys
from orca_recipes.contract.kinds import Encoder, Tokenizer
from orca_recipes.contract.markup import Markup
from orca_recipes.run.arrow import read_frame, write_frame
from orca_recipes.run.erasing import kept_question_digests
from orca_recipes.run.loaded import opened
from orca_recipes.run.read import count_reasons
from orca_recipes.run.render import Rendered, Renderer
from orca_recipes.run.store import PartWriter
from orca_recipes.shards.records import CUT
from orca_recipes.shards.writer import write_pair

if TYPE_CHECKING:
    import polars as pl

CHECKED_ONE_IN = 512
"""One example in so many is compared with the reference tokenizer, drawn by key: on any machine the same ones."""


@dataclass(frozen=True)
class TokenizeTask:
    """One part of conversations; exact encodes it with the reference tokenizer throughout."""

    name: str
    folder: Path
    conversations: Path
    tokenizer: Tokenizer
    tokenizer_folder: Path
    markup: Markup
    exact: bool


@dataclass(frozen=True)
class Tokenized:
    """What a worker says of a part: examples looked at, and how many the fast tokenizer got wrong."""

    examples: int
    disagreeing: int


def tokenize_part(task: TokenizeTask) -> Tokenized:
    """Render, encode, check and store one part."""
    conversations = read_frame(task.conversations)
    renderer = _renderer(task.tokenizer, task.tokenizer_folder, _Once(task.markup))
    rendered = renderer.render(
        messages=conversations["messages"],
        cut=conversations["cut"].to_numpy(),
        check=_sample(conversations),
        exact=task.exact,
    )
    if len(rendered.disagreeing):
        return Tokenized(conversations.height, len(rendered.disagreeing))
    keep = rendered.trained_tokens > 0
    rejected = _rejected(conversations, rendered, keep)
    report = _store(task, conversations, rendered, keep, rejected, renderer.encoder)
    PartWriter(task.folder, task.name).keep([".bin", ".idx", ".records.arrow", ".rejected.arrow"], report)
    return Tokenized(conversations.height, 0)


@dataclass(frozen=True, eq=False)
class _Once:
    """Lets a markup, which holds a mapping, be the key of a cache by what it says."""

    markup: Markup

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Once) and self.markup == other.markup

    def __hash__(self) -> int:
        return hash(self.markup.chat_template)


@lru_cache(maxsize=2)
def _renderer(tokenizer: Tokenizer, folder: Path, markup: _Once) -> Renderer:
    """Loaded once a process: a tokenizer takes up to seconds to load."""
    return Renderer(markup=markup.markup, encoder=opened(tokenizer, folder))


def _sample(conversations: pl.DataFrame) -> np.ndarray:
    hi, lo = (conversations[name].to_numpy() for name in ("id_hi", "id_lo"))
    keys = draw_keys(id_hi=hi, id_lo=lo, seed=0, purpose="tokenizer check")
    return np.asarray(keys < np.uint64(2**64 // CHECKED_ONE_IN))


def _rejected(conversations: pl.DataFrame, rendered: Rendered, keep: np.ndarray) -> pl.DataFrame:
    import polars as pl

    dropped = np.flatnonzero(~keep)
    reasons = [rendered.reasons.get(position, "no token is trained") for position in dropped.tolist()]
    frame = conversations.select("id_hi", "id_lo", "file", "place").filter(pl.Series(~keep))
    return frame.with_columns(pl.Series("reason", reasons, dtype=pl.String), pl.lit("tokenize").alias("stage"))


def _store(
    task: TokenizeTask,
    conversations: pl.DataFrame,
    rendered: Rendered,
    keep: np.ndarray,
    rejected: pl.DataFrame,
    encoder: Encoder,
) -> dict[str, Any]:
    writer = PartWriter(task.folder, task.name)
    counts = np.diff(rendered.example_starts)
    segments = np.diff(rendered.segment_starts)
    kept_segments = np.repeat(keep, segments)
    tokens = rendered.tokens if keep.all() else rendered.tokens[np.repeat(keep, counts)]
    write_pair(
        prefix=writer.path(""),
        vocabulary_size=encoder.vocabulary.size,
        blocks=iter([tokens]),
        segment_lengths=rendered.segment_lengths[kept_segments],
        segment_modes=rendered.segment_modes[kept_segments],
        row_starts=np.concatenate([[0], np.cumsum(segments[keep])]).astype(np.int64),
    )
    write_frame(writer.path(".records.arrow"), _records(conversations, rendered, keep, counts, encoder))
    write_frame(writer.path(".rejected.arrow"), rejected)
    return {
        "in": conversations.height,
        "out": int(keep.sum()),
        "rejected": count_reasons(rejected["reason"]),
        "tokens": len(tokens),
    }


def _records(
    conversations: pl.DataFrame, rendered: Rendered, keep: np.ndarray, counts: np.ndarray, encoder: Encoder
) -> pl.DataFrame:
    import polars as pl

    hi, lo = binary_digests(rendered.trained_texts)
    names = [
        "id_hi",
        "id_lo",
        "question_hi",
        "question_lo",
        "task",
        "file",
        "place",
        "strategy",
        "system_message",
        "teacher",
        "teacher_view",
    ]
    frame = conversations.select(names).with_columns(
        pl.Series("tokens", counts.astype(np.int32)),
        pl.Series("trained_tokens", rendered.trained_tokens),
        (conversations["cut"].cast(pl.Int8) * CUT).alias("flags"),
        pl.Series("text_hi", hi),
        pl.Series("text_lo", lo),
        *kept_question_digests(conversations, encoder),
    )
    return frame.filter(pl.Series(keep))
