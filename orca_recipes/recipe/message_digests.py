"""Digests of system messages: whether a text is the one that a recipe means, and which known one it is instead.

A paper's wording is circulated in variants that differ by an apostrophe, and a recipe that trains on another one should
say so. Only digests of them are shipped (known_messages.toml), never the texts.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.recipe.toml_lines import Path

DIGEST_RULE = "must be a SHA-256: 64 hexadecimal digits, in lower case"


def text_digest(text: str) -> str:
    """Return SHA-256 of a text in UTF-8, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_digest(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def message_faults(
    messages: Mapping[str, str], *, digests: Mapping[str, str], weights: Mapping[str, object]
) -> Iterator[tuple[Path, str]]:
    """Yield the faults of a set's digests and weights against its texts: path inside the set's table, and a sentence.

    Args:
        messages: id to text.
    """
    for option, table in (("digests", digests), ("weights", weights)):
        for name in table:
            if name not in messages:
                yield (option, name), f"the set has no message {quoted(name)}{hint(name, messages)}"
    for name, digest in digests.items():
        found = text_digest(messages[name]) if name in messages else digest
        if found != digest:
            yield ("digests", name), f"the text is {described(found)}, and what must match is {described(digest)}"


def described(digest: str) -> str:
    """Word a digest for a message: its first 12 digits and, if known, the published message it belongs to."""
    known = _known().get(digest)
    return f"{digest[:12]}…" + (f" ({known})" if known else "")


def relatives(digest: str) -> dict[str, str]:
    """Map the digests of a message's other known forms to their descriptions."""
    known = _known()
    message = known.get(digest, "").partition(",")[0]
    return {other: told for other, told in known.items() if message and told.startswith(f"{message},")}


@cache
def _known() -> dict[str, str]:
    table = tomllib.loads((files("orca_recipes.recipe") / "known_messages.toml").read_text(encoding="utf-8"))
    return {entry["sha256"]: f"{entry['message']}, {entry['form']}" for entry in table["known"]}
