"""Rejects conversations with fields that the table of joints prints nowhere: they are never trained without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.frames import BESIDE_CONTENT, BESIDE_MESSAGES
from orca_recipes.store.arrow_files import one_piece

if TYPE_CHECKING:
    import pyarrow as pa

_TOLD = {"reasoning": "reasoning (reasoning_content, thinking)", "tool_calls": "tool_calls (function_call)"}
"""Things that rows call by other names, as people are told of them."""

_NO_PLACE = "no place for it in this template; the kind from_tokenizer may have one"


def unprinted(conversations: pa.Table) -> dict[int, str]:
    """Return reasons for rejecting conversations, by position; each names the first field that would be lost.

    A `name` is lost of a tool's message alone, of which it is the function: hardly any template prints who else speaks.

    Args:
        conversations: `narrow_tables.whole`.
    """
    import pyarrow.compute as pc

    reasons: dict[int, str] = {}
    messages = one_piece(conversations["messages"])
    flat = messages.flatten()
    for name in BESIDE_CONTENT:
        held = flat.field(name)
        if held.null_count == len(held):
            continue
        lost = held.is_valid()
        if name == "name":
            lost = pc.and_(lost, pc.equal(flat.field("role"), "tool").fill_null(False))
        owners = pc.list_parent_indices(messages).filter(lost)
        for position in np.unique(owners.to_numpy()).tolist():
            reasons.setdefault(
                position,
                f"{_TOLD.get(name, name)} of a message: {_NO_PLACE}",
            )
    for name in BESIDE_MESSAGES:
        if conversations[name].null_count < conversations.num_rows:
            for position in np.flatnonzero(conversations[name].is_valid().to_numpy()).tolist():
                reasons.setdefault(position, f"{name} of a row: {_NO_PLACE}")
    return reasons
