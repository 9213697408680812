"""`explain` tells a system message of the conversation from one that the template says of its own."""

from pathlib import Path

import pytest

from orca_recipes.explain.explain import explain_example
from orca_recipes.shards.show.show_lines import example_lines
from tests.contract.templates.test_turn_texts import CALLS
from tests.run.renderers.test_student_renderer import make, talk

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]


@pytest.mark.parametrize("own", [True, False])
def test_tools_that_a_template_prints_are_no_system_message_of_the_conversation(tmp_path: Path, own: bool) -> None:
    said = [*(["system: Help."] if own else []), "user: One?", "assistant: 1."]
    built = make(tmp_path / "b", CALLS, [talk(*said) | {"tools": TOOLS}])
    (line,) = example_lines(built.directory)
    told = "".join(part["text"] for part in line["segments"] if part["role"] == "system")
    assert '"add"' in told
    assert ("Help." in told) == own
    assert "One?" not in told
    (story,) = explain_example(built.directory, line["id"], store=tmp_path / "none").stories
    (fate,) = story.fates
    assert fate.making.has_own_system_message == own
