"""Filters that leave single answers untrained, as context: what is trained, told, counted, proven and rejected."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from click.testing import CliRunner

from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.main import main
from orca_recipes.contract.hooks import Offers, hookimpl
from orca_recipes.contract.kinds import Filter
from orca_recipes.contract.testing import check_filter
from orca_recipes.errors import PluginError
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.run.build import build
from orca_recipes.shards.manifest import Manifest, read_manifest
from orca_recipes.shards.show.show_lines import example_lines, rejected_lines, untrained_lines
from tests.contract.templates.test_turn_texts import CALL, CALLS, CHATML, QWEN3, TOOLS
from tests.run.renderers.test_student_renderer import gathered, talk, write_tokenizer
from tests.run.small import asked, write_rows
from tests.run.whole_rows import RECIPE, WholeRowsPlugin

REFUSAL = "I'm sorry, but I cannot help with that."
ROWS = [
    talk("user: One?", "assistant: 1", "user: Two?", f"assistant: {REFUSAL}", "user: Three?", "assistant: 3"),
    talk("user: One?", "assistant: 1", "user: Two?", "assistant: 2"),
    talk("user: One?", f"assistant: {REFUSAL}"),
]


class FailedCalls(Filter):
    """Leave calls untrained that a tool answers with an error.

    [[datasets.main.filters]]
    kind = "failed_calls"
    """

    kind: Literal["failed_calls"] = "failed_calls"

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        return pl.repeat(None, conversations.height, dtype=pl.String, eager=True)

    def turn_reasons(self, *, conversations: pl.DataFrame) -> pl.Series | None:
        message = pl.element().struct
        reply = message.field("content").shift(-1)
        fails = (message.field("role").shift(-1) == "tool") & reply.str.starts_with("Error")
        return conversations["messages"].list.eval(pl.when(fails).then(pl.lit("its call fails")))


class TooMany(FailedCalls):
    """Give more reasons than there are messages.

    [[datasets.main.filters]]
    kind = "too_many"
    """

    kind: Literal["too_many"] = "too_many"  # type: ignore[assignment]

    def turn_reasons(self, *, conversations: pl.DataFrame) -> pl.Series | None:
        return pl.Series([["it is odd"]] * conversations.height, dtype=pl.List(pl.String))


class Filters(WholeRowsPlugin):
    @hookimpl
    def orca_filters(self) -> Offers:
        return {"failed_calls": f"{__name__}:FailedCalls", "too_many": f"{__name__}:TooMany"}


def made(folder: Path, rows: list[dict[str, Any]], filters: str, template: str = CHATML) -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, gathered(template))
    write_rows(folder / "chats.jsonl", rows)
    tables = "".join(f"\n[[datasets.main.filters]]\n{one}\n" for one in filters.split(";"))
    recipe = RECIPE.replace("OPTIONS", "") + f'\n[datasets.main]\nmixture = "main"\n{tables}'
    (folder / "whole.toml").write_text(recipe, encoding="utf-8")
    kinds = Catalogue(plugins=[Filters()])
    manifest, _ = build(asked(folder / "whole.toml", catalogue=kinds), Progress())
    assert prove(folder / "out", kinds=kinds, progress=Progress()).findings == ()
    return manifest


def trained(folder: Path) -> dict[int, list[str]]:
    """The trained texts of each row, sorted, by its place."""
    found: dict[int, list[str]] = {}
    for line in example_lines(folder / "out"):
        texts = [part["text"].removesuffix("<|im_end|>") for part in line["segments"] if part["trained"]]
        found.setdefault(line["place"], []).extend(texts)
    return {place: sorted(texts) for place, texts in found.items()}


def counts(manifest: Manifest) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """What the stage of the filters left untrained, and what it rejected."""
    stage = next(one for one in manifest.datasets["main"].stages if one.name.startswith("converse"))
    return stage.untrained, stage.rejected


@pytest.mark.parametrize("template", [CHATML, QWEN3])
def test_an_answer_that_a_filter_finds_stays_as_context(tmp_path: Path, template: str) -> None:
    manifest = made(tmp_path, ROWS, 'kind = "refusal"\naction = "untrain"', template)
    assert trained(tmp_path) == {1: ["1", "3"], 2: ["1", "2"]}
    last = max(
        (line for line in example_lines(tmp_path / "out") if line["place"] == 1), key=lambda line: len(line["segments"])
    )
    assert REFUSAL in "".join(part["text"] for part in last["segments"] if not part["trained"])
    assert last["untrained"] == [{"turn": 2, "stage": "filter refusal", "reason": "it refuses the question"}]
    assert counts(manifest) == (
        {"filter refusal: it refuses the question": 1},
        {"no answer stays trained: it refuses the question": 1},
    )
    (lost,) = rejected_lines(tmp_path / "out")
    assert (lost["place"], lost["stage"]) == (3, "filter refusal")
    assert read_manifest(tmp_path / "out").datasets["main"].stages == manifest.datasets["main"].stages


def test_people_are_told_of_untrained_answers_by_show_and_explain(tmp_path: Path) -> None:
    made(tmp_path, ROWS, 'kind = "refusal"\naction = "untrain"')

    def printed(*words: str) -> str:
        return " ".join(CliRunner().invoke(main, list(words), catch_exceptions=False).stdout.split())

    build_folder = str(tmp_path / "out")
    said = "answer 2 untrained (filter refusal: it refuses the question)"
    assert printed("show", build_folder, "--untrained").endswith(f"in context all the same chats/chats.jsonl:1: {said}")
    assert said in printed("show", build_folder, "--row", "0")
    (line,) = untrained_lines(tmp_path / "out")
    assert json.loads(printed("show", build_folder, "--untrained", "--json")) == line
    assert (line["file"], line["place"], line["turn"]) == ("chats.jsonl", 1, 2)
    story = printed("explain", build_folder, "--source", "chats.jsonl:1", "--store", str(tmp_path / "store"))
    assert "untrained answer 2 by filter refusal: it refuses the question" in story


def test_a_filter_of_a_plugin_leaves_the_calls_untrained_that_fail(tmp_path: Path) -> None:
    said = ("user: Weather?", "assistant: ", "tool: Error: no such city", "assistant: ", "tool: 4 C", "assistant: 4 C.")
    failing = talk(*said, tools=TOOLS)
    for place in (1, 3):
        failing["messages"][place]["tool_calls"] = CALL
    manifest = made(tmp_path, [failing], 'kind = "failed_calls"', CALLS)
    (texts,) = trained(tmp_path).values()
    assert sorted("get_weather" in text for text in texts) == [False, True]
    assert [line["turn"] for line in untrained_lines(tmp_path / "out")] == [1]
    assert counts(manifest) == ({"filter failed_calls: its call fails": 1}, {})


def test_a_filter_sees_the_answers_that_filters_before_it_left_untrained_as_context(tmp_path: Path) -> None:
    again = "no " * 40
    rows = [talk("user: One?", f"assistant: {REFUSAL} {again}", "user: Two?", "assistant: 2")]
    both = 'kind = "refusal"\naction = "untrain";kind = "repetition"'
    assert counts(made(tmp_path / "a", rows, both))[0] == {"filter refusal: it refuses the question": 1}
    with pytest.raises(Exception, match="it repeats itself"):
        made(tmp_path / "b", rows, 'kind = "repetition"')


def test_the_last_answer_alone_is_judged_where_the_dataset_trains_it_alone(tmp_path: Path) -> None:
    last = 'kind = "refusal"\naction = "untrain"\n[datasets.main.train_on]\nturns = "last"'
    manifest = made(tmp_path, ROWS, last)
    assert trained(tmp_path) == {1: ["3"], 2: ["2"]}
    assert counts(manifest)[0] == {}


def test_reasons_that_fit_no_messages_are_the_fault_of_their_plugin(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r'filter "too_many" .* must give a reason or null for each message'):
        made(tmp_path, ROWS, 'kind = "too_many"')


def test_the_contract_tests_what_a_filter_leaves_untrained() -> None:
    check_filter(FailedCalls())
    with pytest.raises(AssertionError, match="an entry for each message"):
        check_filter(TooMany())
