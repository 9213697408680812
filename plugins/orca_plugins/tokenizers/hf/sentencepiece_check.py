"""A converted SentencePiece model against SentencePiece itself.

Equal rules need not give equal ids (ties of scores, normalizers that work on other units), so a model is used only
after both gave the same ids on texts made to part them. Texts that hold a control token's text are left out: pieces of
that name are none that SentencePiece makes of text, and the definition for runs has its own way to see to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orca_plugins.tokenizers.hf.engines import first_difference
from orca_plugins.tokenizers.hf.probe_texts import probes
from orca_plugins.tokenizers.hf.reference_engine import Reference
from orca_plugins.tokenizers.hf.tokenizer_json import Definition, added_tokens, control_tokens, for_runs
from orca_recipes.errors import TokenizerError

if TYPE_CHECKING:
    import pyarrow as pa


def sentencepiece_names(data: bytes, definition: Definition, name: str) -> dict[str, str]:
    """Return the named tokens of a `.model`, after its conversion was seen to give SentencePiece's ids.

    Raises: TokenizerError, with the text that shows the difference.
    """
    processor = _loaded(data, name)
    control = control_tokens(definition)
    others = [token["content"] for token in added_tokens(definition) if not token["special"]]
    texts = [text for text in probes(others) if not any(token in text for token in control)]
    ours = Reference(for_runs(definition, opens=True)).encode(_column(texts))
    place = first_difference(ours, _encode(processor, texts))
    if place is not None:
        raise TokenizerError(
            f"{name} gives other ids as a tokenizer.json than SentencePiece does, for the text {texts[place][:60]!r}; "
            "name its tokenizer.json instead, where it has one"
        )
    ids = {"bos_token": processor.bos_id(), "eos_token": processor.eos_id(), "pad_token": processor.pad_id()}
    return {key: processor.id_to_piece(place) for key, place in ids.items() if place >= 0}


def _loaded(data: bytes, name: str) -> Any:
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=data)
    except RuntimeError as fault:
        raise TokenizerError(f"SentencePiece cannot load {name}: {fault}") from None


def _encode(processor: Any, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    encoded = [np.array(ids, dtype=np.uint32) for ids in processor.encode(texts)]
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in encoded])]).astype(np.int64)
    return np.concatenate(encoded), offsets


def _column(texts: list[str]) -> pa.LargeStringArray:
    import pyarrow as pa

    return pa.array(texts, type=pa.large_string())
