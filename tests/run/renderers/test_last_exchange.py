"""Of conversations whose teacher did not finish, only the answer that it did not finish goes without an end."""

import numpy as np
import polars as pl

from orca_recipes.contract.frames import completed, stored_conversations_schema
from orca_recipes.run.renderers.last_exchange import finished_before
from tests.contract.templates.test_turn_texts import talk


def test_a_cut_answer_that_is_context_leaves_those_before_it_finished() -> None:
    chats = [talk("user: a", "assistant: 1", "user: b", "assistant: 2", "user: c") for _ in range(3)]
    chats[1][3]["trained"] = False
    rows = [{"messages": chat, "cut": cut} for chat, cut in zip(chats, (True, True, False), strict=True)]
    told = pl.DataFrame({"messages": chats, "cut": [row["cut"] for row in rows]})
    frame = completed(told, stored_conversations_schema())
    assert np.asarray(finished_before(frame.to_arrow())["cut"]).tolist() == [True, False, False]
