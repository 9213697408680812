"""Which parts of answers carry loss: tokens stay as they are, and the mask holds what is wanted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from orca_recipes.errors import RecipeError
from orca_recipes.run.built import Built
from orca_recipes.shards.show.show_lines import example_lines, rejected_lines
from tests.contract.templates.test_turn_texts import CALL, CHATML, QWEN3, TOOLS
from tests.run.renderers.test_student_renderer import TWO, make, proof, talk, thinking
from tests.run.whole_rows import RECIPE

CALLING = "{% if tools %}{{ tools | tojson }}{% endif %}" + QWEN3.replace(
    "{{ c + '<|im_end|>\n' }}",
    "{{ c }}{% for t in m.tool_calls or [] %}{{ '\n<tool_call>\n' }}{{ t.function | tojson }}"
    "{{ '\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}",
)
CALLED = '\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'
FIRST, SECOND = (f"<think>\nI think of {said}.\n</think>" for said in ("I look.", "It is 4 C."))


def table(**train_on: object) -> str:
    said = "".join(f"{name} = {str(value).lower()}\n" for name, value in train_on.items())
    mixture = '\n[mixtures.main.take]\nchats = { all = true }\n[datasets.main]\nmixture = "main"\n'
    return f"{mixture}[datasets.main.train_on]\n{said}"


def agent() -> dict[str, Any]:
    row = talk("user: Weather?", "assistant: I look.", "tool: 4 C", "assistant: It is 4 C.", tools=TOOLS)
    row["messages"][1]["tool_calls"] = CALL
    return thinking(row)


def trained(built: Built) -> list[str]:
    return [part["text"] for one in example_lines(built.directory) for part in one["segments"] if part["trained"]]


def ids(built: Built) -> list[list[int]]:
    return sorted(
        [token for part in one["segments"] for token in part["tokens"]] for one in example_lines(built.directory)
    )


@pytest.mark.parametrize(
    ("off", "wanted"),
    [
        ("reasoning", [f"\n\nI look.{CALLED}", "\n\nIt is 4 C.<|im_end|>"]),
        ("content", [FIRST, CALLED, SECOND]),
        ("tool_calls", [f"{FIRST}\n\nI look.", f"{SECOND}\n\nIt is 4 C.<|im_end|>"]),
    ],
)
def test_a_part_that_is_off_stays_in_context(tmp_path: Path, off: str, wanted: Sequence[str]) -> None:
    whole = make(tmp_path / "whole", CALLING, [agent()])
    built = make(tmp_path / "b", CALLING, [agent()], more=table(**{off: False}))
    assert list(rejected_lines(built.directory)) == []
    (found_ids,), (whole_ids,) = ids(built), ids(whole)
    assert found_ids == whole_ids[: len(found_ids)]
    assert off == "content" or found_ids == whole_ids
    assert proof(built).findings == ()
    # A token may hold the end of one part and the beginning of the next: it is trained only where both are.
    for found, text in zip(trained(built), wanted, strict=True):
        assert found in text
        assert len(text) - len(found) <= 2
    (record,) = pq.read_table(built.directory / "main" / "00000.records.parquet").to_pylist()
    counts = {part: record[f"trained_{part}"] for part in ("reasoning", "content", "tool_calls")}
    assert sum(counts.values()) == record["trained_tokens"]
    assert [part for part, count in counts.items() if not count] == [off]


def test_turns_with_nothing_to_train_give_no_example(tmp_path: Path) -> None:
    rows = [thinking(talk(*TWO)), talk("user: One?", "assistant: 1")]
    built = make(tmp_path / "b", QWEN3, rows, more=table(content=False))
    assert [lost["reason"] for lost in rejected_lines(built.directory)] == ["no token is trained"]
    assert proof(built).findings == ()
    assert len(trained(built)) == 2


def test_the_last_turn_alone_is_trained(tmp_path: Path) -> None:
    built = make(tmp_path / "b", QWEN3, [talk(*TWO)], more=table(turns='"last"'))
    assert trained(built) == ["2<|im_end|>"]
    assert proof(built).findings == ()


@pytest.mark.parametrize(("limit", "kept"), [("min", [2]), ("max", [1])])
def test_filters_see_as_trained_what_the_dataset_trains(tmp_path: Path, limit: str, kept: list[int]) -> None:
    long, short = "It is a long story, and I will tell it.", "Yes."
    rows = [
        talk("user: a", f"assistant: {first}", "user: b", f"assistant: {last}")
        for first, last in ((long, short), (short, long))
    ]
    number = len(long) if limit == "min" else len(short)
    filters = f'[[datasets.main.filters]]\nkind = "length"\n{limit}_answer_chars = {number}\n'
    built = make(tmp_path / "b", CHATML, rows, more=table(turns='"last"') + filters)
    assert [one["place"] for one in example_lines(built.directory)] == kept


def test_weights_between_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"(?s)train_on.reasoning.*there are no weights, and 0.5 is one"):
        make(tmp_path / "b", QWEN3, [talk(*TWO)], more=table(reasoning=0.5))
    with pytest.raises(RecipeError, match="no part is trained"):
        make(tmp_path / "c", QWEN3, [talk(*TWO)], more=table(reasoning=False, content=False, tool_calls=False))


def test_windows_and_parts_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [(f"user: Ask {n}.", f"assistant: Say {n}.") for n in range(20)]
    row = thinking(talk(*(turn for both in said for turn in both)))
    monkeypatch.setattr("tests.run.renderers.test_student_renderer.RECIPE", SHORT)
    built = make(tmp_path / "b", QWEN3, [row], options='history = "kept"', more=table(reasoning=False))
    assert proof(built).findings == ()
    examples = list(example_lines(built.directory))
    assert len(examples) > 3
    assert all("I think" not in text for text in trained(built))
    assert sum(text.count("Say") for text in trained(built)) == 20


def test_a_thought_in_the_content_is_reasoning_where_the_template_knows_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.run.renderers.test_student_renderer.RECIPE", RECIPE.replace("from_tokenizer", "chatml"))
    rows = [
        talk("user: One?", "assistant: <think>\nI count.\n</think>\n\n1", "user: Two?", "assistant: 2"),
        talk("user: Three?", "assistant: 3"),
        talk("user: Four?", "assistant: <think>I count and never end"),
    ]
    whole = make(tmp_path / "whole", CHATML, rows[:2])
    for part, wanted in (("reasoning", ["\n\n1<|im_end|>", "2<|im_end|>", "3<|im_end|>"]), ("content", [THOUGHT])):
        built = make(tmp_path / part, CHATML, rows, more=table(**{part: False}))
        lost = {one["place"]: one["reason"] for one in rejected_lines(built.directory)}
        assert lost.pop(3) == "content: a thought begins and never ends"
        assert lost == ({} if part == "reasoning" else {2: "no message is trained"})
        assert sorted(trained(built)) == sorted(wanted)
        assert proof(built).findings == ()
        kept = [ids(whole)[0], *ids(whole)[1:]] if part == "reasoning" else [ids(built)[0]]
        assert ids(built) == kept
        records = pq.read_table(built.directory / "main" / "00000.records.parquet").to_pylist()
        for record in records:
            counts = {name: record[f"trained_{name}"] for name in ("reasoning", "content", "tool_calls")}
            assert sum(counts.values()) == record["trained_tokens"]
            assert counts[part] == 0


def test_a_rule_says_for_its_own_examples_what_is_trained(tmp_path: Path) -> None:
    """And an answer whose call failed is context, whoever says so."""
    failing = agent()
    failing["messages"][2]["content"] = "Error: no such city"
    rows = [failing, agent(), talk(*TWO)]
    for row, task in zip(rows, ("calls", "calls", "talk"), strict=True):
        row["task"] = task
    rule = '\n[[rules]]\nstrategy = "direct"\nwhen.task = "calls"\n'
    rule += 'train_on = { reasoning = false, except_replies = "(?i)^error" }\n[[rules]]\nstrategy = "direct"\n'
    built = make(tmp_path / "b", CALLING, rows, more=rule)
    assert list(rejected_lines(built.directory)) == []
    assert proof(built).findings == ()
    said = f"\n\nI look.{CALLED}"
    found = {place: [] for place in (1, 2, 3)}
    for one in sorted(example_lines(built.directory), key=lambda one: (one["place"], one["turn"])):
        found[one["place"]] += [part["text"] for part in one["segments"] if part["trained"]]
        assert one.get("train_on") == (None if one["place"] == 3 else "content+tool_calls")
        assert ("trained_content" in one) == (one["place"] < 3)
    assert found == {
        1: ["\n\nIt is 4 C.<|im_end|>"],
        2: [said, "\n\nIt is 4 C.<|im_end|>"],
        3: ["1<|im_end|>", "2<|im_end|>"],
    }


def test_answers_that_match_stay_as_context(tmp_path: Path) -> None:
    rows = [
        talk("user: One?", "assistant: I cannot.", "user: Two?", "assistant: 2"),
        talk("user: Three?", "assistant: 3"),
    ]
    built = make(tmp_path / "b", QWEN3, rows, more=table(except_answers='"cannot|3"'))
    assert trained(built) == ["2<|im_end|>"]
    assert [lost["reason"] for lost in rejected_lines(built.directory)] == ["no message is trained"]
    assert proof(built).findings == ()
    with pytest.raises(RecipeError, match="is no pattern"):
        make(tmp_path / "c", QWEN3, rows, more=table(except_answers='"("'))


THOUGHT = "<think>\nI count.\n</think>"
SHORT = """\
name = "whole"

[collections.chats]
kind = "whole_rows"
path = "chats.jsonl"

[tokenizer]
kind = "hf"
path = "tokenizer"

[template]
kind = "from_tokenizer"
OPTIONS

[packing]
row_tokens = 160
overlong = "window"
"""


def parts_of(built: Built) -> list[dict[str, Any]]:
    columns = ["trained_reasoning", "trained_content", "trained_tool_calls"]
    return pq.read_table(built.directory / "main" / "00000.records.parquet", columns=columns).to_pylist()


def test_no_parts_are_counted_of_an_answer_that_packing_cut(tmp_path: Path) -> None:
    row = talk("user: One?", "assistant: " + "1 2 3 4 " * 2000)
    row["messages"][1]["reasoning_content"] = "I count."
    built = make(tmp_path / "b", QWEN3, [row], more='overlong = "truncate"\n' + table(reasoning=False))
    assert [set(counts.values()) for counts in parts_of(built)] == [{None}]
    assert proof(built).findings == ()


def test_windows_alone_may_end_where_parts_do(tmp_path: Path) -> None:
    rows = [thinking(talk("user: One?", "assistant: " + "1 2 3 4 " * 2000))]
    built = make(tmp_path / "b", QWEN3, rows, more='overlong = "window"\n' + table(content=False))
    assert [set(counts.values()) for counts in parts_of(built)] == [{None}] * len(ids(built))
    assert proof(built).findings == ()


def test_what_a_template_of_ours_has_no_place_for_rejects_rows_with_thoughts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.run.renderers.test_student_renderer.RECIPE", RECIPE.replace("from_tokenizer", "chatml"))
    row = talk("user: W?", "assistant: <think>hm</think> So.", "tool: 4 C", "assistant: It is 4 C.")
    row["messages"][2]["name"] = "get_weather"
    built = make(tmp_path / "b", CHATML, [row, talk(*TWO)], more=table(reasoning=False))
    assert [lost["reason"].partition(":")[0] for lost in rejected_lines(built.directory)] == ["name of a message"]
