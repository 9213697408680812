"""Small frames that hold one of each thing a kind may meet, for the checks of `testing`.

They are made by hand rather than drawn, so that a check that fails shows the same row everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orca_recipes.contract.draws import digests
from orca_recipes.contract.frames import completed, conversations_schema, examples_schema

if TYPE_CHECKING:
    import polars as pl

TEXTS = (
    "How much is 2 + 2?",
    "a",
    "two\nlines\r\n",
    "  white space at both ends \t",
    "漢字 and é, ẞ, 👩‍🔬",
    "<|im_start|>user </s> [INST] {{ jinja }} {0} %s",
    "It is said that " * 400,
    "\x1b[31mred\x1b[0m \u2028 \x00",
)
SYSTEM_MESSAGES = (None, "", "You are a helpful assistant.")


def sample_examples() -> pl.DataFrame:
    """Return `frames.EXAMPLES` with a question and one or several references, with and without a system message."""
    import polars as pl

    rows = [
        {"question": text, "references": [text[::-1], "no"][: 1 + place % 2], "system": system, "place": place + 1}
        for place, (text, system) in enumerate((text, system) for text in TEXTS for system in SYSTEM_MESSAGES)
    ]
    schema = examples_schema()
    frame = pl.DataFrame(rows, schema={name: schema[name] for name in rows[0]})
    shot = pl.struct(question=pl.col("question").str.reverse(), answer=pl.format("The answer to number {}.", "place"))
    frame = frame.with_columns(shots=pl.concat_list([shot] * 4))
    return _identified(frame, schema, task="sample/examples")


def sample_conversations() -> pl.DataFrame:
    """Return `frames.CONVERSATIONS`: one turn and several, with and without a system message, empty, with a tool."""
    import polars as pl

    schema = conversations_schema()
    places = range(1, 1 + len(_CONVERSATIONS) + len(TEXTS))
    turns = [*_CONVERSATIONS, *([("user", text), ("assistant", text)] for text in TEXTS)]
    messages = [[_message(role, content) for role, content in conversation] for conversation in turns]
    frame = pl.DataFrame(
        {"place": places, "messages": messages}, schema={name: schema[name] for name in ("place", "messages")}
    )
    named = frame.with_columns(strategy=pl.lit("direct"), system_message=pl.lit(""), teacher=pl.lit("reference"))
    return _identified(named.with_columns(cut=pl.col("place") % 2 == 0), schema, task="sample/conversations")


_CONVERSATIONS: tuple[list[tuple[str, str]], ...] = (
    [("system", "Be brief."), ("user", "Why?"), ("assistant", "Because.")],
    [("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4")],
    [("system", ""), ("user", ""), ("assistant", "")],
    [("user", "What is the time?"), ("tool", "12:00"), ("assistant", "It is noon.")],
    [("user", "a question that nobody answers")],
    [],
)


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content, "trained": role == "assistant"}


def _identified(frame: pl.DataFrame, schema: dict[str, Any], *, task: str) -> pl.DataFrame:
    import polars as pl

    id_hi, id_lo = digests(f"{task} {place}".encode() for place in frame["place"])
    identified = frame.with_columns(
        pl.Series("id_hi", id_hi),
        pl.Series("id_lo", id_lo),
        task=pl.lit(task),
        category=pl.lit("sample"),
        file=pl.lit("sample.jsonl"),
    )
    return completed(identified, schema)
