"""The columns that flow between stages.

Polars data types are written as functions, because polars is imported only where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl


def messages_type() -> Any:
    """MESSAGES: a conversation, oldest message first; `trained` marks what carries loss."""
    import polars as pl

    return pl.List(pl.Struct({"role": pl.String, "content": pl.String, "trained": pl.Boolean}))


def rows_schema() -> dict[str, Any]:
    """ROWS: what a source reads; a row has a question or messages.

    place: where in the file (1-based physical line of a text file, 1-based row of a Parquet file or array).
    id: the row's own id, where it has one. references: its reference answers, one of which is trained.
    system, answer: a system message and an answer that the row brings. messages: a whole conversation it brings.
    """
    import polars as pl

    return {
        "place": pl.Int64,
        "id": pl.String,
        "task": pl.String,
        "category": pl.String,
        "question": pl.String,
        "references": pl.List(pl.String),
        "system": pl.String,
        "answer": pl.String,
        "messages": messages_type(),
    }


def rejected_rows_schema() -> dict[str, Any]:
    """REJECTED_ROWS: rows that a source could not read."""
    import polars as pl

    return {"place": pl.Int64, "reason": pl.String}


def examples_schema() -> dict[str, Any]:
    """EXAMPLES: rows with their identity: id (two u64), collection's task, source file and place."""
    import polars as pl

    rows = rows_schema()
    del rows["id"]
    return {"id_hi": pl.UInt64, "id_lo": pl.UInt64, "file": pl.String, **rows}


def answers_schema() -> dict[str, Any]:
    """ANSWERS: a teacher's answers; reason is null where there is one."""
    import polars as pl

    return {"answer": pl.String, "finish_reason": pl.String, "reason": pl.String}


def conversations_schema() -> dict[str, Any]:
    """CONVERSATIONS: what the student is trained on, with the provenance that records keep.

    strategy, system_message and teacher are the recipe's names ("" where there is none); cut marks an answer that
    its teacher did not finish.
    """
    import polars as pl

    return {
        "id_hi": pl.UInt64,
        "id_lo": pl.UInt64,
        "task": pl.String,
        "category": pl.String,
        "file": pl.String,
        "place": pl.Int64,
        "strategy": pl.String,
        "system_message": pl.String,
        "teacher": pl.String,
        "cut": pl.Boolean,
        "messages": messages_type(),
    }


def completed(frame: pl.DataFrame, schema: dict[str, Any]) -> pl.DataFrame:
    """The frame with exactly the schema's columns, in its order and types; missing ones are null."""
    import polars as pl

    return frame.select(
        pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in schema.items()
    )
