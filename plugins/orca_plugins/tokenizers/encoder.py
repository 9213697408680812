"""A loaded tokenizer: two engines on one definition, the fast one used only where it was seen to equal the reference.

The fast engine is tried on texts made to part it from the reference when a process first encodes, because its code
differs between processors; where it cannot load the definition, or differs on one text, the reference does everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from orca_plugins.tokenizers.definition import (
    Definition,
    control_tokens,
    dump,
    for_decoding,
    for_runs,
    prefix_schemes,
    unknown_token,
)
from orca_plugins.tokenizers.fast import Fast, Unsupported
from orca_plugins.tokenizers.normal import NormalRule
from orca_plugins.tokenizers.probes import probes
from orca_plugins.tokenizers.reference import Reference
from orca_recipes.contract.kinds import Encoder, Vocabulary
from orca_recipes.errors import TokenizerError

if TYPE_CHECKING:
    import pyarrow as pa

_PROBED_TOKENS = 40
_BATCH = 1 << 14


class HFEncoder(Encoder):
    """A tokenizer.json, ready to encode runs of text.

    Attributes:
        prefix_only_at_start: the tokenizer puts its dummy prefix at the very start of a text and not after control
            tokens, so that only a run at the very start opens.
    """

    def __init__(self, definition: Definition, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.prefix_only_at_start = prefix_schemes(definition) == {"first"}
        self._definition = definition
        self._engines: dict[bool, _Engines] = {}
        self._rules: dict[bool, NormalRule] = {}

    def encode(self, *, texts: pa.LargeStringArray, opens: bool, exact: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Encode runs of text between control tokens, as `Encoder.encode` says.

        Raises: TokenizerError where a text would become a control token, or the ends of a run that goes on from text
            would be stripped.
        """
        engines = self._engines_for(opens)
        ids, offsets = engines.reference.encode(texts) if exact else engines.encode(texts)
        self._refuse_strangers(ids)
        return ids, offsets

    def normalized(self, *, texts: pa.LargeStringArray, opens: bool) -> pa.LargeStringArray:
        """What decoding gives back, as `Encoder.normalized` says.

        By rule: the text after the normalizer, "▁" as the space that it stands for, less a leading space that the dummy
        prefix swallows. By reading ids back, for texts with an added token that takes white space along or before which
        a prefix is put; and for all texts of a tokenizer that cannot spell everything, or that was seen to give back
        something else than the rule says: there an unknown token is its own text, and what is dropped is not there.
        """
        rule = self._rule(opens)
        if not rule.holds:
            return self._read_back(texts, opens)
        doubtful = rule.doubtful(texts)
        if not doubtful.any():
            return rule.apply(texts)
        return _replaced(rule.apply(texts), doubtful, self._read_back(texts.filter(_mask(doubtful)), opens))

    @property
    def spells(self) -> bool:  # type: ignore[override]
        """Whether ids give every text back as the rule says."""
        kinds_of_run = (True,) if self._strips else (True, False)
        return all(self._rule(opens).holds for opens in kinds_of_run)

    def decode_runs(self, *, ids: np.ndarray, offsets: np.ndarray, opens: bool) -> list[str]:
        """The text of each run, as `Encoder.decode_runs` says; a leading space that Metaspace takes for its prefix is
        lost, as in the reference."""
        flat, bounds = ids.tolist(), offsets.tolist()
        texts: list[str] = []
        for start in range(0, len(bounds) - 1, _BATCH):
            stop = min(start + _BATCH, len(bounds) - 1)
            texts += self._decoder.decode([flat[bounds[run] : bounds[run + 1]] for run in range(start, stop)])
        return [text.removeprefix(" ") for text in texts] if opens and prefix_schemes(self._definition) else texts

    def decode(self, *, ids: np.ndarray) -> str:
        """Text of ids, control tokens included; a run that opens loses the dummy prefix that was put before it.

        A leading space that the tokenizer does not tell from its prefix (Metaspace) is lost, as in the reference.
        """
        ids = np.asarray(ids, dtype=np.int64)
        is_control = np.isin(ids, self._control_ids)
        bounds = np.flatnonzero(np.diff(is_control, prepend=False, append=False))
        texts = np.split(ids, bounds)
        decoded = self._decoder.decode([part.tolist() for part in texts])
        prefixes = bool(prefix_schemes(self._definition))
        parts = []
        for place, (part, text) in enumerate(zip(texts, decoded, strict=True)):
            if place % 2:
                parts.append("".join(self._control_texts[token] for token in part.tolist()))
            else:
                opens = place == 0 or not self.prefix_only_at_start
                parts.append(text.removeprefix(" ") if prefixes and opens else text)
        return "".join(parts)

    def verdict(self) -> str:
        """Whether the fast tokenizer is used, and if not, why."""
        return f"reference: {self.why}" if self.why else "fast, equal to the reference"

    @property
    def fast(self) -> bool:
        """Whether the fast tokenizer encodes, rather than the reference."""
        return not self.why

    @property
    def why(self) -> str:
        """Why the reference encodes; empty where the fast tokenizer does."""
        kinds_of_run = (True,) if self._strips else (True, False)
        reasons = dict.fromkeys(self._engines_for(opens).why for opens in kinds_of_run)
        return "; ".join(filter(None, reasons))

    def _rule(self, opens: bool) -> NormalRule:
        if opens not in self._rules:
            rule = NormalRule(self._definition, self._engines_for(opens).reference, opens=opens)
            texts = _column(probes(self._probed_tokens))
            sure = texts.filter(_mask(~rule.doubtful(texts)))
            rule.holds = rule.holds and rule.apply(sure).equals(self._read_back(sure, opens))
            self._rules[opens] = rule
        return self._rules[opens]

    def _read_back(self, texts: pa.LargeStringArray, opens: bool) -> pa.LargeStringArray:
        ids, offsets = self.encode(texts=texts, opens=opens)
        return _column(self.decode_runs(ids=ids, offsets=offsets, opens=opens))

    def _engines_for(self, opens: bool) -> _Engines:
        if not opens and self._strips:
            raise TokenizerError(
                "the tokenizer strips white space at the ends of text, so that an answer cannot go on from the text "
                "before it; choose a template whose generation prompt ends with a control token"
            )
        if opens not in self._engines:
            other = self._engines.get(not opens)
            same = other is not None and not prefix_schemes(self._definition)
            self._engines[opens] = other if other is not None and same else self._loaded(opens)
        return self._engines[opens]

    def _loaded(self, opens: bool) -> _Engines:
        return _Engines(for_runs(self._definition, opens=opens), probes(self._probed_tokens))

    @property
    def _probed_tokens(self) -> list[str]:
        return [*self.vocabulary.control, *self.vocabulary.other_added][:_PROBED_TOKENS]

    def _refuse_strangers(self, ids: np.ndarray) -> None:
        """Nothing that text becomes is a control token or past the vocabulary."""
        if not len(ids):
            return
        if int(ids.max()) >= self.vocabulary.size:
            raise TokenizerError(
                f"the tokenizer gave id {int(ids.max())}, past its vocabulary of {self.vocabulary.size}"
            )
        found = self._forbidden[ids]
        if found.any():
            token = self._control_texts[int(ids[found][0])]
            raise TokenizerError(
                f"the tokenizer turns plain text into its control token {token}; its model cannot be used"
            )

    @cached_property
    def _strips(self) -> bool:
        return self._engines_for(True).reference.strips_ends()

    @cached_property
    def _forbidden(self) -> np.ndarray:
        """bool [vocabulary]: control tokens, but for the one that stands for what the model cannot spell."""
        forbidden = np.zeros(self.vocabulary.size, dtype=bool)
        forbidden[self._control_ids] = True
        return forbidden

    @cached_property
    def _control_texts(self) -> dict[int, str]:
        return {token: text for text, token in control_tokens(self._definition).items()}

    @cached_property
    def _control_ids(self) -> np.ndarray:
        """int64: ids of control tokens, but for the one that stands for what the model cannot spell."""
        unknown = unknown_token(self._definition)
        return np.array(sorted(token for token, text in self._control_texts.items() if text != unknown), dtype=np.int64)

    @cached_property
    def _decoder(self) -> Reference:
        return Reference(for_decoding(self._definition))


class _Engines:
    """The engines of one definition, and whether the fast one may be used."""

    def __init__(self, definition: Definition, texts: Sequence[str]) -> None:
        self.reference = Reference(definition)
        self.why = ""
        self._fast: Fast | None = None
        try:
            self._fast = Fast(dump(definition))
            self.why = _difference(self._fast, self.reference, texts)
        except Unsupported as fault:
            self.why = f"the fast tokenizer cannot be used ({fault})"
        if self.why:
            self._fast = None

    def encode(self, texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        if self._fast is not None:
            try:
                return self._fast.encode(texts)
            except Unsupported as fault:  # whatever it gave up on, the reference gives the ids
                self._fast, self.why = None, f"the fast tokenizer gave up on a text ({fault})"
        return self.reference.encode(texts)


def _difference(fast: Fast, reference: Reference, texts: Sequence[str]) -> str:
    """Where the two differ on the texts: a sentence, or nothing."""
    place = first_difference(fast.encode(_column(texts)), reference.encode(_column(texts)))
    return "" if place is None else f"the fast tokenizer differs on {texts[place][:40]!r}"


def first_difference(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> int | None:
    """The first text that two encodings (ids, offsets) of the same texts differ on."""
    for place in range(len(ours[1]) - 1):
        left, right = (ids[offsets[place] : offsets[place + 1]] for ids, offsets in (ours, theirs))
        if not np.array_equal(left, right):
            return place
    return None


def _column(texts: Sequence[str]) -> pa.LargeStringArray:
    import pyarrow as pa

    return pa.array(texts, type=pa.large_string())


def _mask(chosen: np.ndarray) -> pa.BooleanArray:
    import pyarrow as pa

    return pa.array(chosen)


def _replaced(texts: pa.LargeStringArray, places: np.ndarray, found: pa.LargeStringArray) -> pa.LargeStringArray:
    """The texts, with those at the places replaced by what was found."""
    import pyarrow.compute as pc

    return pc.replace_with_mask(texts, _mask(places), found)
