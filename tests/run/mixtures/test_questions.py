"""What the questions of a row are."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.run.mixtures import questions
from tests.run.mixtures.said import EITHER, frame_of


def plain_questions(row: Any) -> set[Any]:
    """What the user asks first, and what stands before the first trained answer where that follows another."""
    _, question, turns = row
    if turns is None:
        return {question}
    roles = [role for role, _, _ in turns]
    start = roles.index("user") if "user" in roles else 0
    rest = turns[start:]
    stop = next((place for place, turn in enumerate(rest) if turn[0] == "assistant"), len(rest))
    opening = [(role, content) for role, content, _ in rest[:stop] if role != "system"]
    keys = {opening[0][1] if len(opening) == 1 and opening[0][0] == "user" else tuple(opening)}
    trained = [place for place, (role, _, is_trained) in enumerate(rest) if role == "assistant" and is_trained]
    end = trained[0] if trained and roles[-1] == "assistant" else len(rest)
    asked = [content for role, content, _ in rest[:end] if role == "user"]
    return keys | ({asked[-1]} if end > stop and asked else set())


@given(rows=st.lists(EITHER, min_size=1, max_size=12))
def test_questions_are_what_a_user_asks_first_and_what_is_answered_behind_history(rows: Sequence[Any]):
    first, last = questions._digests(frame_of(rows).drop("system"))
    told = [{pair} for pair in first.rows()]
    for row, *pair in last.rows():
        told[row].add(tuple(pair))
    plain = [plain_questions(row) for row in rows]
    for one in range(len(rows)):
        for other in range(one):
            assert bool(told[one] & told[other]) == bool(plain[one] & plain[other]), (rows[one], rows[other])
