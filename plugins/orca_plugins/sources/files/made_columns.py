"""Columns that are made of others: texts of several columns, and answers that are messages.

A part that is null or blank adds nothing, so that no blank line is left at the end of a question without an input.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_plugins.sources.files.columns import Wanted
from orca_plugins.sources.files.json_rows.strict_json import BadRow
from orca_plugins.sources.files.turns.arrow_texts import values_or_faults
from orca_plugins.sources.files.turns.message_keys import SPACE
from orca_plugins.sources.files.turns.spelt_messages import turns_spelt
from orca_plugins.sources.files.turns.turn_columns import is_answered, turns_type
from orca_plugins.sources.files.turns.turn_values import faulty_turn
from orca_recipes.contract.frames import BESIDE_CONTENT
from orca_recipes.shards.layout import ROLES

if TYPE_CHECKING:
    import pyarrow as pa

_BETWEEN = "\n\n"
_LIST_OF_OBJECTS = r"^\s*\[\s*\{"


def made_columns(columns: "Mapping[str, pa.Array]", wanted: Wanted) -> "dict[str, pa.Array]":
    """Join the texts that are made of several columns, and drop those parts."""
    made = dict(columns)
    for ours, parts in wanted.parts.items():
        found = [array for name in (ours, *parts) if (array := made.pop(name, None)) is not None]
        if found:
            made[ours] = _joined(found)
    return made


def with_spelt_completions(columns: "Mapping[str, pa.Array]", wanted: Wanted) -> "dict[str, pa.Array]":
    """Move answers that spell a list of messages in JSON to the end of the messages that they answer."""
    import pyarrow as pa
    import pyarrow.compute as pc

    made = dict(columns)
    answers, talks = made.get("answer"), made.get("messages")
    if answers is None or talks is None or wanted.asks_last or not wanted.takes_completions:
        return made
    if talks.null_count == len(talks):
        return made
    begun = pc.match_substring_regex(answers.cast(pa.large_binary()), _LIST_OF_OBJECTS)
    asked_in_messages = pc.and_(begun.fill_null(False), talks.is_valid())
    if wanted.is_spare("answer"):
        asked_in_messages = pc.and_(asked_in_messages, pc.invert(pa.array(is_answered(talks))))
    joined: dict[int, list[Any]] = {}
    for row in np.flatnonzero(asked_in_messages.to_numpy(zero_copy_only=False)).tolist():
        try:
            spelt = turns_spelt(answers[row].as_py(), wanted)
            before = talks[row].as_py()
        except (BadRow, UnicodeDecodeError):
            continue  # an answer like any other, or text that is refused as a whole
        if all(turn is not None and turn["role"] in ROLES for turn in spelt):
            joined[row] = with_completion(before, spelt, wanted)
    return _with_talks(made, joined, without=("answer",))


def with_questions_last(columns: "Mapping[str, pa.Array]", wanted: Wanted) -> "dict[str, pa.Array]":
    """Move questions to the end of the messages that were said before them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    talks = columns.get("messages")
    if talks is None or not wanted.asks_last or talks.null_count == len(talks):
        return dict(columns)
    rows = np.flatnonzero(talks.is_valid().to_numpy(zero_copy_only=False))
    of_question = [name for name in ("question", *wanted.parts.get("question", ())) if name in columns]
    questions = _joined([columns[name].take(pa.array(rows)) for name in of_question])
    joined: dict[int, list[Any]] = {}
    for row, question in zip(rows.tolist(), pc.fill_null(questions, ""), strict=True):
        with suppress(UnicodeDecodeError):  # refused as a whole
            joined[row] = [*talks[row].as_py(), asked(question.as_py())]
    return _with_talks(dict(columns), joined, without=of_question)


def _with_talks(
    columns: "dict[str, pa.Array]", joined: Mapping[int, list[Any]], *, without: Sequence[str]
) -> "dict[str, pa.Array]":
    """Give some rows other messages, and take from these what now lies in their messages."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not joined:
        return columns
    talks = columns["messages"]
    places = np.arange(len(talks))
    places[list(joined)] = len(talks) + np.arange(len(joined))
    both = pa.concat_arrays([talks, pa.array(list(joined.values()), turns_type())])
    columns["messages"] = both.take(pa.array(places))
    moved = pa.array(np.isin(np.arange(len(talks)), list(joined)))
    for ours in without:
        columns[ours] = pc.if_else(moved, pa.scalar(None, columns[ours].type), columns[ours])
    return columns


def with_completion(messages: Any, completion: Any, wanted: Wanted) -> Any:
    """Join a conversation and the messages that answer it; old answers are no longer trained, unless their flags or the
    recipe say so."""
    before = list(messages or ())
    if not wanted.trains_history:
        before = [turn and {**turn, "train": turn["train"] or False} for turn in before]
    return [*before, *completion]


def asked(question: str) -> dict[str, Any]:
    """Turn a question into a user's message."""
    return {"role": "user", "content": question, "train": None, "fault": None, **dict.fromkeys(BESIDE_CONTENT)}


def with_completions(columns: "Mapping[str, pa.Array]", wanted: Wanted) -> "dict[str, pa.Array]":
    """Move answers that are lists of messages to the end of their conversations."""
    import pyarrow as pa

    made = dict(columns)
    answers = made.get("answer")
    if answers is None or not pa.types.is_large_list(answers.type):
        return made
    del made["answer"]
    rows = len(answers)
    talks = values_or_faults(made["messages"]) if "messages" in made else [None] * rows
    questions = values_or_faults(made["question"]) if "question" in made else [None] * rows
    spare = wanted.is_spare("answer") and "messages" in made
    idle = is_answered(made["messages"]).tolist() if spare else [False] * rows
    joined: list[Any] = []
    left: list[Any] = []
    for talk, question, found, unread in zip(talks, questions, values_or_faults(answers), idle, strict=True):
        if bad := next((one for one in (talk, question, found) if isinstance(one, BadRow)), None):
            joined.append([faulty_turn(str(bad))])
            left.append(None)
            continue
        answer = None if unread else found
        before = [asked(question)] if talk is None and question is not None and answer is not None else talk
        joined.append(before if answer is None else with_completion(before, answer, wanted))
        left.append(None if answer is not None else question)
    made["messages"] = pa.array(joined, turns_type())
    if "question" in made:
        made["question"] = pa.array(left, pa.large_string())
    return made


def _joined(parts: "list[pa.Array]") -> "pa.Array":
    """Join the parts of each row that are not blank, with a blank line between; null where all are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    none = pa.scalar(None, pa.large_string())
    bare = [pc.ascii_trim(part, characters=SPACE) for part in parts]
    held = [pc.if_else(pc.equal(text, "").fill_null(True), none, part) for text, part in zip(bare, parts, strict=True)]
    # pyarrow 26 leaves a row out of the result where all of its values are null and nulls are skipped.
    nothing = reduce(pc.and_, [text.is_null() for text in held])
    held[0] = pc.if_else(nothing, pa.scalar("", pa.large_string()), held[0])
    joined = pc.binary_join_element_wise(*held, pa.scalar(_BETWEEN, pa.large_string()), null_handling="skip")
    return pc.if_else(nothing, none, joined)
