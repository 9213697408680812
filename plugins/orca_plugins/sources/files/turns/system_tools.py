"""Tools that a system message spells, as a shape's pattern finds them.

They become the row's tools, so that the template prints them as it prints any others. A message that the pattern does
not fit stays as it is.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_plugins.sources.files.columns import Wanted
from orca_plugins.sources.files.json_rows.strict_json import BAD_TEXT, BadRow
from orca_plugins.sources.files.turns.message_keys import given_twice
from orca_plugins.sources.files.turns.python_literals import json_of
from orca_plugins.sources.files.turns.tool_values import tools_text
from orca_plugins.sources.files.turns.turn_columns import list_offsets

if TYPE_CHECKING:
    import pyarrow as pa

_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[\s,]*")


@dataclass
class _Parted:
    """System messages parted from their tools: their texts by row, the tools of each row, and why some are faulty."""

    pattern: "re.Pattern[str]"
    tools: list[str | None]
    texts: dict[int, str] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)

    def part(self, row: int, value: "pa.Scalar") -> None:
        """Part a row's system message, if the pattern fits it."""
        try:
            said = self.pattern.fullmatch(value.as_py() or "")
        except UnicodeDecodeError:
            self.faults[row] = BAD_TEXT
            return
        if said is None or not value.is_valid:
            return
        groups = said.groupdict()
        around = [groups["system"].rstrip(), (groups.get("after") or "").strip()]
        self.texts[row] = "\n\n".join(text for text in around if text)
        try:
            spelt = tools_text(_listed(groups["tools"])) if groups["tools"] else None
        except BadRow as reason:
            self.faults[row] = str(reason)
            return
        if spelt is not None and not _are_same(self.tools[row], spelt):
            self.faults[row] = given_twice("tools")
        self.tools[row] = self.tools[row] or spelt


def with_tools_of_system(
    columns: "Mapping[str, pa.Array]", wanted: Wanted
) -> "tuple[dict[str, pa.Array], dict[int, str]]":
    """Move the tools spelt in system messages to column `tools`; return the columns, and the faults by row."""
    import pyarrow as pa

    found = dict(columns)
    if wanted.system_says is None or not found:
        return found, {}
    count = len(next(iter(found.values())))
    beside = found["tools"].to_pylist() if "tools" in found else [None] * count
    parted = _Parted(re.compile(wanted.system_says, re.DOTALL), beside)
    if "system" in found:
        for row in range(count):
            parted.part(row, found["system"][row])
        found["system"] = _replaced(found["system"], parted.texts)
    if "messages" in found:
        found["messages"] = _in_messages(found["messages"], parted)
    if any(text is not None for text in parted.tools):
        found["tools"] = pa.array(parted.tools, pa.large_string())
    return found, parted.faults


def _in_messages(messages: "pa.Array", parted: _Parted) -> "pa.Array":
    """Part the system message that begins each conversation."""
    import pyarrow as pa
    import pyarrow.compute as pc

    flat = pc.list_flatten(messages)
    offsets = list_offsets(messages).to_numpy()
    roles = pc.equal(pc.struct_field(flat, "role"), "system").fill_null(False).to_numpy(zero_copy_only=False)
    filled = np.flatnonzero(offsets[1:] > offsets[:-1])
    heads = filled[roles[offsets[filled]]].tolist()
    content = pc.struct_field(flat, "content")
    before = dict(parted.texts)
    parted.texts = {}
    for row in heads:
        parted.part(row, content[int(offsets[row])])
    made, parted.texts = parted.texts, before
    if not made:
        return messages
    content = _replaced(content, {int(offsets[row]): text for row, text in made.items()})
    fields = {one.name: pc.struct_field(flat, [place]) for place, one in enumerate(flat.type.fields)} | {
        "content": content
    }
    turns = pa.StructArray.from_arrays(list(fields.values()), list(fields), mask=flat.is_null())
    return pa.LargeListArray.from_arrays(pa.array(offsets), turns, mask=messages.is_null())


def _replaced(array: "pa.Array", texts: Mapping[int, str]) -> "pa.Array":
    """Put texts in place of some values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not texts:
        return array
    mask = np.isin(np.arange(len(array)), list(texts))
    return pc.replace_with_mask(array, pa.array(mask), pa.array([texts[row] for row in sorted(texts)], array.type))


def _are_same(one: str | None, other: str) -> bool:
    """Tell whether tools are the same whatever the order of their keys, or there are none."""
    return one is None or json.loads(one) == json.loads(other)


def _listed(text: str) -> Any:
    """Return a list of JSON or Python, or the text of objects that stand one behind the other as a list of them.

    Raises: BadRow.
    """
    if text.lstrip().startswith("["):
        try:
            return json_of(text)
        except BadRow:
            raise BadRow("tools: the system message spells them as text that is no JSON") from None
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
