"""The end of a trained answer, named alike wherever inference looks for it.

A model is trained to print a whole terminator, which may hold several control tokens and text between them; whoever
generates stops at one token, which must be the last of them. Tokenizer, generation settings and manifest all name it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orca_recipes.contract.kinds import Encoder, Vocabulary
from orca_recipes.contract.markup import Markup
from orca_recipes.errors import TemplateError

_AFTER_TEXT = ("BertProcessing", "RobertaProcessing")


@dataclass(frozen=True)
class Ending:
    """ids: the tokens that end every complete trained turn, from the terminator's first control token on (text before
    it is encoded with the answer). token: the control token at which generation stops. pad: the one that fills rows.
    others: tokens that end turns alone: further ones (of gpt-oss the one behind a call), and `token` itself where what
    stands before it differs."""

    ids: tuple[int, ...]
    token: str
    pad: str
    others: tuple[int, ...] = ()

    @property
    def terminators(self) -> tuple[tuple[int, ...], ...]:
        """Return the ids that end complete trained turns, in each of their ways."""
        return (self.ids, *((token,) for token in self.others))

    def named(self, vocabulary: Vocabulary) -> Vocabulary:
        """Return the vocabulary as it is shipped: its end of text is the end of an answer, and its pad has a name."""
        return replace(vocabulary, eos=self.token, pad=self.pad)


def ending_of(markup: Markup, encoder: Encoder) -> Ending:
    """Find the tokens that end an answer. Raises: TemplateError where there is none that generation could stop at."""
    vocabulary, text = encoder.vocabulary, markup.terminator
    found = list(_control_texts(vocabulary).finditer(text))
    if not found or found[-1].end() != len(text):
        raise TemplateError(
            f"the template ends an answer by {text!r}, which does not end in a control token of the "
            "tokenizer, so that a student would not learn to stop; add the token by `add_special_tokens` in [tokenizer]"
        )
    last = found[-1].group()
    if any(match.group() == last for match in found[:-1]) or last in markup.answer_prefix:
        raise TemplateError(
            f"the template trains {last} before an answer's end as well as there (it ends answers by {text!r} and "
            f"begins them by {markup.answer_prefix!r}), so that generation would stop too early; use the template kind "
            "chatml or plain"
        )
    ids, end = [], found[0].start()
    for match in found:
        ids += _ids_of(text[end : match.start()], encoder)
        ids.append(vocabulary.control[match.group()])
        end = match.end()
    ends = () if markup.rendering is None else markup.rendering.ends[1:]
    others = tuple(vocabulary.control[text] for text in ends if text != last or len(ids) > 1)
    return Ending(tuple(ids), last, vocabulary.pad or vocabulary.eos or last, others)


def without_added_end(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json that adds no token after a text.

    Some put a token there that ended texts once (`</s>`, `[SEP]`): a prompt that is encoded as plain text would carry
    an end that no answer was trained to have.
    """
    return {**definition, "post_processor": _before_text(definition.get("post_processor"))}


def _before_text(processor: Any) -> Any:
    """Reduce a post-processor to the tokens it adds before a text; None where there are none."""
    if not isinstance(processor, dict):
        return processor
    if processor.get("type") == "Sequence":
        return {**processor, "processors": [found for found in map(_before_text, processor["processors"]) if found]}
    if processor.get("type") in _AFTER_TEXT:
        text, token = processor["cls"]
        begins = [{"SpecialToken": {"id": text, "type_id": 0}}]
        told = {"id": text, "ids": [token], "tokens": [text]}
        return _template(begins, {text: told})
    if processor.get("type") != "TemplateProcessing":
        return processor
    parts = processor["single"]
    sequence = next((place for place, part in enumerate(parts) if "Sequence" in part), len(parts))
    if sequence >= len(parts) - 1 and not _ends_with_token(processor["pair"]):
        return processor
    return _template(parts[:sequence], processor["special_tokens"])


def _ends_with_token(parts: list[Any]) -> bool:
    return bool(parts) and "SpecialToken" in parts[-1]


def _template(begins: list[Any], tokens: Mapping[str, Any]) -> dict[str, Any]:
    texts = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
    used = {part["SpecialToken"]["id"] for part in begins}
    return {
        "type": "TemplateProcessing",
        "single": [*begins, texts[0]],
        "pair": [*begins, *texts],
        "special_tokens": {text: token for text, token in tokens.items() if text in used},
    }


def _ids_of(text: str, encoder: Encoder) -> list[int]:
    """Encode a text that follows a control token."""
    import pyarrow as pa

    if not text:
        return []
    texts = pa.array([text], type=pa.large_string())
    ids, _ = encoder.encode(texts=texts, opens=not encoder.prefix_only_at_start, exact=True)
    return [int(token) for token in np.asarray(ids)]


def _control_texts(vocabulary: Vocabulary) -> re.Pattern[str]:
    # re takes the first alternative that fits, and one token's text may begin another's.
    longest_first = sorted(vocabulary.control, key=lambda text: (-len(text), text))
    # (?!) never matches; an empty pattern would match everywhere.
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
