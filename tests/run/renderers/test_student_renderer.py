"""Builds of rows that no table of joints renders: what is trained, what inference sees, what is counted and proven."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from orca_recipes.errors import BuildError
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.run.build import build
from orca_recipes.run.built import Built, Ran
from orca_recipes.run.renderers.plain_exchanges import WORTH
from orca_recipes.shards.checks.verify_report import Report
from orca_recipes.shards.layout import TRAINED, is_trained
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.show.show_lines import example_lines, rejected_lines
from tests.campaign.template_sources import Gathered
from tests.campaign.templates import Oracle, write_tokenizer
from tests.contract.templates.test_turn_texts import CALL, CALLS, CHATML, QWEN3, R1, TOOLS
from tests.prove.test_prove import reseal, rewrite
from tests.run.small import asked, write_rows
from tests.run.whole_rows import RECIPE, catalogue

CONTROL = ("<|im_start|>", "<|im_end|>", "<|call|>", "<|A|>", "<|U|>", "<|end|>")
HARMONY = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|A|>final<|U|>' + m.content }}"
    "{{ '<|call|>' if loop.last and not add_generation_prompt else '<|end|>' }}{% else %}"
    "{{ '<|A|>' + m.role + '<|U|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|A|>{% endif %}"
)


def gathered(template: str) -> Gathered:
    return Gathered("own", template, None, "<|im_end|>", CONTROL)


def make(folder: Path, template: str, rows: Sequence[dict[str, Any]], options: str = "", more: str = "") -> Built:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tokenizer").exists():
        write_tokenizer(folder, gathered(template))
    write_rows(folder / "chats.jsonl", list(rows))
    (folder / "whole.toml").write_text(RECIPE.replace("OPTIONS", options) + more, encoding="utf-8")
    manifest, fresh = build(asked(folder / "whole.toml", catalogue=catalogue()), Progress())
    return Built(folder / "out", manifest, fresh, Ran("local"))


def proof(built: Built) -> Report:
    return prove(built.directory, kinds=catalogue(), progress=Progress())


def talk(*turns: str, **more: Any) -> dict[str, Any]:
    told = [dict(zip(("role", "content"), turn.split(": ", 1), strict=True)) for turn in turns]
    return {"messages": told, **more}


def thinking(row: dict[str, Any]) -> dict[str, Any]:
    for message in row["messages"]:
        if message["role"] == "assistant":
            message["reasoning_content"] = f"I think of {message['content']}."
    return row


def calling() -> dict[str, Any]:
    row = talk("user: Weather?", "assistant: ", "tool: 4 C", "assistant: It is 4 C.", tools=TOOLS)
    row["messages"][1]["tool_calls"] = CALL
    return row


NONE = "the chat template prints none; use another one, or name the key in ignore_keys"
TWO = ("user: One?", "assistant: 1", "user: Two?", "assistant: 2")
TURNS = {
    "thoughts of the last turn": (QWEN3, [thinking(talk(*TWO)), talk(*TWO), talk("system: Brief.", *TWO)]),
    "thoughts that the prompt begins": (R1, [thinking(talk(*TWO)), talk("user: One?", "assistant: 1")]),
    "another end in history": (HARMONY, [talk(*TWO), talk("system: Brief.", *TWO)]),
    "calls and tools": (CALLS, [calling(), talk(*TWO), talk(*TWO, tools=TOOLS)]),
}


@pytest.mark.parametrize("name", TURNS)
def test_every_answer_stands_behind_the_ids_that_inference_sees(tmp_path: Path, name: str) -> None:
    template, rows = TURNS[name]
    built = make(tmp_path / "b", template, rows)
    assert list(rejected_lines(built.directory)) == []
    assert proof(built).findings == ()
    oracle = Oracle(built.directory, gathered(template))
    trained = 0
    for example in example_lines(built.directory):
        row, ids = rows[example["place"] - 1], list[int]()
        answers = [place for place, message in enumerate(row["messages"]) if message["role"] == "assistant"]
        parts = [segment for segment in example["segments"] if segment["trained"]]
        last = len(answers) if example["turn"] == -1 else example["turn"]
        places = iter(answers[last - len(parts) : last])
        for segment in example["segments"]:
            if segment["trained"]:
                trained += 1
                prompt = oracle.text(row, next(places), asked=True)
                closed = ("", "<think>\n\n</think>\n\n", "\n</think>\n\n")
                assert ids in [oracle.ids(prompt + ending) for ending in closed]
            ids += segment["tokens"]
    assert trained == sum(message["role"] == "assistant" for row in rows for message in row["messages"])


def test_turns_that_inference_sees_in_a_row_are_one_example_and_others_are_counted(tmp_path: Path) -> None:
    built = make(tmp_path / "b", QWEN3, [thinking(talk(*TWO)), talk("user: One?", "assistant: 1")])
    turns = sorted((example["place"], example["turn"]) for example in example_lines(built.directory))
    assert turns == [(1, 1), (1, 2), (2, -1)]
    (stage,) = (stage for stage in built.manifest.datasets["main"].stages if stage.name.startswith("tokenize "))
    assert (stage.taken, stage.created, stage.out) == (2, {"one example a turn": 1}, 3)
    joined = make(tmp_path / "c", CALLS, [calling()])
    assert [example["turn"] for example in example_lines(joined.directory)] == [-1]


def test_the_table_of_joints_and_the_template_itself_give_the_same_tokens(tmp_path: Path) -> None:
    """A name that the template does not print makes a row be rendered whole."""
    rows = [talk("system: Be brief.", "user: One\ntwo?", "assistant: 1", "user:  Two? ", "assistant: 2 <x> \n")]
    named = [{"messages": [{**message, "name": "Ann"} for message in rows[0]["messages"]]}]
    fast, slow = make(tmp_path / "fast", CHATML, rows), make(tmp_path / "slow", CHATML, named)
    told = [list(example_lines(built.directory)) for built in (fast, slow)]
    assert [example["segments"] for example in told[0]] == [example["segments"] for example in told[1]]
    tables = [pq.read_table(built.directory / "main" / "00000.records.parquet") for built in (fast, slow)]
    assert ["given" in table.column_names for table in tables] == [False, True]
    for name in ("text_digest", "ids_xxh3", "tokens", "trained_tokens"):
        assert tables[0][name].to_pylist() == tables[1][name].to_pylist()


def test_plain_rows_beside_others_are_the_same_as_alone(tmp_path: Path) -> None:
    plain = [talk(f"user: Is {n} odd?", f"assistant: {n % 2}") for n in range(20)]
    mixed = [*plain[:7], calling(), *plain[7:]]
    alone, beside = make(tmp_path / "a", CALLS, plain), make(tmp_path / "b", CALLS, mixed)
    texts = [
        sorted(str(example["segments"]) for example in example_lines(built.directory) if len(example["segments"]) < 5)
        for built in (alone, beside)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 20
    assert proof(beside).is_sound


def test_a_row_that_cannot_be_rendered_is_rejected_with_its_reason_and_no_other(tmp_path: Path) -> None:
    rows = [talk("user: One?", "assistant: 1"), calling(), thinking(talk(*TWO)), talk(*TWO, tools=TOOLS)]
    built = make(tmp_path / "b", CHATML, rows)
    assert [(lost["place"], lost["reason"]) for lost in rejected_lines(built.directory)] == [
        (2, "tools, tool_calls: the chat template prints none; use another one"),
        (3, f"reasoning: {NONE}"),
        (4, f"tools: {NONE}"),
    ]


def test_a_template_of_ours_rejects_by_name_what_it_has_no_place_for(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    write_tokenizer(folder, gathered(CHATML))
    write_rows(folder / "chats.jsonl", [calling(), talk("user: One?", "assistant: 1")])
    text = RECIPE.replace("OPTIONS", "").replace("from_tokenizer", "chatml")
    (folder / "whole.toml").write_text(text, encoding="utf-8")
    build(asked(folder / "whole.toml", catalogue=catalogue()), Progress())
    (lost,) = rejected_lines(folder / "out")
    assert lost["reason"].startswith("tool_calls (function_call) of a message: no place for it")


def test_the_last_exchange_alone_is_one_example(tmp_path: Path) -> None:
    built = make(tmp_path / "b", QWEN3, [thinking(talk(*TWO)), talk(*TWO)], 'history = "last"')
    told = list(example_lines(built.directory))
    assert sorted(example["place"] for example in told) == [1, 2]
    assert all(sum(segment["trained"] for segment in example["segments"]) == 1 for example in told)
    assert proof(built).is_sound


def test_a_rows_own_variables_stand_before_those_of_the_recipe(tmp_path: Path) -> None:
    template = CHATML.replace("{% for m", "{{ tone or '' }}{% for m", 1)
    rows = [talk("user: One?", "assistant: 1"), talk("user: Two?", "assistant: 2", chat_template_kwargs={"tone": "B"})]
    built = make(tmp_path / "b", template, rows, 'variables = { tone = "A" }')
    heads = {example["place"]: example["segments"][0]["text"][0] for example in example_lines(built.directory)}
    assert heads == {1: "A", 2: "B"}
    assert proof(built).is_sound


def test_several_ends_are_told_by_manifest_and_generation_settings(tmp_path: Path) -> None:
    built = make(tmp_path / "b", CALLS, [calling()])
    ids = {text: Oracle(built.directory, gathered(CALLS)).ids(text)[0] for text in ("<|im_end|>", "<|call|>")}
    assert built.manifest.terminators == ((ids["<|im_end|>"],), (ids["<|call|>"],))
    settings = json.loads((built.directory / "tokenizer" / "generation_config.json").read_text(encoding="utf-8"))
    assert settings["eos_token_id"] == [ids["<|im_end|>"], ids["<|call|>"]]


def test_turns_of_one_conversation_lie_apart_and_any_parts_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [thinking(talk(f"user: One {n}?", "assistant: 1", "user: Two?", "assistant: 2")) for n in range(40)]
    built = make(tmp_path / "b", QWEN3, rows)
    order = [example["place"] for example in example_lines(built.directory)]
    assert sum(a == b for a, b in pairwise(order)) < 10
    places = {"store": tmp_path / "s", "out": tmp_path / "o"}
    monkeypatch.setattr("orca_recipes.run.work.bench.TASKS_WORTH_WORKERS", 1)
    again, _ = build(asked(tmp_path / "b" / "whole.toml", catalogue=catalogue(), workers=2, **places), Progress())
    assert again.data_digest == built.manifest.data_digest


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (pl.col("given").cast(pl.String).str.replace_all("Two", "Six"), "where its conversation gives"),
        (pl.lit("{}"), "no conversation that could be rendered"),
    ],
)
def test_a_record_that_tells_another_conversation_is_found(tmp_path: Path, told: pl.Expr, said: str) -> None:
    built = make(tmp_path / "b", QWEN3, [thinking(talk(*TWO))])
    path = built.directory / "main" / "00000.records.parquet"
    pl.read_parquet(path).with_columns(told.alias("given")).write_parquet(path)
    reseal(built.directory)
    assert any(said in finding.sentence for finding in proof(built).findings)


def test_a_changed_mask_of_a_row_that_was_rendered_whole_is_found(tmp_path: Path) -> None:
    built = make(tmp_path / "b", QWEN3, [thinking(talk(*TWO))])

    def change(_: np.ndarray, modes: np.ndarray, shard: Shard) -> None:
        context = np.flatnonzero(~is_trained(modes))
        modes[context[-1]] |= TRAINED

    rewrite(built.directory, "main/00000", change)
    reseal(built.directory)
    assert any("its conversation says otherwise" in finding.sentence for finding in proof(built).findings)


def test_a_build_of_nothing_but_unfit_rows_says_why(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="reasoning: the chat template prints none"):
        make(tmp_path / "b", CHATML, [thinking(talk(*TWO))])


def test_a_template_is_told_all_named_tokens_of_its_tokenizer(tmp_path: Path) -> None:
    template = CHATML.replace("m.content", "m.content + (unk_token or '')")
    (tmp_path / "b").mkdir()
    write_tokenizer(tmp_path / "b", gathered(template))
    config = tmp_path / "b" / "tokenizer" / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "unk_token": "<|call|>"}))
    built = make(tmp_path / "b", template, [talk("user: One?", "assistant: 1")])
    (example,) = example_lines(built.directory)
    shipped: Any = AutoTokenizer.from_pretrained(built.directory / "tokenizer")
    prompt = shipped.apply_chat_template(talk("user: One?")["messages"], tokenize=False, add_generation_prompt=True)
    assert "<|call|>" in prompt
    assert "".join(part["text"] for part in example["segments"] if not part["trained"]) == prompt


def test_a_thought_that_never_ends_is_rejected_by_our_own_templates_and_by_single_exchanges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_rows = [
        talk("user: Ask?", "assistant:  <think>I count and never end"),
        talk("user: One?", "assistant: 1", "user: Two?", "assistant: <think>\nI count."),
    ]
    said = talk("user: Why?", "assistant: They write <think> before a thought.")
    rows = [*open_rows, said, *(talk(f"user: Ask {n}?", f"assistant: Say {n}.") for n in range(WORTH))]
    theirs = RECIPE
    for folder, kind, template in (("own", "chatml", CHATML), ("theirs", "from_tokenizer", QWEN3)):
        recipe = theirs.replace("from_tokenizer", kind)
        monkeypatch.setattr("tests.run.renderers.test_student_renderer.RECIPE", recipe)
        built = make(tmp_path / folder, template, rows)
        lost = {one["place"]: one["reason"] for one in rejected_lines(built.directory)}
        refused = dict.fromkeys((1, 2), "content: a thought begins and never ends")
        # A template that reads thoughts in contents may take one left open anywhere for one.
        assert lost == (refused if template == CHATML else {**refused, 3: refused[1]})


def test_answers_that_inference_reads_in_other_tokens_once_they_are_history_make_one_example_a_turn(
    tmp_path: Path,
) -> None:
    """A prompt ends in a space, and in history the answer's first word takes it in."""
    template = (
        "{% for m in messages %}{{ 'Bot: ' + m.content + '<|im_end|>\n' if m.role == 'assistant' else "
        "'User: ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'Bot: ' }}{% endif %}"
    )
    row = talk("user: One?", "assistant: The first.", "user: Two?", "assistant: The second.")
    built = make(tmp_path / "b", template, [row])
    assert proof(built).findings == ()
    shipped: Any = AutoTokenizer.from_pretrained(built.directory / "tokenizer")
    examples = sorted(example_lines(built.directory), key=lambda example: example["turn"])
    assert [example["turn"] for example in examples] == [1, 2]
    for turn, example in enumerate(examples):
        *context, answer = example["segments"]
        prompt = shipped.apply_chat_template(
            row["messages"][: 2 * turn + 1], tokenize=False, add_generation_prompt=True
        )
        before = [token for part in context for token in part["tokens"]]
        assert before == shipped.encode(prompt, add_special_tokens=False)
        assert answer["trained"]
