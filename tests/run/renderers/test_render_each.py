"""Templates that judge more of a text than its words: with `render_each` they say which rows they refuse."""

from pathlib import Path

import pytest

from orca_recipes.errors import TemplateError
from orca_recipes.run.renderers.plain_exchanges import WORTH
from orca_recipes.shards.show.show_lines import example_lines
from tests.contract.templates.test_turn_texts import R1
from tests.run.renderers.test_student_renderer import make, proof, talk

REFUSING = (
    "{% for m in messages %}{% if m.content | length > 60 %}{{ raise_exception('too long') }}{% endif %}{% endfor %}"
)
JOINTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHORT = [talk(f"user: Is {at} more?", f"assistant: {at} is.") for at in range(WORTH)]
LONG = talk(f"user: {'Say it again. ' * 6}", "assistant: No.")


@pytest.mark.parametrize("template", [JOINTS, R1])
def test_rows_that_the_template_refuses_are_rejected_in_its_words(tmp_path: Path, template: str) -> None:
    built = make(tmp_path / "b", REFUSING + template, [*SHORT, LONG], options="render_each = true")
    told = built.as_json()["stages"]["tokenize main/chats"]
    assert (told["out"], told["rejected"]) == (WORTH, {"the chat template refuses it (too long)": 1})
    assert proof(built).findings == ()


@pytest.mark.parametrize("template", [JOINTS, R1])
def test_other_rows_have_the_tokens_that_they_have_without(tmp_path: Path, template: str) -> None:
    found = [
        example_lines(make(tmp_path / each, template, SHORT, options=f"render_each = {each}").directory)
        for each in ("true", "false")
    ]
    kept = [{one["id"]: [id for part in one["segments"] for id in part["tokens"]] for one in lines} for lines in found]
    assert kept[0] == kept[1]
    assert len(kept[0]) == WORTH


def test_without_it_the_build_stops_at_such_a_row_and_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=rf"^chats\.jsonl:{WORTH + 1}: .*\(too long\).*render_each = true"):
        make(tmp_path / "b", REFUSING + JOINTS, [*SHORT, LONG])
