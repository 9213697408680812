"""A source whose rows hold everything that messages and rows may hold, and the plugin that offers it."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import polars as pl

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.frames import completed, rejected_rows_schema, rows_schema
from orca_recipes.contract.hooks import Offers, hookimpl
from orca_recipes.contract.kind import Place
from orca_recipes.contract.kinds import Reading, Slice, Source, SourceFile

RECIPE = """\
name = "whole"

[collections.chats]
kind = "whole_rows"
path = "chats.jsonl"

[tokenizer]
kind = "hf"
path = "tokenizer"

[template]
kind = "from_tokenizer"
OPTIONS

[packing]
row_tokens = 4096
"""


class WholeRows(Source):
    """JSON lines of conversations as OpenAI writes them, with tools and variables of the template."""

    kind: Literal["whole_rows"] = "whole_rows"
    path: Place

    def files(self) -> Sequence[SourceFile]:
        return [SourceFile(self.path.name, self.path)]

    def slices(self, *, slice_bytes: int) -> Sequence[Slice]:
        return [Slice(self.files()[0], 0, self.path.stat().st_size)]

    def read(self, *, slice: Slice) -> Iterator[Reading]:
        lines = self.path.read_text(encoding="utf-8").splitlines()
        rows = [_row(place, json.loads(line)) for place, line in enumerate(lines, start=1)]
        frame = pl.DataFrame(rows, schema={name: rows_schema()[name] for name in rows[0]})
        yield Reading(completed(frame, rows_schema()), pl.DataFrame(schema=rejected_rows_schema()))


class WholeRowsPlugin:
    @hookimpl
    def orca_sources(self) -> Offers:
        return {"whole_rows": "tests.run.whole_rows:WholeRows"}


def catalogue() -> Catalogue:
    return Catalogue(plugins=[WholeRowsPlugin()])


def _row(place: int, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "place": place,
        "task": row.get("task", "chats"),
        "messages": [_message(message) for message in row["messages"]],
        "tools": compact(row.get("tools")),
        "template_kwargs": compact(row.get("chat_template_kwargs")),
    }


def _message(message: dict[str, Any]) -> dict[str, Any]:
    thoughts = (message.get(key) for key in ("reasoning_content", "thinking", "reasoning"))
    return {
        "role": message["role"],
        "content": message.get("content") or "",
        "trained": message["role"] == "assistant" and message.get("train", True),
        "reasoning": next(filter(None, thoughts), None),
        "tool_calls": compact(message.get("tool_calls")),
        "tool_call_id": message.get("tool_call_id"),
        "name": message.get("name"),
    }


def compact(value: Any) -> str | None:
    return None if not value else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
