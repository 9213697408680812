"""Examples that are longer than a row: oldest exchanges left out, or windows that train each answer once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.explain.explain import explain_example
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.run.build import build
from orca_recipes.run.renderers.last_exchange import with_cut
from orca_recipes.run.tokens import tokenize
from orca_recipes.run.tokens.exchanges import beginnings, without_oldest
from orca_recipes.run.tokens.windows import Cutting, masked
from orca_recipes.shards.layout import segment_modes
from orca_recipes.shards.records import HISTORY_DROPPED, TAIL_TRIMMED
from orca_recipes.shards.show.show_lines import example_lines, rejected_lines
from tests.contract.templates.test_turn_texts import CALLS, QWEN3
from tests.prove.test_prove import reseal
from tests.run.renderers.test_student_renderer import calling, make, talk, thinking
from tests.run.small import QUICKSTART_TOKENIZER, asked, write_rows
from tests.run.whole_rows import RECIPE, catalogue

CHATML = f"""
name = "long"
[collections.c]
kind = "files"
path = "c.jsonl"
columns = {{ messages = "messages" }}
[tokenizer]
kind = "hf"
path = "{QUICKSTART_TOKENIZER.as_posix()}"
[template]
kind = "chatml"
[packing]
row_tokens = 64
"""


def long_talk(turns: int, *head: str) -> dict[str, Any]:
    said = [
        f"{role}: {word} number {n}." for n in range(turns) for role, word in (("user", "Ask"), ("assistant", "Say"))
    ]
    return talk(*head, *said)


def built(folder: Path, rows: Sequence[dict[str, Any]], overlong: str) -> list[dict[str, Any]]:
    folder.mkdir()
    write_rows(folder / "c.jsonl", list(rows))
    (folder / "r.toml").write_text(CHATML + f'overlong = "{overlong}"\n', encoding="utf-8")
    build(asked(folder / "r.toml"), Progress())
    report = prove(folder / "out", kinds=catalogue(), progress=Progress())
    assert report.findings == ()
    assert not [said for said in report.not_checked if "told apart" in said]
    return sorted(example_lines(folder / "out"), key=lambda one: (one["place"], one.get("window", 0)))


def text(example: dict[str, Any]) -> str:
    return "".join(segment["text"] for segment in example["segments"])


def trained(example: dict[str, Any]) -> list[int]:
    return [token for segment in example["segments"] if segment["trained"] for token in segment["tokens"]]


def records(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "out" / "main" / "00000.records.parquet").to_pylist()


def test_the_oldest_exchanges_are_left_out_and_as_few_as_may_be(tmp_path: Path) -> None:
    rows = [long_talk(8, "system: Be brief."), long_talk(1)]
    long, short = built(tmp_path / "b", rows, "drop_history")
    left = next(n for n in range(8) if f"Ask number {n}" in text(long))
    expected = {"messages": [rows[0]["messages"][0], *rows[0]["messages"][1 + 2 * left :]]}
    assert 0 < left < 7
    (alone,) = built(tmp_path / "alone", [expected], "drop")
    assert long["segments"] == alone["segments"]
    more = {"messages": [rows[0]["messages"][0], *rows[0]["messages"][1 + 2 * (left - 1) :]]}
    with pytest.raises(Exception, match="no example is left"):
        built(tmp_path / "more", [more], "drop")
    flags = {record["line"]: record["flags"] for record in records(tmp_path / "b")}
    assert flags == {1: HISTORY_DROPPED, 2: 0}
    story = explain_example(tmp_path / "b" / "out", long["id"], store=tmp_path / "b" / "store")
    assert story.stories[0].fates[0].standing.flags == ("history_dropped",)
    assert short["turn"] == -1


def test_what_does_not_fit_with_its_last_exchange_alone_is_rejected(tmp_path: Path) -> None:
    rows = [long_talk(1), talk("user: One?", "assistant: 1", "user: Two?", "assistant: " + "long words " * 60)]
    (kept,) = built(tmp_path / "b", rows, "drop_history")
    (lost,) = rejected_lines(tmp_path / "b" / "out")
    assert (lost["stage"], lost["reason"]) == ("pack", "longer than a row with its last exchange alone")
    assert kept["place"] == 1


def test_windows_train_every_answer_token_once_and_end_with_the_terminator(tmp_path: Path) -> None:
    rows = [long_talk(9), talk("user: One?", "assistant: " + "long words and more " * 20), long_talk(1)]
    examples = built(tmp_path / "b", rows, "window")
    for place, row in enumerate(rows, start=1):
        windows = [one for one in examples if one["place"] == place]
        (tmp_path / f"w{place}").mkdir()
        write_rows(tmp_path / f"w{place}" / "c.jsonl", [row])
        recipe = tmp_path / f"w{place}" / "r.toml"
        recipe.write_text(CHATML.replace("row_tokens = 64", "row_tokens = 4096"), encoding="utf-8")
        build(asked(recipe), Progress())
        (whole,) = example_lines(tmp_path / f"w{place}" / "out")
        assert [token for one in windows for token in trained(one)] == trained(whole)
        assert all(sum(len(part["tokens"]) for part in one["segments"]) <= 64 for one in windows)
        assert text(windows[-1]).endswith("<|im_end|>")
        assert len(windows) == 1 or [one["window"] for one in windows] == list(range(1, len(windows) + 1))
    assert "window" not in examples[-1]


def test_an_unfinished_tail_is_trimmed_and_told(tmp_path: Path) -> None:
    row = long_talk(8)
    row["messages"].append({"role": "user", "content": "And then?"})
    (example,) = built(tmp_path / "b", [row], "drop_history")
    assert text(example).endswith("Say number 7.<|im_end|>")
    assert records(tmp_path / "b")[0]["flags"] == HISTORY_DROPPED | TAIL_TRIMMED


@pytest.mark.parametrize("overlong", ["drop_history", "window"])
def test_one_example_a_turn_is_made_to_fit_turn_by_turn(tmp_path: Path, overlong: str) -> None:
    rows = [thinking(long_talk(12, "system: Be brief."))]
    made = make(tmp_path / "b", QWEN3, rows, more=f'overlong = "{overlong}"\n')
    recipe = tmp_path / "b" / "whole.toml"
    recipe.write_text(recipe.read_text().replace("row_tokens = 4096", "row_tokens = 120"), encoding="utf-8")
    manifest, _ = build(asked(recipe, catalogue=catalogue(), out=tmp_path / "b" / "small"), Progress())
    report = prove(tmp_path / "b" / "small", kinds=catalogue(), progress=Progress())
    assert report.findings == ()
    examples = list(example_lines(tmp_path / "b" / "small"))
    turns: dict[int, list[int]] = {}
    for one in sorted(examples, key=lambda one: (one["turn"], one.get("window", 0))):
        turns.setdefault(one["turn"], []).extend(trained(one))
    assert any(sum(len(part["tokens"]) for part in one["segments"]) > 120 for one in example_lines(made.directory))
    whole = {one["turn"]: trained(one) for one in example_lines(made.directory)}
    assert turns == whole
    assert len(whole) == 12
    assert all(sum(len(part["tokens"]) for part in one["segments"]) <= 120 for one in examples)
    if overlong == "drop_history":
        assert all("Be brief." in text(one) for one in examples)
        assert len(examples) == 12
    else:
        assert {one.get("window") for one in examples} == {None, 1}
        (stage,) = (one for one in manifest.datasets["main"].stages if one.name.startswith("tokenize "))
        assert stage.created == {"one example a turn": 11}


def test_calls_stay_with_their_replies_and_tools_stay(tmp_path: Path) -> None:
    row = calling()
    row["messages"] = [*row["messages"] * 6]
    make(tmp_path / "b", CALLS, [row])
    recipe = tmp_path / "b" / "whole.toml"
    text_of = recipe.read_text().replace("row_tokens = 4096", 'row_tokens = 400\noverlong = "drop_history"')
    recipe.write_text(text_of, encoding="utf-8")
    build(asked(recipe, catalogue=catalogue(), out=tmp_path / "b" / "small"), Progress())
    (example,) = example_lines(tmp_path / "b" / "small")
    assert text(example).startswith('[{"type": "function"')
    assert text(example).count("4 C<") == text(example).count('"name": "get_weather", "arguments"') > 0


def test_a_window_that_trains_other_tokens_is_found(tmp_path: Path) -> None:
    built(tmp_path / "b", [long_talk(9)], "window")
    folder = tmp_path / "b" / "out"
    assert proof_of(folder) == ()
    path = folder / "main" / "00000.records.parquet"
    pq.write_table(_next_window(pq.read_table(path)), path)
    reseal(folder)
    assert any("its conversation gives" in finding.sentence for finding in proof_of(folder))


def proof_of(folder: Path) -> tuple[Any, ...]:
    return prove(folder, kinds=catalogue(), progress=Progress()).findings


def _next_window(table: Any) -> Any:
    import pyarrow.compute as pc

    place = table.column_names.index("window")
    return table.set_column(place, "window", pc.add(table["window"], 1).cast(table["window"].type))


def test_exchanges_begin_with_what_users_say() -> None:
    told = talk("system: s", "assistant: a", "user: u", "user: v", "assistant: b", "tool: t", "user: w")["messages"]
    assert beginnings(told) == [1, 2, 6]
    assert [one["content"] for one in without_oldest(told, 1)] == ["s", "u", "v", "b", "t", "w"]


@given(
    sizes=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 40)), min_size=1, max_size=8),
    row=st.integers(8, 40),
    lead=st.sampled_from([None, 1]),
)
def test_windows_hold_every_trained_token_once(sizes: list[tuple[int, int]], row: int, lead: int | None) -> None:
    lengths = np.array([size for pair in sizes for size in pair])
    is_answer = np.arange(len(lengths)) % 2 == 1
    roles = np.where(is_answer, 3, 2)
    modes = segment_modes(trained=is_answer, starts=np.arange(len(lengths)) == 0, roles=roles)
    trained_tokens = np.repeat(is_answer, lengths)
    windows = Cutting(row, lead).windows(lengths, modes)
    times = np.zeros(len(trained_tokens), dtype=np.int64)
    for window in windows:
        times[window.begin : window.stop] += masked(window, trained_tokens)
        assert window.stop - window.begin + (lead is not None and window.begin > 0) <= row
        assert not masked(window, trained_tokens)[0]
    assert times.tolist() == trained_tokens.astype(int).tolist()


def test_only_the_last_turn_of_a_conversation_that_was_cut_has_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = RECIPE.replace("4096", "140")
    monkeypatch.setattr("tests.run.renderers.test_student_renderer.RECIPE", short)
    monkeypatch.setattr(tokenize, "finished_before", lambda table: with_cut(table, np.ones(table.num_rows, dtype=bool)))
    row = thinking(long_talk(6, "system: Be brief."))
    made = make(tmp_path / "b", QWEN3, [row], more='overlong = "drop_history"\n')
    told = sorted(example_lines(made.directory), key=lambda one: one["turn"])
    assert [text(one).endswith("<|im_end|>") for one in told] == [True] * 5 + [False]
    assert prove(made.directory, kinds=catalogue(), progress=Progress()).findings == ()
