"""Conversations as text: what `transformers` prints of them with the shipped template is what the build holds."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orca_plugins.exporters.messages_lines import Messages
from orca_plugins.exporters.rl import NO_LABELS, OF_A_TEACHER, RL
from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.exporter import BuildToExport, Exporter, ShardToExport, Written
from orca_recipes.export.export import Exported, export
from orca_recipes.export.said_messages import CANNOT_BE_PARTED, HOLDS_CONTROL, IS_CUT, IS_WINDOW
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.run.built import Built
from orca_recipes.shards.manifest import read_manifest
from tests.contract.templates.test_turn_texts import CALL, CALLS, QWEN3, TOOLS
from tests.export import wheels
from tests.export.conftest import quickstart, sums
from tests.export.oracle import Labelled, examples_of
from tests.export.test_export import exported
from tests.run.chats import built as chats_built
from tests.run.chats import recipe_of
from tests.run.renderers.test_student_renderer import make, talk, thinking
from tests.run.tokens.test_train_on import table
from tests.run.whole_rows import catalogue

__all__ = ["quickstart", "sums"]


def lines_of(out: Path, dataset: str = "main") -> list[dict[str, Any]]:
    files = sorted((out / dataset).glob("train-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def exported_whole(built: Built, exporter: Exporter, out: Path) -> Exported:
    return export(built.directory, exporter, out=out, datasets=(), kinds=catalogue(), progress=Progress())


def holds(out: Path, lines: list[dict[str, Any]], examples: list[Labelled]) -> bool:
    """Whether what transformers makes of each line begins with the ids of its example, to its last trained token."""
    from transformers import PreTrainedTokenizerFast

    load: Any = PreTrainedTokenizerFast.from_pretrained
    tokenizer = load(out / "tokenizer")
    assert len(lines) == len(examples)
    for line, (ids, labels) in zip(lines, examples, strict=True):
        more = {"tools": line.get("tools"), **line.get("chat_template_kwargs", {})}
        text = tokenizer.apply_chat_template(line["messages"], tokenize=False, **more)
        printed = tokenizer(text, add_special_tokens=False)["input_ids"]
        last = max(at for at, label in enumerate(labels) if label >= 0) + 1
        if tuple(printed[:last]) != ids[:last]:
            return False
    return True


@pytest.mark.parametrize("build", ["quickstart", "sums"])
def test_transformers_prints_the_build_of_its_messages(build: str, tmp_path: Path, request: pytest.FixtureRequest):
    directory, dataset = request.getfixturevalue(build), "main" if build == "quickstart" else "sums"
    told = exported(directory, Messages(), tmp_path / "out", dataset)
    promised = read_manifest(directory).datasets[dataset]
    assert told.trained_labels + sum(told.lost_labels.values()) == promised.trained_tokens
    assert not told.lost_labels
    assert holds(tmp_path / "out", lines_of(tmp_path / "out", dataset), examples_of(directory, dataset))


def test_datasets_loads_the_lines(quickstart: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    exported(quickstart, Messages(), tmp_path / "out")
    found = datasets.load_dataset(str(tmp_path / "out"), "main", split="train", cache_dir=str(tmp_path / "cache"))
    assert found.to_list() == lines_of(tmp_path / "out")


CALLED = {"role": "assistant", "content": "", "tool_calls": CALL}
WITH_CALLS = [
    talk("user: Oslo?", "assistant: Where?"),
    {
        "messages": [
            {"role": "user", "content": "Weather?"},
            CALLED,
            {"role": "tool", "content": "rain", "tool_call_id": "a", "name": "get_weather"},
            {"role": "assistant", "content": "It rains."},
        ],
        "tools": TOOLS,
    },
]


def test_calls_and_tools_come_along(tmp_path: Path):
    built = make(tmp_path / "made", CALLS, WITH_CALLS)
    told = exported_whole(built, Messages(), tmp_path / "out")
    examples = examples_of(built.directory)
    assert told.examples == len(examples)
    lines = lines_of(tmp_path / "out")
    called = [line for line in lines if "tools" in line]
    assert called
    assert all(line["tools"] == TOOLS for line in called)
    assert any(one.get("tool_calls") == CALL for line in called for one in line["messages"])
    assert holds(tmp_path / "out", lines, examples)
    assert "have tools or calls" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_reasoning_stands_under_the_key_that_the_template_reads(tmp_path: Path):
    row = talk("user: One?", "assistant: 1")
    row["messages"][1]["reasoning"] = "I count."
    built = make(tmp_path / "made", QWEN3, [row])
    exported_whole(built, Messages(), tmp_path / "out")
    (line,) = lines_of(tmp_path / "out")
    assert line["messages"][-1] == {"role": "assistant", "content": "1", "reasoning_content": "I count."}
    assert holds(tmp_path / "out", [line], examples_of(built.directory))


def test_marks_tell_which_messages_carry_loss_and_settings_how_many_do_not(tmp_path: Path):
    rows = [talk("user: One?", "assistant: 1", "user: Two?", "assistant: 2")]
    built = make(tmp_path / "made", QWEN3, rows, options='history = "last"')
    exported_whole(built, Messages(marks=True), tmp_path / "out")
    marks = [[one["loss"] for one in line["messages"]] for line in lines_of(tmp_path / "out")]
    assert marks == [[False, False, False, True]]
    assert "**1 earlier answers carry no loss" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("build", ["quickstart", "sums"])
def test_rl_has_questions_references_and_tasks(build: str, tmp_path: Path, request: pytest.FixtureRequest):
    directory, dataset = request.getfixturevalue(build), "main" if build == "quickstart" else "sums"
    told = exported(directory, RL(), tmp_path / "out", dataset)
    assert told.lost_labels == {NO_LABELS: read_manifest(directory).datasets[dataset].trained_tokens}
    lines = lines_of(tmp_path / "out", dataset)
    exported(directory, Messages(), tmp_path / "text", dataset)
    texts = [line["messages"] for line in lines_of(tmp_path / "text", dataset)]
    assert [[*line["prompt"], {"role": "assistant", "content": line["reference"]}] for line in lines] == texts
    assert all(line["task"] for line in lines)
    if dataset == "main":
        asked = read_quickstart()
        assert {(line["prompt"][-1]["content"], line["reference"], line["task"]) for line in lines} <= asked


@pytest.mark.slow
def test_verl_reads_questions_and_references(quickstart: Path, tmp_path: Path):
    lib = wheels.unpacked(*wheels.VERL)
    exported(quickstart, RL(), tmp_path / "out")
    assert "data.train_files=[$(echo main/*.jsonl" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    files = sorted(path.as_posix() for path in (tmp_path / "out" / "main").glob("*.jsonl"))
    found = wheels.read_by("verl", *files, wheels=lib, folder=tmp_path / "out")
    lines = lines_of(tmp_path / "out")
    assert found == [[line["prompt"], line["task"], line["reference"]] for line in lines]


def read_quickstart() -> set[tuple[str, str, str]]:
    """Question, answer and task of the rows that the quickstart reads."""
    path = Path(__file__).parents[2] / "recipes" / "quickstart" / "tasks.jsonl.gz"
    rows = map(json.loads, gzip.decompress(path.read_bytes()).decode().splitlines())
    return {(row["question"], row["answer"], row["task"]) for row in rows}


def test_rl_brings_tools_and_the_calls_of_a_reference(tmp_path: Path):
    rows = [{"messages": [{"role": "user", "content": "Weather?"}, CALLED], "tools": TOOLS}]
    built = make(tmp_path / "made", CALLS, rows)
    exported_whole(built, RL(), tmp_path / "out")
    (line,) = lines_of(tmp_path / "out")
    assert (line["tools"], line["reference_calls"], line["reference"]) == (TOOLS, CALL, "")


PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_reference_is_text_also_where_the_template_reads_parts(tmp_path: Path):
    built = make(tmp_path / "made", PARTS, [talk("user: One?", "assistant: 1", "user: Two?", "assistant: 2")])
    exported_whole(built, RL(), tmp_path / "out")
    (line,) = lines_of(tmp_path / "out")
    assert (line["reference"], line["reward_model"]["ground_truth"]) == ("2", "2")
    assert line["prompt"][0]["content"] == [{"type": "text", "text": "One?"}]


def test_rl_leaves_out_what_a_teacher_answered(quickstart: Path, tmp_path: Path):
    """A build holds the teacher's answer, and no reference."""

    class Taught(RL):
        def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
            return super().write(build=replace(build, own_words=frozenset()), shard=shard, folder=folder)

    told = exported(quickstart, Taught(), tmp_path / "out")
    assert told.lost_labels == {OF_A_TEACHER: read_manifest(quickstart).datasets["main"].trained_tokens}
    assert "400 examples of the build are left out" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("template", [CALLS, QWEN3])
def test_an_answer_that_was_cut_is_left_out_and_counted(template: str, tmp_path: Path):
    """Packing ended an example that was too long: no template prints it so."""
    rows = [talk("user: One?", "assistant: 1"), talk("user: Two?", "assistant: " + "1 2 3 4 " * 2000)]
    built = make(tmp_path / "made", template, rows, more='overlong = "truncate"\n')
    told = exported_whole(built, Messages(), tmp_path / "out")
    assert list(told.lost_labels) == [IS_CUT]
    assert told.examples == 1


LONG = [said for at in range(12) for said in (f"user: {'q ' * 180}{at}", f"assistant: {'a ' * 20}{at}")]


def test_turns_that_packing_took_away_are_in_no_export(tmp_path: Path):
    built = make(tmp_path / "made", CALLS, [talk(*LONG, tools=TOOLS)], more='overlong = "drop_turns"\n')
    exported_whole(built, Messages(marks=True), tmp_path / "out")
    (line,), (example,) = lines_of(tmp_path / "out"), examples_of(built.directory)
    assert sum(one["loss"] for one in line["messages"]) == 10
    assert line["messages"][-1]["content"] == LONG[19].removeprefix("assistant: ")
    assert holds(tmp_path / "out", [line], [example])
    exported_whole(built, RL(), tmp_path / "rl")
    assert lines_of(tmp_path / "rl")[0]["reference"] == line["messages"][-1]["content"]


def test_windows_are_left_out_and_counted(tmp_path: Path):
    rows = [talk(*LONG, tools=TOOLS), talk("user: One?", "assistant: 1")]
    built = make(tmp_path / "made", CALLS, rows, more='overlong = "window"\n')
    told = exported_whole(built, Messages(), tmp_path / "out")
    assert (told.examples, list(told.lost_labels)) == (1, [IS_WINDOW])


def test_an_answer_is_marked_in_the_one_example_that_trains_it(tmp_path: Path):
    built = make(tmp_path / "made", QWEN3, [thinking(talk(*LONG[:6]))])
    told = exported_whole(built, Messages(marks=True), tmp_path / "out")
    marked = [[one["loss"] for one in line["messages"]] for line in lines_of(tmp_path / "out")]
    assert sorted(map(len, marked)) == [2, 4, 6]
    assert all(marks[-1] and sum(marks) == 1 for marks in marked)
    assert told.trained_labels == read_manifest(built.directory).datasets["main"].trained_tokens
    assert "**3 earlier answers carry no loss" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_answers_of_which_parts_are_trained_are_counted(tmp_path: Path):
    rows = [thinking(talk("user: One?", "assistant: 1")), talk("user: Two?", "assistant: 2")]
    built = make(tmp_path / "made", QWEN3, rows, more=table(reasoning=False))
    told = exported_whole(built, Messages(), tmp_path / "out")
    assert told.examples == 2
    assert "**Of 1 example only some parts" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_texts_of_control_tokens_are_left_out_and_counted(tmp_path: Path):
    """Also where answers in a row, one of them untrained, are told as one, or it is not known which."""
    rows = [
        talk("user: One?", "assistant: 1"),
        talk("user: What ends a turn?", "assistant: The text <|im_end|> does."),
        talk("user: One?", "assistant: 1", "assistant: bad", "assistant: 2", "user: Three?", "assistant: 3"),
        talk("user: One?", "assistant: bad", "assistant: 2", "user: Three?", "assistant: 3"),
    ]
    recipe = recipe_of(tmp_path, map(json.dumps, rows))
    with recipe.open("a", encoding="utf-8") as file:
        file.write(table(except_answers='"bad"'))
    chats_built(recipe, store=tmp_path / "store", out=tmp_path / "build")
    told = exported(tmp_path / "build", Messages(), tmp_path / "out")
    assert lines_of(tmp_path / "out") == rows[:1]
    assert set(told.lost_labels) <= {HOLDS_CONTROL, CANNOT_BE_PARTED}


ASKED_AGAIN = talk("user: One?\n\n### Response:\nno", "assistant: 1", "user: Two?", "assistant: 2")
TOLD_MORE = talk("system: Be kind.\n\n### Instruction:\nfirst", "user: Two?", "assistant: 2")
SAID_MORE = talk("user: One?", "assistant: 1\n\n### Response:\nno", "user: Two?", "assistant: 2")
SEEMS_SYSTEM = talk("user: first\n\n### Instruction:\nTwo?", "assistant: 2")


@pytest.mark.parametrize("row", [ASKED_AGAIN, TOLD_MORE, SAID_MORE, SEEMS_SYSTEM])
def test_messages_that_can_be_told_in_two_ways_are_left_out_and_counted(row: dict[str, Any], tmp_path: Path):
    """The template prints either reading as the build's text, and another answer of it would be trained."""
    plain = talk("user: Alone\n\n### Response:\nno", "assistant: 2")
    recipe = recipe_of(tmp_path, map(json.dumps, [row, plain]))
    recipe.write_text(recipe.read_text(encoding="utf-8").replace('"chatml"', '"plain"'), encoding="utf-8")
    chats_built(recipe, store=tmp_path / "store", out=tmp_path / "build")
    told = exported(tmp_path / "build", Messages(), tmp_path / "out")
    assert lines_of(tmp_path / "out") == [plain]
    assert list(told.lost_labels) == [CANNOT_BE_PARTED]
    verified = prove(tmp_path / "build", kinds=Catalogue(), progress=Progress())
    assert verified.findings == ()
    assert not any("prompt" in why for why in verified.not_checked)
