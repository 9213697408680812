"""A tokenizer.json as data, and the shapes of it that encode runs of text.

User text must never become a control token, and a run that goes on from text must get no dummy prefix. Both are made
true by changing the definition that an engine loads, not by watching texts: control tokens are taken out of it, and for
such runs the steps that put a prefix are taken out as well. The fast engine and the reference load the same definition.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from orca_recipes.errors import TokenizerError

Definition = dict[str, Any]


def parse(data: bytes, name: str) -> Definition:
    """Parse the definition in a file. Raises: TokenizerError where it is none, or not a deterministic one."""
    try:
        definition = json.loads(data)
    except ValueError as fault:
        raise TokenizerError(
            f"{name} is not JSON ({fault}); a tokenizer.json of the tokenizers library is needed"
        ) from None
    if not isinstance(definition, dict) or not isinstance(definition.get("model"), dict):
        raise TokenizerError(f"{name} has no [model]; a tokenizer.json of the tokenizers library is needed")
    if definition["model"].get("dropout"):
        raise TokenizerError(f"{name} asks for BPE dropout, which draws ids at random; set model.dropout to null in it")
    return definition


def dump(definition: Definition) -> str:
    """Write the definition as one line of JSON, the same on every machine."""
    return json.dumps(definition, ensure_ascii=False, separators=(",", ":"))


def dump_with(model: str, definition: Definition) -> str:
    """Write the definition as `dump` does, with the model's JSON given: it is nearly all of it, and the shapes for runs
    share one."""
    rest = dump({name: value for name, value in definition.items() if name != "model"})
    return f'{rest[:-1]},"model":{model}}}'


def added_tokens(definition: Definition) -> list[dict[str, Any]]:
    return list(definition.get("added_tokens") or [])


def control_tokens(definition: Definition) -> dict[str, int]:
    """Map the texts of the special added tokens to their ids."""
    return {token["content"]: token["id"] for token in added_tokens(definition) if token.get("special")}


def model_vocabulary(definition: Definition) -> Mapping[str, int]:
    """Map the texts of the model's own tokens to their ids (Unigram lists them in the order of their ids)."""
    vocabulary = definition["model"].get("vocab") or {}
    if isinstance(vocabulary, dict):
        return vocabulary
    return {entry[0]: position for position, entry in enumerate(vocabulary)}


def vocabulary_size(definition: Definition) -> int:
    """Return one more than the largest id."""
    ids = [*model_vocabulary(definition).values(), *(token["id"] for token in added_tokens(definition))]
    return max(ids, default=-1) + 1


def unknown_token(definition: Definition) -> str | None:
    """Return the token for text that the model cannot spell; None without one."""
    model = definition["model"]
    if isinstance(model.get("unk_id"), int):
        return str(model["vocab"][model["unk_id"]][0])
    unknown = model.get("unk_token")
    return unknown if isinstance(unknown, str) else None


def for_runs(definition: Definition, *, opens: bool) -> Definition:
    """Change the definition to encode runs of text.

    Args:
        opens: whether the runs begin where the tokenizer puts its dummy prefix, or go on from text.
    """
    runs = {**without_control(definition), "truncation": None, "padding": None, "post_processor": None}
    if not opens:
        runs["normalizer"] = _without_prefix(definition.get("normalizer"))
        runs["pre_tokenizer"] = _without_prefix(definition.get("pre_tokenizer"))
    return runs


def without_control(definition: Definition) -> Definition:
    """Take the control tokens out of the definition, so that no text becomes one; return the same object if it has
    none."""
    control = control_tokens(definition)
    if not control:
        return definition
    left = [token for token in added_tokens(definition) if not token.get("special")]
    return {
        **definition,
        "added_tokens": left,
        "model": _unreachable(definition["model"], control, unknown_token(definition)),
    }


def for_decoding(definition: Definition) -> Definition:
    """Change the decoder to give text back without guessing whether a leading space was a dummy prefix."""
    return {**definition, "truncation": None, "padding": None, "decoder": _keeping_the_start(definition.get("decoder"))}


def decoding_steps(definition: Definition) -> list[dict[str, Any]]:
    """List the steps of the decoder, with sequences flattened."""
    return [step for step in _steps(definition.get("decoder")) if step["type"] != "Sequence"]


def prefix_schemes(definition: Definition) -> set[str]:
    """Find when the tokenizer puts a dummy prefix before text: "always" (so after control tokens too), "first", or
    never."""
    steps = [*_steps(definition.get("normalizer")), *_steps(definition.get("pre_tokenizer"))]
    return {scheme for scheme in map(_prefix_scheme, steps) if scheme is not None}


def _steps(step: Any) -> Iterator[dict[str, Any]]:
    """Yield the steps of a normalizer, pre-tokenizer or decoder, each sequence followed by its steps."""
    if not isinstance(step, dict):
        return
    if step.get("type") != "Sequence":
        yield step
    for inner in _inner(step):
        yield from _steps(inner)


def _inner(step: dict[str, Any]) -> list[Any]:
    for name in ("normalizers", "pretokenizers", "decoders"):
        if name in step:
            return list(step[name])
    return []


def _prefix_scheme(step: dict[str, Any]) -> str | None:
    if step["type"] == "Prepend":
        return "always"
    if step["type"] == "ByteLevel":
        return "always" if step.get("add_prefix_space") else None
    if step["type"] == "Metaspace":
        if step.get("add_prefix_space") is False:
            return None
        scheme = step.get("prepend_scheme", "always")
        return None if scheme == "never" else str(scheme)
    return None


def _without_prefix(step: Any) -> Any:
    """Take the dummy prefix out of a step; None where nothing of it is left."""
    if not isinstance(step, dict) or step.get("type") == "Prepend":
        return None
    if step.get("type") == "Sequence":
        name = "normalizers" if "normalizers" in step else "pretokenizers"
        left = [inner for inner in map(_without_prefix, step[name]) if inner is not None]
        return {**step, name: left} if left else None
    if step.get("type") == "ByteLevel" and "add_prefix_space" in step:
        return {**step, "add_prefix_space": False}
    if step.get("type") == "Metaspace":
        return {**_without_key(step, "add_prefix_space"), "prepend_scheme": "never"}
    return step


def _keeping_the_start(decoder: Any) -> Any:
    if not isinstance(decoder, dict):
        return decoder
    if decoder.get("type") == "Sequence":
        return {**decoder, "decoders": [_keeping_the_start(inner) for inner in decoder["decoders"]]}
    if decoder.get("type") == "Strip":
        return {**decoder, "start": 0}
    if decoder.get("type") == "Metaspace":
        return {**_without_key(decoder, "add_prefix_space"), "prepend_scheme": "never"}
    return decoder


def _without_key(step: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name != key}


def _unreachable(model: dict[str, Any], control: Mapping[str, int], unknown: str | None) -> dict[str, Any]:
    """Rename the model's control tokens, out of reach of any text, and drop the merges that build them.

    Unigram models, and BPE models with `ignore_merges`, find a whole word in the vocabulary, control tokens included.
    The usual pre-tokenizers leave no name with NUL and a space in one piece; what still comes out is refused by the
    encoder.
    """
    vocabulary = model.get("vocab") or {}
    if isinstance(vocabulary, list):
        names = {entry[0] for entry in vocabulary} & set(control) - {unknown}
        renamed = [[_name(entry[0], names), *entry[1:]] for entry in vocabulary] if names else vocabulary
        return {**model, "vocab": renamed}
    names = set(vocabulary) & set(control) - {unknown}
    if not names:
        return model
    changed = {**model, "vocab": {_name(text, names): position for text, position in vocabulary.items()}}
    if "merges" in model:
        changed["merges"] = _without(model["merges"], names)
    return changed


def _without(merges: list[Any], names: set[str]) -> list[Any]:
    """Drop the merges that take or make one of the names."""
    # Whatever a merge takes is in what it makes. So one look at all of them together spares one at each: there is
    # hardly a tokenizer whose merges make a control token.
    made = "\0".join(map("".join, merges)).replace(" ", "")
    if not any(name.replace(" ", "") in made for name in names):
        return merges
    return [merge for merge in merges if names.isdisjoint(_parts(merge))]


def _name(text: str, names: set[str]) -> str:
    return f"\0 control {text}" if text in names else text


def _parts(merge: Any) -> tuple[str, ...]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right, left + right
