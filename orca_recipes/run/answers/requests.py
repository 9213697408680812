"""Requests as stage `ask` stores them: its parts, their keys, and what a teacher is sent.

Apart from what makes them, so that who looks for answers need not import what asks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.answers import Request
from orca_recipes.contract.frames import completed
from orca_recipes.run.conversations.course import asked_schema
from orca_recipes.store.arrow_files import read_frame
from orca_recipes.store.stage_folder import Part, StageFolder

if TYPE_CHECKING:
    import polars as pl

_SENT = ("tool_calls", "tool_call_id", "name")
"""What a message is sent with beside its role and its content."""


def asked_parts(folder: StageFolder) -> list[Part]:
    """List the parts of a finished `ask` stage that hold requests."""
    return [part for part in folder.parts() if "requests" in part.report]


def whole(asked: pl.DataFrame) -> pl.DataFrame:
    """Complete a part of an `ask` stage with the columns that none of its rows has."""
    import polars as pl

    return completed(asked, {**asked_schema(), "sample": pl.Int64, "key": pl.Binary})


def keys_of(part: Part, chosen: np.ndarray | None = None) -> list[bytes]:
    """List the keys of a part's requests, each once, in order. chosen: bool [requests]; None means all."""
    import polars as pl

    column = read_frame(part.file(".arrow"), columns=["key"])["key"]
    column = column if chosen is None else column.filter(pl.Series(chosen))
    return column.drop_nulls().unique(maintain_order=True).to_list()


def requests_of(part: Part, limits: Mapping[bytes, int | None]) -> Iterator[Request]:
    """Yield the requests of a part with these keys, each once, with its limit of tokens."""
    import polars as pl

    frame = whole(read_frame(part.file(".arrow"))).select("key", "sample", "request", "tools")
    wanted = pl.Series(list(limits), dtype=pl.Binary)
    frame = frame.filter(pl.col("key").is_in(wanted.implode())).unique("key", maintain_order=True)
    for key, sample, messages, tools in frame.iter_rows():
        yield Request(key, told(messages), sample, limits[key], beside(messages), tools)


def told(messages: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Return messages of a frame as a request holds them."""
    return tuple((message["role"], message["content"] or "") for message in messages)


def beside(messages: Sequence[Mapping[str, Any]]) -> tuple[str | None, ...]:
    """Return the fields beside content of a frame's messages, as a request has them; none if no message holds any.

    Thoughts of earlier turns are not sent: a model that thinks is not shown them again.
    """
    found = tuple({name: message[name] for name in _SENT if message.get(name) is not None} for message in messages)
    return tuple(json.dumps(one, ensure_ascii=False) if one else None for one in found) if any(found) else ()
