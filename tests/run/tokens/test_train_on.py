"""Which parts of answers carry loss: tokens stay as they are, and the mask holds what is wanted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from orca_recipes.errors import RecipeError
from orca_recipes.run.built import Built
from orca_recipes.shards.show.show_lines import example_lines, rejected_lines
from tests.contract.test_turn_texts import CALL, QWEN3, TOOLS
from tests.run.tokens.test_student_renderer import TWO, make, proof, talk, thinking

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


def test_weights_between_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"(?s)train_on.reasoning.*there are no weights, and 0.5 is one"):
        make(tmp_path / "b", QWEN3, [talk(*TWO)], more=table(reasoning=0.5))
    with pytest.raises(RecipeError, match="no part is trained"):
        make(tmp_path / "c", QWEN3, [talk(*TWO)], more=table(reasoning=False, content=False, tool_calls=False))


def test_windows_and_parts_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [(f"user: Ask {n}.", f"assistant: Say {n}.") for n in range(20)]
    row = thinking(talk(*(turn for both in said for turn in both)))
    monkeypatch.setattr("tests.run.tokens.test_student_renderer.RECIPE", SHORT)
    built = make(tmp_path / "b", QWEN3, [row], options='history = "kept"', more=table(reasoning=False))
    assert proof(built).findings == ()
    examples = list(example_lines(built.directory))
    assert len(examples) > 3
    assert all("I think" not in text for text in trained(built))
    assert sum(text.count("Say") for text in trained(built)) == 20


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
