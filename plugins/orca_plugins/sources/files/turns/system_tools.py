"""Tools that a system message spells, as a shape's pattern finds them.

They become the row's tools, so that the template prints them as it prints any others. A message that the pattern does
not fit stays as it is.
"""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from orca_plugins.sources.files.columns import Wanted
from orca_plugins.sources.files.json_rows.strict_json import BAD_TEXT, BadRow
from orca_plugins.sources.files.turns.message_keys import given_twice
from orca_plugins.sources.files.turns.tool_values import tools_text

if TYPE_CHECKING:
    import pyarrow as pa

_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[\s,]*")


def with_tools_of_system(
    columns: "Mapping[str, pa.Array]", wanted: Wanted
) -> "tuple[dict[str, pa.Array], dict[int, str]]":
    """Move the tools spelt in system messages to column `tools`; return the columns, and the faults by row."""
    import pyarrow as pa

    found = dict(columns)
    if wanted.system_says is None or "system" not in found:
        return found, {}
    pattern, count = re.compile(wanted.system_says, re.DOTALL), len(found["system"])
    systems: list[str | None] = []
    tools: list[str | None] = []
    faults: dict[int, str] = {}
    beside = found["tools"].to_pylist() if "tools" in found else [None] * count
    for row in range(count):
        tools.append(beside[row])
        try:
            text, spelt = _parted(found["system"][row], pattern)
        except UnicodeDecodeError:
            systems.append(None)
            faults[row] = BAD_TEXT
            continue
        systems.append(text)
        try:
            of_system = tools_text(_listed(spelt)) if spelt else None
        except BadRow as reason:
            faults[row] = str(reason)
            continue
        if of_system is not None and beside[row] not in (None, of_system):
            faults[row] = given_twice("tools")
        tools[row] = of_system or beside[row]
    found["system"] = pa.array(systems, pa.large_string())
    if any(text is not None for text in tools):
        found["tools"] = pa.array(tools, pa.large_string())
    return found, faults


def _parted(value: "pa.Scalar", pattern: "re.Pattern[str]") -> tuple[str | None, str | None]:
    """Part a system message from its tools. Raises: UnicodeDecodeError."""
    text = value.as_py()
    said = pattern.fullmatch(text) if text is not None else None
    return (said["system"], said["tools"]) if said is not None else (text, None)


def _listed(text: str) -> str:
    """Return objects of JSON that stand one behind the other, as a list of them.

    Raises: BadRow.
    """
    pieces, at = [], _start(text, 0)
    while at < len(text):
        try:
            _, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            raise BadRow("tools: the system message spells them as text that is no JSON") from None
        pieces.append(text[at:end])
        at = _start(text, end)
    return f"[{','.join(pieces)}]"


def _start(text: str, at: int) -> int:
    between = _BETWEEN.match(text, at)
    return between.end() if between is not None else at
