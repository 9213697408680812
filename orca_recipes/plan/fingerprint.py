"""One canonical form for everything that is hashed.

Sorted keys, no white space, UTF-8, no floats that JSON could print in two ways: what cannot be written canonically is
refused, because a fingerprint that differs between machines is worse than none.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

# Exact types, so that a set of types answers for a list of thousands without a look at each value.
_PLAIN = frozenset((str, int, bool, type(None)))
# One for all: a plan of thousands of collections writes tens of thousands of texts.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Write the one canonical JSON text of a value.

    Raises: TypeError for what has no canonical form (NaN, infinities, sets, objects).
    """
    _refuse_what_varies(value)
    return _CANONICAL.encode(value)


def digest_of(value: Any) -> str:
    """Return BLAKE2b-256 of the canonical JSON, as 64 hexadecimal digits."""
    return digest_of_text(canonical_json(value))


def digest_of_text(text: str) -> str:
    """Return `digest_of` the value whose canonical JSON a text is."""
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()


def _refuse_what_varies(value: Any) -> None:
    if type(value) is dict or isinstance(value, Mapping):
        for key, inner in value.items():
            if type(key) is not str and not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no text")
            if type(inner) not in _PLAIN:
                _refuse_what_varies(inner)
    elif isinstance(value, list | tuple):
        if not _PLAIN.issuperset(map(type, value)):  # the inputs of a stage, thousands of them: no look at each
            for inner in value:
                _refuse_what_varies(inner)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value!r} has no canonical form")
    elif not (value is None or isinstance(value, str | int)):
        raise TypeError(f"{type(value).__name__} has no canonical form")
