"""Runs of text and control tokens become tokens, and what is asked of them: which were checked, spelt, trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.kinds import Encoder
from orca_recipes.run.segments.items import Items
from orca_recipes.run.segments.rendered_segments import Held
from orca_recipes.run.segments.text_runs import Runs
from orca_recipes.run.segments.token_rows import Encoded
from orca_recipes.run.segments.trained_text import texts_to_train
from orca_recipes.store.arrow_files import indices

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class RunEncoder:
    """A loaded tokenizer; controls: int64, the ids that payloads of control tokens point into."""

    encoder: Encoder
    controls: np.ndarray

    def encoded(self, texts: pa.LargeStringArray, opening: int, exact: bool) -> Encoded:
        """Encode texts, of which the first `opening` open and the others go on from text."""
        parts = [
            self.encoder.encode(texts=part, opens=opens, exact=exact)
            for part, opens in ((texts[:opening], True), (texts[opening:], False))
            if len(part)
        ]
        return Encoded.joined(parts, self.controls, self.encoder.vocabulary.size)

    def trained_texts(self, items: Items, runs: Runs, examples: int) -> pa.LargeBinaryArray:
        """Join the trained text of each example."""
        trained = np.flatnonzero(items.trained[runs.first_item])
        start, stop = runs.trained
        chosen = runs.text[trained]
        # In order where all open or none does, and then nothing is copied.
        in_order = start >= runs.opening or stop <= runs.opening
        return texts_to_train(
            texts=runs.texts[start:stop] if in_order else runs.texts.take(indices(chosen)),
            opens=runs.opens(chosen),
            owners=runs.example[trained],
            examples=examples,
            encoder=self.encoder,
        )

    def unspelt(self, items: Items, runs: Runs, encoded: Encoded, examples: int) -> Held:
        """Find the texts that became the unknown token, or no token at all."""
        texts, opening, vocabulary = runs.texts, runs.opening, self.encoder.vocabulary
        bad = np.zeros(len(texts), dtype=bool)
        if vocabulary.unknown_id is not None:
            bad |= encoded.holding(vocabulary.unknown_id, len(texts))
        # Only tokenizers without an unknown token and without bytes drop text without a trace: others need no second
        # look.
        if self.encoder.drops:
            bad[:opening] |= self.encoder.dropped(texts=texts[:opening], opens=True)
            bad[opening:] |= self.encoder.dropped(texts=texts[opening:], opens=False)
        hits = np.flatnonzero(bad[runs.text]) if bad.any() else np.empty(0, dtype=np.int64)
        return Held.of(runs.example[hits], items.trained[runs.first_item[hits]], examples)

    def disagreeing(self, runs: Runs, encoded: Encoded, suspects: np.ndarray) -> np.ndarray:
        """Find the examples among the suspects with a run that the reference encodes otherwise."""
        checked = np.flatnonzero(suspects[runs.example])
        # A text that many examples share is encoded by the slow reference once; rising, so that those that open come
        # first.
        texts = np.unique(runs.text[checked])
        if not len(texts):
            return np.empty(0, dtype=np.int64)
        opening = int(np.searchsorted(texts, runs.opening))
        truth = self.encoded(runs.texts.take(indices(texts)), opening, exact=True)
        differs = np.zeros(len(runs.texts), dtype=bool)
        differs[texts] = truth.differs(encoded, texts)
        return np.unique(runs.example[checked[differs[runs.text[checked]]]])
