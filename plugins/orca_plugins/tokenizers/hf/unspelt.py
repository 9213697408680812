"""Search for texts with parts that a vocabulary cannot spell and drops without an id.

Most models put an unknown token there, which shows in the ids. A BPE model without one drops such characters in
silence: it is given one here, under a name that no text has, to see where that comes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orca_plugins.tokenizers.hf.tokenizer_json import Definition, dump, model_vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = "\0 cannot be spelt"
# An encoding of tokenizers holds many times its ids: this bounds the memory at any number of texts.
_BATCH = 4096


class Unspelt:
    """A definition with an unknown token added, to see where its model fails to spell a text."""

    def __init__(self, definition: Definition) -> None:
        """definition: made for runs of text (`for_runs`)."""
        from tokenizers import Tokenizer

        model, vocabulary = definition["model"], model_vocabulary(definition)
        place = 1 + max(vocabulary.values(), default=-1)
        told = {**model, "vocab": {**vocabulary, _NAME: place}, "unk_token": _NAME, "fuse_unk": True}
        self._engine = Tokenizer.from_str(dump({**definition, "model": told}))
        self._unknown = self._engine.token_to_id(_NAME)

    def holds(self, texts: pa.LargeStringArray) -> np.ndarray:
        """Return bool [texts]: where something is dropped."""
        found = np.zeros(len(texts), dtype=bool)
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH].to_pylist()
            for place, encoding in enumerate(self._engine.encode_batch_fast(batch, add_special_tokens=False), start):
                found[place] = self._unknown in encoding.ids
        return found


def drops(definition: Definition) -> bool:
    """Tell whether a model leaves no id behind for text it cannot spell."""
    model = definition["model"]
    return model.get("type") == "BPE" and model.get("unk_token") is None
