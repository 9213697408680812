"""A tokenizer once it is loaded: what the compiler asks of it, and what templates know of its vocabulary.

It is opened once in each process and never pickled; kinds of tokenizer (kinds.py) are what travels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


@dataclass(frozen=True)
class Vocabulary:
    """Facts of a tokenizer for templates.

    size: `len(tokenizer)` with added tokens.
    control: text to id of the control tokens (special added tokens), which user text never becomes.
    other_added: text to id of added tokens that are not control tokens (runs of spaces and the like).
    eats_space: control tokens that swallow white space beside them (lstrip, rstrip), which templates refuse.
    chat_template: jinja text of the tokenizer's own template, where it has one.
    unknown: the control token, if it is one, that text becomes where the model cannot spell it; there it is text.
    unknown_id: the id that such text becomes, control token or not; None where there is none.
    named: other tokens that chat templates are told by name, as "sep_token" to text.
    """

    size: int
    control: Mapping[str, int]
    other_added: Mapping[str, int]
    eats_space: frozenset[str]
    bos: str | None
    eos: str | None
    pad: str | None
    chat_template: str | None
    unknown: str | None = None
    unknown_id: int | None = None
    named: Mapping[str, str] = field(default_factory=dict)

    def told(self) -> dict[str, str]:
        """Return the tokenizer's variables of a chat template, as transformers names them."""
        known = {**self.named, "bos_token": self.bos, "eos_token": self.eos, "pad_token": self.pad}
        return {name: text for name, text in known.items() if text is not None}


class Encoder(ABC):
    """A loaded tokenizer, one a process: text to ids, where no text becomes a control token.

    prefix_only_at_start: its dummy prefix stands at the very start of a text alone, and not after control tokens; then
    only a run at the very start is encoded with `opens`.
    spells: every text can be written in ids, so that `normalized` is known by rule, and text and ids prove each other.
    Where not (unknown tokens, white space that is dropped), `normalized` is what the ids of a text decode to.
    drops: what cannot be spelt may leave no id behind, so that `dropped` must be asked.
    """

    vocabulary: Vocabulary
    prefix_only_at_start: bool = False
    spells: bool = True
    drops: bool = False

    @abstractmethod
    def encode(self, *, texts: pa.LargeStringArray, opens: bool, exact: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Encode runs of text between control tokens.

        Args:
            texts: large_string [runs], without nulls.
            opens: True where the runs stand at the start or after a control token (there SentencePiece puts its dummy
                space), False where they go on from text.
            exact: use the reference tokenizer instead of the fast one.
        Returns: ids uint32 [tokens] and offsets int64 [runs + 1].
        """

    @abstractmethod
    def normalized(self, *, texts: pa.LargeStringArray, opens: bool) -> pa.LargeStringArray:
        """Reduce runs of text to what their ids keep: `decode_runs(encode(texts)) == normalized(texts)`, whatever the
        text.

        Worked out from the texts where it can be, so that it proves ids, not they it. Args: as for `encode`.
        """

    def dropped(self, *, texts: pa.LargeStringArray, opens: bool) -> np.ndarray:
        """Return bool [texts]: of which runs of text a part is neither in the ids nor told by the unknown token.

        Args: as for `encode`.
        """
        import numpy as np

        return np.zeros(len(texts), dtype=bool)

    def changed(self, *, texts: pa.LargeStringArray) -> np.ndarray:
        """Return bool [texts]: which contents of messages are other texts once the tokenizer's normalizer has been
        at them."""
        import numpy as np

        return np.zeros(len(texts), dtype=bool)

    @abstractmethod
    def decode_runs(self, *, ids: np.ndarray, offsets: np.ndarray, opens: bool) -> pa.LargeStringArray:
        """Invert `encode`: decode each run of ids, without the dummy prefix of runs that open.

        Args:
            ids: integers [tokens], none of a control token but the unknown one; offsets: int64 [runs + 1].
        """

    @abstractmethod
    def decode(self, *, ids: np.ndarray) -> str:
        """Decode ids to text, control tokens included."""

    def decode_spans(self, *, ids: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> list[str]:
        """Decode each span of ids by itself, as `decode` does.

        Args:
            ids: integers [tokens]. starts, stops: int64 [spans] into them; spans may overlap.
        """
        spans = zip(starts.tolist(), stops.tolist(), strict=True)
        return [self.decode(ids=ids[start:stop]) for start, stop in spans]

    @abstractmethod
    def verdict(self) -> str:
        """Compare the fast tokenizer with the reference on texts made to part them, in a sentence for the lock."""
