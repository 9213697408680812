"""A loaded tokenizer: two engines on one definition, the fast one used only where it was seen to equal the reference.

The fast engine is tried on texts made to part it from the reference when a process first encodes, because its code
differs between processors; where it cannot load the definition, or differs on one text, the reference does everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from orca_plugins.tokenizers.hf.engines import Engines, column_of
from orca_plugins.tokenizers.hf.id_bytes import Spelling
from orca_plugins.tokenizers.hf.normalizer import NormalRule, spells_everything
from orca_plugins.tokenizers.hf.probe_texts import probes
from orca_plugins.tokenizers.hf.reference_engine import EMPTY_MODEL, Reference
from orca_plugins.tokenizers.hf.tokenizer_json import (
    Definition,
    control_tokens,
    dump,
    for_decoding,
    for_runs,
    prefix_schemes,
    unknown_token,
    without_control,
)
from orca_plugins.tokenizers.hf.unspelt import Unspelt, drops
from orca_recipes.contract.kinds import Encoder, Vocabulary
from orca_recipes.errors import TokenizerError

if TYPE_CHECKING:
    import pyarrow as pa

# Each is probed in many texts, and a vocabulary may have hundreds of reserved tokens that are all treated alike.
_PROBED_TOKENS = 40
_BATCH = 1 << 14
_FEW = 2048
"""So few texts are encoded by the reference before the fast tokenizer, which checks itself first, is loaded."""


class HFEncoder(Encoder):
    """A tokenizer.json, ready to encode runs of text.

    Attributes:
        prefix_only_at_start: the tokenizer puts its dummy prefix at the very start of a text and not after control
            tokens, so that only a run at the very start opens.
    """

    def __init__(self, definition: Definition, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._puts_prefix = bool(prefix_schemes(definition))
        self.prefix_only_at_start = prefix_schemes(definition) == {"first"}
        self._definition = definition
        self._engines: dict[bool, Engines] = {}
        self._rules: dict[bool, NormalRule] = {}
        self._unspelt: dict[bool, Unspelt] = {}
        self._read_ids = 0

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
        """Compute the text that decoding gives back, as `Encoder.normalized` says.

        By rule: the text after the normalizer, with "▁" as a space, less a leading space that the dummy prefix
        swallows. By reading ids back: for texts with an added token that takes white space along or gets a prefix
        before it; and for all texts of a tokenizer that cannot spell everything, or was seen to give back something
        else than the rule: there an unknown token is its own text, and dropped text is missing.
        """
        rule = self._rule(opens)
        if not rule.holds:
            return self._read_back(texts, opens)
        doubtful = rule.doubtful(texts)
        if not doubtful.any():
            return rule.apply(texts)
        return _replaced(rule.apply(texts), doubtful, self._read_back(texts.filter(_mask(doubtful)), opens))

    @cached_property
    def spells(self) -> bool:  # type: ignore[override]
        """Tell whether ids give every text back as the rule says."""
        # A tokenizer that strips the ends of text cannot go on from text: asked for that kind, it refuses.
        kinds_of_run = (True,) if self._strips else (True, False)
        return all(self._rule(opens).holds for opens in kinds_of_run)

    @cached_property
    def drops(self) -> bool:  # type: ignore[override]
        """Tell whether unspellable text may leave no id behind."""
        return drops(self._definition) and not spells_everything(self._definition)

    def dropped(self, *, texts: pa.LargeStringArray, opens: bool) -> np.ndarray:
        """Mark the texts of which a part left no id behind, as `Encoder.dropped` says."""
        if not self.drops:
            return super().dropped(texts=texts, opens=opens)
        if opens not in self._unspelt:
            self._unspelt[opens] = Unspelt(for_runs(self._runs, opens=opens))
        return self._unspelt[opens].holds(texts)

    def changed(self, *, texts: pa.LargeStringArray) -> np.ndarray:
        """Mark the texts that the normalizer changes, as `Encoder.changed` says."""
        return self._normalizer.changes(texts)

    def decode_runs(self, *, ids: np.ndarray, offsets: np.ndarray, opens: bool) -> pa.LargeStringArray:
        """Decode each run, as `Encoder.decode_runs` says; a leading space that Metaspace takes for its prefix is lost,
        as in the reference.

        Many ids are read by a table of what each spells, checked against the reference; the reference reads the rest.
        """
        strips = opens and self._puts_prefix
        spelling = self._spelling_for(len(ids))
        if spelling is None:
            return column_of(self._read_by_reference(ids, offsets, np.arange(len(offsets) - 1), strips))
        texts, unsure = spelling.texts(ids=ids, offsets=offsets, strips=strips)
        if not len(unsure):
            return texts
        found = column_of(self._read_by_reference(ids, offsets, unsure, strips))
        places = np.zeros(len(texts), dtype=bool)
        places[unsure] = True
        return _replaced(texts, places, found)

    def decode(self, *, ids: np.ndarray) -> str:
        """Decode ids to text, control tokens included; a run that opens loses the dummy prefix that was put before it.

        A leading space that the tokenizer cannot tell from its prefix (Metaspace) is lost, as in the reference.
        """
        ids = np.asarray(ids, dtype=np.int64)
        is_control = self._forbidden[ids]
        spelling = self._spelling_for(0)
        text = (
            None
            if spelling is None
            else spelling.whole(ids, self._opening(is_control, np.zeros(min(len(ids), 1), dtype=np.int64)))
        )
        return self._decoded(ids, is_control) if text is None else text

    def decode_spans(self, *, ids: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> list[str]:
        """Decode each span by itself, as `Encoder.decode_spans` says: all at once by the table, where there is one."""
        lengths = stops - starts
        offsets = np.append(0, np.cumsum(lengths))
        spelling = self._spelling_for(int(offsets[-1]))
        if spelling is None:
            return super().decode_spans(ids=ids, starts=starts, stops=stops)
        spans = ids[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)].astype(np.int64)
        is_control = self._forbidden[spans]
        texts, unsure = spelling.wholes(spans, offsets, self._opening(is_control, offsets[:-1][lengths > 0]))
        found: list[str] = texts.to_pylist()
        for place in unsure.tolist():
            span = slice(*offsets[place : place + 2])
            found[place] = self._decoded(spans[span], is_control[span])
        return found

    def _opening(self, is_control: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Find the places of ids where text loses the dummy prefix: at starts of texts, and behind control tokens.

        Args:
            starts: int64, of texts that hold an id.
        """
        if not self._puts_prefix or not len(is_control):
            return np.empty(0, dtype=np.int64)
        if self.prefix_only_at_start:
            return np.asarray(starts[~is_control[starts]])
        behind = np.append(True, is_control[:-1])
        behind[starts] = True
        return np.flatnonzero(~is_control & behind)

    def _decoded(self, ids: np.ndarray, is_control: np.ndarray) -> str:
        bounds = np.flatnonzero(np.diff(is_control, prepend=False, append=False))
        parts = [part.tolist() for part in np.split(ids, bounds)]
        texts = self._texts_of(parts[::2])
        if self._puts_prefix:
            opening = [place == 0 or not self.prefix_only_at_start for place in range(len(texts))]
            texts = [text.removeprefix(" ") if opens else text for text, opens in zip(texts, opening, strict=True)]
        controls = ["".join(map(self._control_texts.__getitem__, part)) for part in parts[1::2]]
        return "".join(piece for pair in zip_longest(texts, controls, fillvalue="") for piece in pair)

    def verdict(self) -> str:
        """Describe the engine in use: the fast tokenizer, or the reference and why."""
        return f"reference: {self.why}" if self.why else "fast, equal to the reference"

    @property
    def fast(self) -> bool:
        """Tell whether the fast tokenizer encodes, rather than the reference."""
        return not self.why

    @property
    def why(self) -> str:
        """Return the reason why the reference encodes; empty where the fast tokenizer does."""
        kinds_of_run = (True,) if self._strips else (True, False)
        reasons = dict.fromkeys(self._engines_for(opens).why for opens in kinds_of_run)
        return "; ".join(filter(None, reasons))

    @cached_property
    def _normalizer(self) -> NormalRule:
        """Return the rule for text that goes on, of the normalizer alone: no model is loaded for it."""
        # Loading a model takes seconds, and the normalizer needs none.
        alone = for_runs({**self._runs, "model": EMPTY_MODEL, "added_tokens": []}, opens=False)
        return NormalRule(self._runs, Reference(alone), opens=False)

    def _rule(self, opens: bool) -> NormalRule:
        if opens not in self._rules:
            rule = NormalRule(self._runs, self._engines_for(opens).reference, opens=opens)
            texts = column_of(probes(self._probed_tokens))
            sure = texts.filter(_mask(~rule.doubtful(texts)))
            # The rule was read off the definition: a tokenizer that gives back something else is read back text by
            # text.
            rule.holds = rule.holds and rule.apply(sure).equals(self._read_back(sure, opens))
            self._rules[opens] = rule
        return self._rules[opens]

    def _read_back(self, texts: pa.LargeStringArray, opens: bool) -> pa.LargeStringArray:
        ids, offsets = self.encode(texts=texts, opens=opens, exact=len(texts) < _FEW)
        return self.decode_runs(ids=ids, offsets=offsets, opens=opens)

    def _read_by_reference(self, ids: np.ndarray, offsets: np.ndarray, runs: np.ndarray, strips: bool) -> list[str]:
        """Decode some runs by the reference, without their leading space where strips."""
        texts: list[str] = []
        for start in range(0, len(runs), _BATCH):
            chosen = runs[start : start + _BATCH].tolist()
            texts += self._decoder.decode([ids[offsets[run] : offsets[run + 1]].tolist() for run in chosen])
        return [text.removeprefix(" ") for text in texts] if strips else texts

    def _texts_of(self, parts: Sequence[Sequence[int]]) -> list[str]:
        spelling = self._spelling_for(sum(map(len, parts)))
        if spelling is not None:
            texts = [spelling.text(part) for part in parts]
            if None not in texts:
                return [text for text in texts if text is not None]
        return self._decoder.decode(parts)

    def _spelling_for(self, ids: int) -> Spelling | None:
        """Return the table of the bytes of ids, None until enough ids were read for making it to pay."""
        self._read_ids += ids
        # Making the table decodes every id once: it pays only after as many were read.
        return self._spelling if self._read_ids > self.vocabulary.size else None

    def _engines_for(self, opens: bool) -> Engines:
        if not opens and self._strips:
            raise TokenizerError(
                "the tokenizer strips white space at the ends of text, so that an answer cannot go on from the text "
                "before it; choose a template whose generation prompt ends with a control token"
            )
        if opens not in self._engines:
            other = self._engines.get(not opens)
            # Without a dummy prefix a run encodes alike wherever it stands: one engine does for both, and a model is
            # loaded once.
            same = other is not None and not self._puts_prefix
            self._engines[opens] = other if other is not None and same else self._loaded(opens, other)
        return self._engines[opens]

    def _loaded(self, opens: bool, other: Engines | None) -> Engines:
        sibling = None if other is None else other.reference
        return Engines(for_runs(self._runs, opens=opens), self._model, self._probed_tokens, sibling)

    @cached_property
    def _runs(self) -> Definition:
        return without_control(self._definition)

    @cached_property
    def _model(self) -> str:
        return dump(self._runs["model"])

    @property
    def _probed_tokens(self) -> list[str]:
        return [*self.vocabulary.control, *self.vocabulary.other_added][:_PROBED_TOKENS]

    def _refuse_strangers(self, ids: np.ndarray) -> None:
        """Refuse ids of plain text that are control tokens or past the vocabulary."""
        if not len(ids):
            return
        # Two numbers tell of nearly all texts that they hold no control token: a gather over millions of ids is left
        # out.
        low, high = int(ids.min()), int(ids.max())
        if high >= self.vocabulary.size:
            raise TokenizerError(f"the tokenizer gave id {high}, past its vocabulary of {self.vocabulary.size}")
        if not self._forbidden[low : high + 1].any():  # control tokens stand at the ends of most vocabularies
            return
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
        """Return bool [vocabulary]: control tokens, but for the one that stands for what the model cannot spell."""
        forbidden = np.zeros(self.vocabulary.size, dtype=bool)
        forbidden[self._control_ids] = True
        return forbidden

    @cached_property
    def _control_texts(self) -> dict[int, str]:
        return {token: text for text, token in control_tokens(self._definition).items()}

    @cached_property
    def _control_ids(self) -> np.ndarray:
        """Return int64: ids of control tokens, but for the one that stands for what the model cannot spell."""
        unknown = unknown_token(self._definition)
        return np.array(sorted(token for token, text in self._control_texts.items() if text != unknown), dtype=np.int64)

    @property
    def _decoder(self) -> Reference:
        return self._engines_for(True).reference

    @cached_property
    def _spelling(self) -> Spelling | None:
        control = {token: self._control_texts[token] for token in self._control_ids.tolist()}
        return Spelling.of(for_decoding(self._runs), self._decoder, self.vocabulary.size, control)


def _mask(chosen: np.ndarray) -> pa.BooleanArray:
    import pyarrow as pa

    return pa.array(chosen)


def _replaced(texts: pa.LargeStringArray, places: np.ndarray, found: pa.LargeStringArray) -> pa.LargeStringArray:
    """Replace the texts at the places by those found."""
    import pyarrow.compute as pc

    return pc.replace_with_mask(texts, _mask(places), found)
