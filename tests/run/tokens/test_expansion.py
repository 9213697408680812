"""A trajectory under the three histories: how many examples and tokens it becomes, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from orca_recipes.errors import TemplateError
from orca_recipes.run.built import Built
from orca_recipes.shards.show.show_lines import example_lines
from tests.campaign.templates import Oracle
from tests.contract.templates.test_turn_texts import CALLS, QWEN3, R1
from tests.run.renderers.test_student_renderer import gathered, make, proof, talk, thinking

TURNS = 12


def trajectory(turns: int = TURNS) -> dict[str, Any]:
    said = [(f"user: Ask {n}.", f"assistant: Say {n}.") for n in range(turns)]
    return thinking(talk(*(turn for both in said for turn in both)))


def sizes(built: Built) -> list[int]:
    return [sum(len(part["tokens"]) for part in one["segments"]) for one in example_lines(built.directory)]


@pytest.mark.parametrize("template", [QWEN3, R1])
def test_a_trajectory_is_many_examples_or_one_as_its_history_is_printed(tmp_path: Path, template: str) -> None:
    found = {}
    for history in ("inference", "kept", "last"):
        built = make(tmp_path / history, template, [trajectory()], options=f'history = "{history}"')
        assert proof(built).findings == ()
        found[history] = sizes(built)
        expansion = built.as_json()["stages"]["tokenize main/chats"]["expansion"]
        assert expansion["examples"] == len(found[history])
        assert expansion["example_tokens"] == sum(found[history])
        assert expansion["conversations"] == 1
        assert (expansion["tokens"] == expansion["example_tokens"]) == (history != "inference")
    assert {history: len(examples) for history, examples in found.items()} == {"inference": TURNS, "kept": 1, "last": 1}
    assert sum(found["inference"]) > 3 * found["kept"][0] > 3 * found["last"][0]


@pytest.mark.parametrize("template", [QWEN3, R1])
def test_history_that_is_kept_is_what_the_shipped_template_prints(tmp_path: Path, template: str) -> None:
    row = trajectory(3)
    built = make(tmp_path / "b", template, [row], options='history = "kept"')
    shipped = (built.directory / "tokenizer" / "chat_template.jinja").read_text(encoding="utf-8")
    assert shipped != template
    oracle = Oracle(built.directory, gathered(shipped))
    (example,) = example_lines(built.directory)
    ids: list[int] = []
    answers = iter([1, 3, 5])
    for segment in example["segments"]:
        if segment["trained"]:
            place = next(answers)
            messages = [dict(message) for message in row["messages"]]
            if template == R1:
                for message in messages:
                    if thought := message.pop("reasoning_content", None):
                        message["content"] = f"<think>\n{thought}\n</think>\n\n{message['content']}"
            assert ids == oracle.ids(oracle.text({"messages": messages}, place, asked=True))
        ids += segment["tokens"]
    assert "".join(part["text"] for part in example["segments"]).count("I think of Say") == 3


def test_a_template_that_keeps_history_is_shipped_as_it_is(tmp_path: Path) -> None:
    built = make(tmp_path / "b", CALLS, [talk("user: One?", "assistant: 1")], options='history = "kept"')
    assert (built.directory / "tokenizer" / "chat_template.jinja").read_text(encoding="utf-8") == CALLS


def test_history_that_no_change_of_a_condition_keeps_is_refused(tmp_path: Path) -> None:
    sliced = R1.replace(
        "m.content.split('</think>')[-1]", "(m.content | replace('</think>', '</t>')).split('</t>') | last"
    )
    with pytest.raises(TemplateError, match='use history = "inference" or "last"'):
        make(tmp_path / "b", sliced, [trajectory(2)], options='history = "kept"')


def test_a_conversation_that_would_become_too_many_tokens_is_refused_with_the_choice(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"chats.jsonl:1: its 12 turns .* expansion_limit is 2.5; set history"):
        make(tmp_path / "b", QWEN3, [trajectory()], options="expansion_limit = 2.5")
    built = make(tmp_path / "b", QWEN3, [trajectory()], options="expansion_limit = 10")
    assert len(sizes(built)) == TURNS
