"""Frames without empty columns: optional fields of conversations that no row fills are left out.

So data that has none of them lies in a store as it did before there were any, and costs nothing; whoever reads such a
table by name alone has to ask whether a name is there (`contract/frames.completed` fills in for frames).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orca_recipes.contract.frames import BESIDE_CONTENT, BESIDE_MESSAGES, TRAIN_ON, UNTRAINED

if TYPE_CHECKING:
    import pyarrow as pa


def narrow(table: pa.Table) -> pa.Table:
    """Drop the optional columns, and the optional fields of messages, that are null in all rows of a table."""
    for name in (*BESIDE_MESSAGES, TRAIN_ON, UNTRAINED):
        if name in table.column_names and table[name].null_count == table.num_rows:
            table = table.drop_columns([name])
    for place, name in enumerate(table.column_names):
        column = table[name]
        if _holds_messages(column.type) and (absent := _absent(column)):
            pieces = [_without(piece, absent) for piece in column.chunks]
            table = table.set_column(place, name, _chunked(pieces, column.type, absent))
    return table


def whole(conversations: pa.Table) -> pa.Table:
    """Widen stored conversations to all optional columns and fields, in one order; those that are missing are null."""
    import pyarrow as pa

    optional = (*BESIDE_MESSAGES, TRAIN_ON, UNTRAINED)
    for name in optional:
        if name not in conversations.column_names:
            nothing = pa.nulls(conversations.num_rows, pa.large_string())
            conversations = conversations.append_column(name, nothing)
    # Parts that hold different ones are joined, and pyarrow joins columns of one order alone.
    others = [name for name in conversations.column_names if name not in optional]
    conversations = conversations.select([*others, *optional])
    column = conversations["messages"]
    pieces = [whole_messages(piece) for piece in column.chunks] or [whole_messages(pa.array([], column.type))]
    return conversations.set_column(conversations.column_names.index("messages"), "messages", pa.chunked_array(pieces))


def whole_messages(messages: Any) -> Any:
    """Widen conversations as Arrow holds them to all fields of `frames.MESSAGES`; those that are missing are null."""
    import pyarrow as pa

    struct = messages.values
    names = ["role", "content", "trained", *BESIDE_CONTENT]
    there = {field.name for field in struct.type.fields}
    if there == set(names):
        return messages
    nothing = pa.nulls(len(struct), pa.large_string())
    return _of_messages(messages, [struct.field(name) if name in there else nothing for name in names], names)


def _holds_messages(stored: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_large_list(stored) and pa.types.is_struct(stored.value_type) and _index(stored, "role") >= 0


def _index(stored: Any, name: str) -> int:
    return int(stored.value_type.get_field_index(name))


def _absent(column: pa.ChunkedArray) -> list[str]:
    """Return the optional fields without a value in any message."""
    fields = [name for name in BESIDE_CONTENT if _index(column.type, name) >= 0]
    pieces = [piece.values for piece in column.chunks]
    return [name for name in fields if all(piece.field(name).null_count == len(piece) for piece in pieces)]


def _without(messages: Any, absent: list[str]) -> Any:
    struct = messages.values
    names = [field.name for field in struct.type.fields if field.name not in absent]
    return _of_messages(messages, [struct.field(name) for name in names], names)


def _of_messages(messages: Any, fields: list[Any], names: list[str]) -> Any:
    """Rebuild lists of messages with these fields; nothing is copied."""
    import pyarrow as pa

    struct = messages.values
    mask = struct.is_null() if struct.null_count else None
    values = pa.StructArray.from_arrays(fields, names, mask=mask)
    buffers = messages.buffers()[:2]
    return pa.Array.from_buffers(
        pa.large_list(values.type), len(messages), buffers, offset=messages.offset, children=[values]
    )


def _chunked(pieces: list[Any], before: Any, absent: list[str]) -> Any:
    import pyarrow as pa

    fields = [field for field in before.value_type.fields if field.name not in absent]
    return pa.chunked_array(pieces, pa.large_list(pa.struct(fields)) if not pieces else None)
