"""A plan tells what conversations become under each history of a template that prints earlier turns otherwise."""

from pathlib import Path

from orca_recipes.preview.histories import histories, history_table
from orca_recipes.progress import Progress
from orca_recipes.run.build import bench_of, build, prepare, scan
from tests.campaign.templates import write_tokenizer
from tests.contract.templates.test_turn_texts import CALLS, QWEN3
from tests.run.renderers.test_student_renderer import gathered, talk, thinking
from tests.run.small import asked, write_rows
from tests.run.whole_rows import RECIPE, catalogue


def planned(folder: Path, template: str):
    said = [(f"user: Ask {n}.", f"assistant: Say {n}.") for n in range(6)]
    write_tokenizer(folder, gathered(template))
    write_rows(
        folder / "chats.jsonl", [thinking(talk(*(turn for both in said for turn in both)))] * (template == QWEN3)
    )
    if template != QWEN3:
        write_rows(folder / "chats.jsonl", [talk(*(turn for both in said for turn in both))])
    (folder / "whole.toml").write_text(RECIPE.replace("OPTIONS", ""), encoding="utf-8")
    return asked(folder / "whole.toml", catalogue=catalogue())


def test_examples_and_tokens_of_the_first_rows_are_told_under_each_history(tmp_path: Path):
    this = planned(tmp_path, QWEN3)
    prepared = prepare(this)
    assert histories(bench_of(this, prepared, Progress())) == ()
    views = histories(scan(this, prepared, Progress()))
    assert [(view.history, view.chosen, view.examples) for view in views] == [
        ("inference", True, 6),
        ("kept", False, 1),
        ("last", False, 1),
    ]
    inference, kept, last = views
    assert inference.example_tokens > inference.tokens > last.tokens
    assert kept.example_tokens == kept.tokens
    assert "inference (chosen)" in history_table(views)
    build(this, Progress())
    assert histories(bench_of(this, prepared, Progress())) == views


def test_where_no_conversation_grows_nobody_is_told(tmp_path: Path):
    this = planned(tmp_path, CALLS)
    views = histories(scan(this, prepare(this), Progress()))
    assert {view.examples for view in views} == {1}
    assert history_table(views) == ""
