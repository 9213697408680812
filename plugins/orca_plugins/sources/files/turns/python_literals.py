"""JSON values of texts that Python wrote: `{'name': 'now', 'is_set': True}`, with other quotes and words.

Each text and word is turned into JSON's and nothing is evaluated; what is then no JSON is refused.
"""

import ast
import json
import re
from typing import Any

from orca_plugins.sources.files.json_rows.strict_json import BAD_JSON, TOO_DEEP, BadRow, decode, nested_too_deep

_WORDS = {"True": "true", "False": "false", "None": "null"}
# Possessive (*+), so that a text without an end fails without backtracking.
_TOKEN = re.compile(
    r"""'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+"|[A-Za-z_]\w*+|[^'"A-Za-z_]++|.""", re.DOTALL
)


def json_of(text: str) -> Any:
    """Decode JSON, or else a value as Python writes it.

    Raises: BadRow for a text that is neither.
    """
    if nested_too_deep(text.encode(errors="replace")):
        raise BadRow(TOO_DEEP)
    try:
        return decode(text)
    except BadRow:
        spelt = "".join(map(_token, _TOKEN.findall(text)))
        if nested_too_deep(spelt.encode(errors="replace")):
            raise BadRow(TOO_DEEP) from None
        return decode(spelt)


def _token(token: str) -> str:
    """Spell a token of Python as JSON does."""
    if token[0] not in "'\"" or len(token) == 1:
        return _WORDS.get(token, token)
    try:
        # A line break inside of quotes is no Python, and JSON's decoder does not allow one either.
        return json.dumps(ast.literal_eval(token))
    except (SyntaxError, ValueError):
        raise BadRow(BAD_JSON) from None
