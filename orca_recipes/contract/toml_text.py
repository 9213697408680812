"""Read TOML that a stranger may have written.

Python's tomllib takes the square of a key's parts (3.11 to 3.14): a line of 60 kB keeps it busy for a minute. No key of
ours has more than a dozen.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

MOST_PARTS = 100  # as in the pattern
_LONG_KEY = re.compile(
    r"""(?:^|[\[{,])[ \t]*+(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}""", re.MULTILINE
)


def toml_table(text: str) -> dict[str, Any]:
    """Read a text as TOML. Raises: ValueError (TOMLDecodeError), RecursionError."""
    found = _LONG_KEY.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start() + 1) + 1
        raise ValueError(f"line {line}: a key has more than {MOST_PARTS} parts")
    return tomllib.loads(text)
