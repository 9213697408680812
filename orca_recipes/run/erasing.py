"""The question of an erased prompt, told by a digest: so that whoever reads tokens can say that it was left as it was.

The digest is of the question as the tokenizer keeps it, without white space at its ends, because that is all of it that
can be read back from tokens behind any template.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.draws import digests
from orca_recipes.contract.kinds import Encoder
from orca_recipes.run.messages import PYTHON_SPACE

if TYPE_CHECKING:
    import polars as pl


def kept_question_digests(conversations: pl.DataFrame, encoder: Encoder) -> tuple[pl.Series, pl.Series]:
    """Of what the user says last; 0 where nothing was erased.

    Returns: UInt64 [conversations] each, kept_question_hi and kept_question_lo.
    """
    import polars as pl
    import pyarrow as pa

    high, low = np.zeros((2, conversations.height), dtype=np.uint64)
    erased = np.flatnonzero(conversations["teacher_view"].is_not_null().to_numpy())
    if len(erased):
        said = pl.element().struct
        users = said.field("content").filter(said.field("role") == "user")
        questions = conversations["messages"].gather(pl.Series(erased)).list.eval(users).list.last().fill_null("")
        texts = questions.rechunk().to_arrow().cast(pa.large_string())
        kept = encoder.normalized(texts=texts, opens=False).to_pylist()
        high[erased], low[erased] = digests(_stripped(text) for text in kept)
    return pl.Series("kept_question_hi", high), pl.Series("kept_question_lo", low)


def kept_question_digest(text: str) -> tuple[int, int]:
    """The digest of a question that was read back from tokens."""
    high, low = digests([_stripped(text)])
    return int(high[0]), int(low[0])


def _stripped(text: str) -> bytes:
    return text.strip(PYTHON_SPACE).encode()
