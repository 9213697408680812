"""The text that decoding gives back, computed from the text itself.

A tokenizer changes a text before cutting it: it composes accents, lowers case, writes spaces as signs, swallows a space
where it puts its own. The result is known without looking at ids, so it can prove them. Where the rule does not know
it, the rule says so and the caller reads ids back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_plugins.tokenizers.hf.reference_engine import Reference
from orca_plugins.tokenizers.hf.tokenizer_json import (
    Definition,
    added_tokens,
    for_runs,
    model_vocabulary,
    prefix_schemes,
)

if TYPE_CHECKING:
    import pyarrow as pa

_SPACE = "\u2581"
_FORMS = frozenset({"NFC", "NFD", "NFKC", "NFKD"})
"""Normalizers that leave ASCII alone."""


class NormalRule:
    """The rule for runs that open, or for those that go on.

    Attributes:
        holds: the model can spell every text. Whoever makes a rule also tries it on texts, and clears this if it fails.
    """

    def __init__(self, definition: Definition, reference: Reference, *, opens: bool) -> None:
        """reference: loaded with `for_runs(definition, opens=opens)`."""
        runs = for_runs(definition, opens=opens)
        self.holds = spells_everything(definition)
        self._reference = reference
        self._steps = [step for step in _steps(runs.get("normalizer")) if not _is_undone(step)]
        self._signs = _SPACE in str(definition.get("decoder"))
        schemes = prefix_schemes(definition)
        prepends = any(step["type"] == "Prepend" for step in _steps(runs.get("normalizer")))
        # A Prepend that does not run, because the normalizer is skipped, leaves nothing to take away.
        self._strips = bool(opens and schemes and not (prepends and not self._steps))
        plain = not (self._steps or self._signs or schemes)
        self._takers = [
            token["content"]
            for token in added_tokens(definition)
            if not token["special"] and (not plain or token.get("lstrip") or token.get("rstrip"))
        ]

    def doubtful(self, texts: pa.LargeStringArray) -> np.ndarray:
        """Return bool [texts]: where the rule does not say what is given back."""
        if not self._takers or not len(texts):
            return np.zeros(len(texts), dtype=bool)
        import polars as pl

        column: Any = pl.from_arrow(texts)
        return np.asarray(column.str.contains_any(self._takers).to_numpy(), dtype=bool)

    def apply(self, texts: pa.LargeStringArray) -> pa.LargeStringArray:
        """Compute the texts as they are given back; the same array where nothing changes any text."""
        import pyarrow.compute as pc

        normal = self._normal(texts) if self._steps else texts
        # A look costs less than a copy, and few texts hold the sign.
        if self._signs and pc.any(pc.match_substring(normal, _SPACE)).as_py():
            normal = pc.replace_substring(normal, _SPACE, " ")
        if self._strips and pc.any(pc.starts_with(normal, " ")).as_py():
            normal = pc.if_else(pc.starts_with(normal, " "), pc.utf8_slice_codeunits(normal, 1), normal)
        return normal

    def changes(self, texts: pa.LargeStringArray) -> np.ndarray:
        """Return bool [texts]: what the normalizer makes another text of, the sign for a space among it."""
        import polars as pl

        found = np.zeros(len(texts), dtype=bool)
        column: Any = pl.from_arrow(texts)
        if self._signs:
            found |= column.str.contains(_SPACE, literal=True).to_numpy()
        if self._steps:
            places = np.flatnonzero(self._changeable(column))
            asked = column.gather(places).to_list()
            same = [text == normal for text, normal in zip(asked, self._reference.normal(asked), strict=True)]
            found[places[~np.array(same, dtype=bool)]] = True
        return found

    def _changeable(self, column: Any) -> np.ndarray:
        """Return bool [texts]: which the normalizer must be asked about; forms of Unicode are known without it."""
        forms = {step["type"] for step in self._steps}
        if len(forms) == 1 and forms <= _FORMS:
            # ASCII is the same in all four forms: only other texts need a look.
            foreign = (column.str.len_bytes() != column.str.len_chars()).to_numpy()
            other = column.filter(foreign)
            foreign[foreign] = (other.str.normalize(forms.pop()) != other).to_numpy()
            return np.asarray(foreign)
        return np.ones(len(column), dtype=bool)

    def _normal(self, texts: pa.LargeStringArray) -> pa.LargeStringArray:
        import pyarrow as pa
        import pyarrow.compute as pc

        if {step["type"] for step in self._steps} <= _FORMS and not self._strips:
            changeable = pc.not_equal(pc.binary_length(texts), pc.utf8_length(texts))
            found = self._reference.normal(texts.filter(changeable).to_pylist())
            return pc.replace_with_mask(texts, changeable, pa.array(found, type=texts.type)) if found else texts
        return pa.array(self._reference.normal(texts.to_pylist()), type=texts.type)


def spells_everything(definition: Definition) -> bool:
    """Tell whether every byte has a token: the byte-level alphabet, or byte fallback with all of its tokens."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary = model_vocabulary(definition)
    if any(step["type"] == "ByteLevel" for step in _steps(definition.get("pre_tokenizer"))):
        return all(sign in vocabulary for sign in ByteLevel.alphabet())
    return bool(definition["model"].get("byte_fallback")) and all(
        f"<0x{byte:02X}>" in vocabulary for byte in range(256)
    )


def _is_undone(step: dict[str, Any]) -> bool:
    """Tell whether the decoder takes a step back: a dummy prefix, or the sign for a space."""
    if step["type"] == "Prepend":
        return True
    return bool(step["type"] == "Replace" and step["pattern"] == {"String": " "} and step["content"] == _SPACE)


def _steps(step: Any) -> Iterator[dict[str, Any]]:
    """Yield the steps of a normalizer or pre-tokenizer, with sequences flattened."""
    if not isinstance(step, dict):
        return
    if step.get("type") != "Sequence":
        yield step
        return
    for inner in step.get("normalizers") or step.get("pretokenizers") or []:
        yield from _steps(inner)
