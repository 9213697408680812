"""The tokenizer.json that is shipped: every control token in it, under the id that every library gives it.

The tokenizers library numbers added tokens itself, from the end of the vocabulary on, and warns where a file says
otherwise; a file where the two differ is refused here, because shards would hold other ids than inference sees.
Control tokens are matched in the raw text (`normalized` off), so that what a normalizer does to text never hides one.
"""

from collections.abc import Iterable
from typing import Any

from orca_plugins.tokenizers.hf.reference_engine import EMPTY_MODEL, Reference
from orca_plugins.tokenizers.hf.tokenizer_config import DeclaredToken
from orca_plugins.tokenizers.hf.tokenizer_json import (
    Definition,
    added_tokens,
    for_runs,
    model_vocabulary,
)
from orca_recipes.errors import TokenizerError


def assemble(definition: Definition, declared: Iterable[DeclaredToken]) -> Definition:
    """Add the declared tokens to the definition, and take truncation and padding out.

    A declared token that exists becomes special where the declaration says so; any other is appended at the end of the
    vocabulary.

    Raises: TokenizerError where ids do not agree, or the tokenizer puts text before runs in an unknown way.
    """
    vocabulary = model_vocabulary(definition)
    tokens = {token["content"]: dict(token) for token in added_tokens(definition)}
    for wanted in declared:
        if not wanted.content:
            raise TokenizerError("an added token is empty; give it a text")
        token = tokens.setdefault(wanted.content, _new_token(wanted, _next_id(wanted, vocabulary, tokens)))
        token["special"] = bool(token.get("special")) or wanted.special
        if wanted.id not in (None, token["id"]):
            raise TokenizerError(
                f"the tokenizer's files give {wanted.content} two ids, {wanted.id} and {token['id']}; "
                "save the tokenizer anew with transformers"
            )
    for token in tokens.values():
        token["normalized"] = bool(token.get("normalized")) and not token["special"]
    whole = {**definition, "truncation": None, "padding": None}
    whole["added_tokens"] = sorted(tokens.values(), key=lambda token: int(token["id"]))
    _check_ids(whole)
    _check_prefix(whole)
    return whole


def _next_id(wanted: DeclaredToken, vocabulary: Any, tokens: dict[str, dict[str, Any]]) -> int:
    """Choose an id as the tokenizers library does: the model's own, else one more than the largest there is."""
    if wanted.content in vocabulary:
        return int(vocabulary[wanted.content])
    return max(len(vocabulary), 1 + max((token["id"] for token in tokens.values()), default=-1))


def _new_token(wanted: DeclaredToken, place: int) -> dict[str, Any]:
    return {
        "id": place,
        "content": wanted.content,
        "single_word": wanted.single_word,
        "lstrip": wanted.lstrip,
        "rstrip": wanted.rstrip,
        "normalized": False,
        "special": wanted.special,
    }


def _check_ids(definition: Definition) -> None:
    reference = Reference(definition)
    owners = {place: text for text, place in model_vocabulary(definition).items()}
    for token in added_tokens(definition):
        text, place = token["content"], token["id"]
        found = reference.id_of(text)
        if found != place:
            raise TokenizerError(
                f"the tokenizer.json gives {text} id {place}, where the tokenizers library gives it {found}: "
                "its vocabulary has holes or its added tokens are out of order; save the tokenizer anew"
            )
        if owners.get(place, text) != text:
            raise TokenizerError(f"the tokenizer.json gives {text} and {owners[place]} one id, {place}; save it anew")


def _check_prefix(definition: Definition) -> None:
    """Check that a run continuing a text gets nothing before it, once the known steps for a prefix are gone.

    A prefix is put before the model sees a text, so no model is loaded for this.
    """
    if Reference(for_runs({**definition, "model": EMPTY_MODEL, "added_tokens": []}, opens=False)).puts_before_text():
        raise TokenizerError("the tokenizer puts a space before text in a way that is not known here; use another one")
