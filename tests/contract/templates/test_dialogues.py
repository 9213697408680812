"""Conversations as templates are given them, and back from the text in which they are stored."""

from orca_recipes.contract.templates.dialogues import Dialogue, dialogue_of, thought_of
from tests.contract.templates.test_turn_texts import TOOLS, talk


def test_a_dialogue_is_told_and_read_back() -> None:
    dialogue = Dialogue(talk("user: One?", "assistant: 1"), TOOLS, {"enable_thinking": False})
    again = dialogue_of(dialogue.as_json(), is_cut=False)
    assert again == dialogue
    assert list(again.tools[0]["function"]["parameters"]) == ["zz", "aa"]


def test_a_thought_is_taken_from_its_key_or_from_between_its_marks_and_from_nobody_but_the_assistant() -> None:
    marked = {"role": "assistant", "content": "<think>\nHm.\n</think>Yes."}
    assert thought_of(marked, "<think>", "</think>") == ("Hm.", "Yes.")
    assert thought_of({**marked, "reasoning": "So."}, "<think>", "</think>") == ("So.", marked["content"])
    assert thought_of({**marked, "role": "user"}, "<think>", "</think>") == ("", marked["content"])
