"""The columns that flow between stages.

Polars data types are written as functions, because polars is imported only where it is used.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl


BESIDE_CONTENT = ("reasoning", "tool_calls", "tool_call_id", "name")
"""What a message may hold beside role and content; each is null in nearly all messages, and then no part of them."""

BESIDE_ANSWER = ("reasoning", "tool_calls")
"""What a teacher's answer may hold beside its text, as `messages_type` says; frames of answers may lack the columns."""

TRAIN_ON = "train_on"
"""The column of conversations that tells the parts of their answers that are trained, where a rule says which."""

UNTRAINED = "untrained"
"""The column of conversations that tells the answers that filters left untrained (`untrained_turns`)."""

BESIDE_MESSAGES = ("tools", "template_kwargs")
"""What a conversation may bring beside its messages for the template to print; null in nearly all."""


def messages_type() -> Any:
    """Return the type MESSAGES: a conversation, oldest message first; `trained` marks what carries loss.

    content: "" where a message only calls tools. reasoning: an assistant's thoughts before its content. tool_calls:
    canonical JSON of a list of {"id", "type", "function": {"name", "arguments"}}, where arguments is an object and id
    is left out where there is none. tool_call_id: which call a tool answers. name: who speaks, of a tool the function.
    These four are null where a message has none; a frame without them is completed (`completed`).
    """
    import polars as pl

    return pl.List(
        pl.Struct(
            {
                "role": pl.String,
                "content": pl.String,
                "trained": pl.Boolean,
                **dict.fromkeys(BESIDE_CONTENT, pl.String),
            }
        )
    )


def extra_type() -> Any:
    """Return the type EXTRA: other columns that a source was asked to keep, by name; a value is null where the row
    has none."""
    import polars as pl

    return pl.List(pl.Struct({"name": pl.String, "value": pl.String}))


def rows_schema() -> dict[str, Any]:
    """Return the schema ROWS: what a source reads; a row has a question or messages.

    place: where in the file (1-based physical line of a text file, 1-based row of a Parquet file or array).
    id: the row's own id, where it has one. references: its reference answers, one of which is trained.
    system, answer: a system message and an answer that the row brings. messages: a whole conversation it brings.
    options: the answers to choose from. language: as the source names it. reasoning: the source's tag for the reasoning
    that the row wants. extra: other columns. tools: canonical JSON of the list of tools that the model may call, as
    OpenAI defines them. template_kwargs: canonical JSON of an object, variables of the chat template that the row sets.
    These six are null where the source gives none, and then no part of what the row is told by.
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
        "options": pl.List(pl.String),
        "language": pl.String,
        "reasoning": pl.String,
        "extra": extra_type(),
        **dict.fromkeys(BESIDE_MESSAGES, pl.String),
    }


def shots_type() -> Any:
    """Return the type SHOTS: answered examples that are shown before a question."""
    import polars as pl

    return pl.List(pl.Struct({"question": pl.String, "answer": pl.String}))


def rejected_rows_schema() -> dict[str, Any]:
    """Return the schema REJECTED_ROWS: rows that a source could not read."""
    import polars as pl

    return {"place": pl.Int64, "reason": pl.String}


def examples_schema() -> dict[str, Any]:
    """Return the schema EXAMPLES: rows with their identity, two u64 beside the id of their own, and with source file
    and place.

    shots: answered examples of the same task, where the strategy asks for some (`Strategy.shots`).
    question_hi, question_lo: digest of the question, null where nobody has to be kept apart from it.
    """
    import polars as pl

    digest = {"question_hi": pl.UInt64, "question_lo": pl.UInt64}
    identity = {"id_hi": pl.UInt64, "id_lo": pl.UInt64, **digest, "file": pl.String}
    return {**identity, **rows_schema(), "shots": shots_type()}


def answers_schema() -> dict[str, Any]:
    """Return the schema ANSWERS: a teacher's answers; reason is null where there is one."""
    import polars as pl

    return {"answer": pl.String, "finish_reason": pl.String, "reason": pl.String}


def conversations_schema() -> dict[str, Any]:
    """Return the schema CONVERSATIONS: what the student is trained on, as filters see it.

    messages are trained as the dataset's `train_on` says. question, references, options, language, extra: the
    example's. answer: the teacher's, or the last of a conversation. finish_reason: the teacher's. instruction:
    what the teacher saw beside the question (system message and the strategy's words), null where nothing was asked.
    """
    import polars as pl

    return {
        **stored_conversations_schema(),
        "language": pl.String,
        "extra": extra_type(),
        "question": pl.String,
        "references": pl.List(pl.String),
        "options": pl.List(pl.String),
        "answer": pl.String,
        "finish_reason": pl.String,
        "instruction": pl.String,
    }


def stored_conversations_schema() -> dict[str, Any]:
    """Return the schema STORED_CONVERSATIONS: conversations as they are kept, with the provenance that records tell.

    strategy, system_message and teacher are the recipe's names ("" where there is none); cut marks an answer that
    its teacher did not finish. teacher_view: what the teacher was asked, told by the student's messages (`run/views`),
    where prompts are erased. train_on: the parts that a rule trains (`TrainedParts.told`), null where the dataset says.
    untrained: JSON of the answers that filters left untrained, a list of {"turn", "stage", "reason"}, where turn counts
    the assistant's messages from 1; null where there is none.
    """
    import polars as pl

    return {
        "id_hi": pl.UInt64,
        "id_lo": pl.UInt64,
        "question_hi": pl.UInt64,
        "question_lo": pl.UInt64,
        "task": pl.String,
        "category": pl.String,
        "file": pl.String,
        "place": pl.Int64,
        "strategy": pl.String,
        "system_message": pl.String,
        "teacher": pl.String,
        "cut": pl.Boolean,
        "teacher_view": pl.String,
        "messages": messages_type(),
        **dict.fromkeys((*BESIDE_MESSAGES, TRAIN_ON, UNTRAINED), pl.String),
    }


def completed(frame: pl.DataFrame, schema: dict[str, Any]) -> pl.DataFrame:
    """Complete a frame to exactly the schema's columns, in its order and types; missing columns and missing fields of
    lists of structs become null."""
    import polars as pl

    held = dict(frame.schema)  # each look at it asks the frame anew
    if list(held.items()) == list(schema.items()):
        return frame
    return frame.select(
        pl.lit(None, dtype=dtype).alias(name)
        if name not in held
        else pl.col(name)
        if held[name] == dtype
        else _cast(pl.col(name), held[name], dtype)
        for name, dtype in schema.items()
    )


def repeated(value: Any, dtype: Any, length: int) -> pl.Series:
    """Repeat one value as a column; of null, where it is None."""
    return _one(value, dtype).new_from_index(0, length)


@cache
def _one(value: Any, dtype: Any) -> pl.Series:
    """Make a column of one value, which takes longer than to repeat it."""
    import polars as pl

    return pl.Series([value], dtype=dtype)


def completed_messages(messages: pl.Series) -> pl.Series:
    """Return conversations with all fields of `MESSAGES`; those that are missing are null."""
    import polars as pl

    if messages.dtype == messages_type():
        return messages
    whole = _cast(pl.col(messages.name), messages.dtype, messages_type())
    return messages.to_frame().select(whole).to_series()


def _cast(column: pl.Expr, held: Any, wanted: Any) -> pl.Expr:
    """Cast a column to the wanted type, which may have more fields than the held one."""
    fields = {name: _fields_of(dtype) for name, dtype in (("held", held), ("wanted", wanted))}
    if fields["held"] and set(fields["held"]) < set(fields["wanted"]):
        import polars as pl

        # Not strictly, as polars fills in fields only so; no value is cast here, so that none is lost.
        column = column.cast(pl.List(pl.Struct({**fields["wanted"], **fields["held"]})), strict=False)
    # Strict: a value that does not fit raises, and is not nulled in silence.
    return column.cast(wanted)


def _fields_of(dtype: Any) -> dict[str, Any]:
    """Return the fields of a list of structs by name; none for any other type."""
    import polars as pl

    if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
        return {field.name: field.dtype for field in dtype.inner.fields}
    return {}
