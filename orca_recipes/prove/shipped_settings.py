"""The settings that a build ships for inference, against its manifest: ends of answers, what fills rows, the template.

Who generates reads them from `generation_config.json` and `tokenizer_config.json`; a student that was trained on other
ends than these never stops, and nothing else in a build says them again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orca_recipes.contract.kinds import Vocabulary
from orca_recipes.contract.spelling import quoted
from orca_recipes.shards.checks.verify_report import Finding
from orca_recipes.shards.manifest import Manifest

GENERATION = "tokenizer/generation_config.json"
CONFIG = "tokenizer/tokenizer_config.json"

# The class that takes a tokenizer.json as it is; another has a model family's own rules.
_PLAIN = "PreTrainedTokenizerFast"


def check_settings(directory: Path, promised: Manifest, vocabulary: Vocabulary, template: str) -> Iterator[Finding]:
    """Check both files; template is the chat template that is shipped beside them."""
    for file, expected in (
        (GENERATION, _generation(promised)),
        (CONFIG, _config(promised, vocabulary, template)),
    ):
        try:
            told = json.loads((directory / file).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            told = None
        if not isinstance(told, Mapping):
            yield Finding(file, "it is no JSON object")
            continue
        yield from _differences(file, told, expected)


def _differences(file: str, told: Mapping[str, Any], expected: Mapping[str, tuple[Any, ...]]) -> Iterator[Finding]:
    for name, allowed in expected.items():
        # By type too, for in Python 0 is False.
        if not any(type(told.get(name)) is type(one) and told.get(name) == one for one in allowed):
            said = json.dumps(told.get(name), ensure_ascii=False, default=str)
            yield Finding(file, f"it says {name} = {said}, and the build was made with {json.dumps(allowed[0])}")
    if file == GENERATION:
        for name in sorted(told.keys() - expected.keys()):
            yield Finding(file, f"it says {quoted(name)}, which no build writes")
    elif "auto_map" in told:
        yield Finding(file, "it names code to load (auto_map), which no build writes")


def _generation(promised: Manifest) -> dict[str, tuple[Any, ...]]:
    ends = list(dict.fromkeys(terminator[-1] for terminator in promised.terminators))
    bos = next((token for token in (promised.bos_id, promised.unused_bos_id) if token is not None), None)
    return {
        "eos_token_id": (ends if len(ends) > 1 else ends[0],),
        "pad_token_id": (promised.pad_id,),
        "bos_token_id": (bos,),
    }


def _config(promised: Manifest, vocabulary: Vocabulary, template: str) -> dict[str, tuple[Any, ...]]:
    texts = {token: text for text, token in vocabulary.control.items()}
    # Format 1 named the ends of a text in generation_config.json alone.
    left_out = (None,) if promised.format == 1 else ()
    return {
        "eos_token": (texts.get(promised.terminators[0][-1]), *left_out),
        "pad_token": (texts.get(promised.pad_id), *left_out),
        "chat_template": (template,),
        "tokenizer_class": (_PLAIN, None),
        "clean_up_tokenization_spaces": (False, None),
    }
