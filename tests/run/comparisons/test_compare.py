"""Filters that compare: near-duplicates and items of benchmarks, found across collections, told or rejected."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import BuildError, MixtureError, RecipeError
from orca_recipes.explain.explain import explain_example
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.show.show_lines import rejected_lines, rejected_text
from orca_recipes.store.store import Store
from tests.run.small import Heard

pytest.importorskip("rensa", reason="needs orca-recipes[near]")

TOKENIZER = (Path(__file__).parents[3] / "recipes" / "quickstart" / "tokenizer.json").as_posix()
WORDS = [f"{head}{tail}" for head in ("ba", "ke", "lo", "mi", "nu", "po") for tail in ("ra", "se", "ti", "vo", "zu")]
NEAR = '{ kind = "near_duplicates", of = "question" }'
CLEAN = '{ kind = "decontaminate", against = ["exam"] }'


def sentence(number: int, words: int = 40) -> str:
    chosen = random.Random(number)
    return " ".join(chosen.choice(WORDS) for _ in range(words))


def changed(text: str, *places: int) -> str:
    """A text with other words at some places."""
    words = text.split()
    for place in places:
        words[place] = "other"
    return " ".join(words)


def jaccard(one: str, other: str, ngram: int = 5) -> float:
    """By sets of Python, as anybody would write it."""
    mine, theirs = (
        {tuple(words[at : at + ngram]) for at in range(max(len(words) - ngram, 0) + 1)}
        for words in (one.lower().split(), other.lower().split())
    )
    return len(mine & theirs) / len(mine | theirs)


Row = tuple[str, str]
ITEMS = [(sentence(9_000 + n, 30), "exam answer") for n in range(20)]


@dataclass(frozen=True)
class Built:
    """A build, its store and what was said on the way."""

    out: Path
    store: Path
    said: str

    def kept(self) -> set[tuple[str, int]]:
        tables = [pl.read_parquet(path) for path in sorted((self.out / "main").glob("*.records.parquet"))]
        return {(row["collection"], row["line"]) for table in tables for row in table.iter_rows(named=True)}

    def lost(self) -> dict[tuple[str, int], Mapping[str, Any]]:
        return {(line["collection"], line["place"]): line for line in rejected_lines(self.out)}


def write(path: Path, rows: Iterable[Row | Mapping[str, Any]]) -> None:
    made = [row if isinstance(row, Mapping) else {"q": row[0], "a": row[1]} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))


def built(
    place: Path,
    filters: str,
    one: Sequence[Row | Mapping[str, Any]],
    two: Sequence[Row | Mapping[str, Any]] = (),
    *,
    exam: Sequence[Row | Mapping[str, Any]] = ITEMS,
    tables: str = "",
    workers: int = 1,
    has_system: bool = False,
    answer: str = "answer",
    columns: str | None = None,
    out: str = "out",
) -> Built:
    """Build a dataset of two collections."""
    for name, rows in (("one", one), ("two", two or [(sentence(1_000_000), "b")]), ("exam", exam)):
        write(place / f"{name}.jsonl", rows)
    columns = columns or f"""{{ question = "q", {answer} = "a"{', system = "s"' if has_system else ""} }}"""
    collections = "".join(
        f'[collections.{name}]\nkind = "files"\npath = "{name}.jsonl"\ncolumns = {columns}\n'
        for name in ("one", "two", "exam")
    )
    recipe = place / "compared.toml"
    recipe.write_text(
        f'name = "compared"\nseed = 3\n{collections}'
        "[mixtures.m]\ntake.one = { all = true }\ntake.two = { all = true }\n"
        f'[datasets.main]\nmixture = "m"\nfilters = [{filters}]\n{tables}'
        f'[tokenizer]\nkind = "hf"\npath = "{TOKENIZER}"\n[template]\nkind = "chatml"\n'
        "[packing]\nrow_tokens = 1024\n"
    )
    heard = Heard()
    store = place / f"store-{out}"
    asked = Asked(
        loaded=load_recipe(recipe, catalogue=Catalogue()), store=Store(store), directory=place / out, workers=workers
    )
    build(asked, heard)
    assert not verify(place / out).findings
    return Built(place / out, store, "\n".join(heard.said))


def test_a_near_duplicate_is_rejected_across_collections_and_names_its_twin(tmp_path: Path):
    texts = [sentence(n) for n in range(30)]
    found = built(tmp_path, NEAR, [(text, "a") for text in texts], [(changed(text, 20), "b") for text in texts[:10]])
    assert all(jaccard(text, changed(text, 20)) >= 0.7 for text in texts[:10])
    lost = found.lost()
    assert {line for _, line in lost} == set(range(1, 11))
    for (collection, line), told in lost.items():
        assert told["stage"] == "filter near_duplicates"
        assert told["reason"] == "nearly the same question stands in the dataset"
        twin = ({"one": "two", "two": "one"}[collection], line)
        assert twin in found.kept()
        assert told["twin"] is not None
    assert len(found.kept()) + len(lost) == 40
    assert {collection for collection, _ in lost} == {"one", "two"}, "which stays is drawn by key"


def test_what_is_less_alike_than_the_threshold_stays(tmp_path: Path):
    texts = [sentence(n) for n in range(20)]
    near = [changed(text, 10, 25) for text in texts]
    assert all(0.5 < jaccard(text, other) < 0.7 for text, other in zip(texts, near, strict=True))
    rows = [[(text, "a") for text in side] for side in (texts, near)]
    assert not built(tmp_path, NEAR, *rows).lost()
    low = built(tmp_path, '{ kind = "near_duplicates", threshold = 0.5 }', *rows, out="low")
    assert len(low.lost()) == 20


def test_any_workers_and_any_chunks_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    texts = [sentence(n) for n in range(60)]
    rows = [(text, "a") for text in texts], [(changed(text, 7), "b") for text in texts[::2]]
    both = f"{NEAR}, {CLEAN}"
    first = built(tmp_path, both, *rows, out="first")
    monkeypatch.setattr("orca_recipes.run.comparisons.compare._PAIRS", 3)
    monkeypatch.setattr("orca_recipes.run.comparisons.meeting._HELD_AT_ONCE", 16)
    monkeypatch.setattr("orca_recipes.run.comparisons.meeting._PAIRS_AT_ONCE", 5)
    monkeypatch.setattr("orca_recipes.run.work.bench.TASKS_WORTH_WORKERS", 1)
    second = built(tmp_path, both, *rows, out="second", workers=2)
    assert len(first.lost()) == 30
    assert first.lost() == second.lost()
    for path in sorted((first.out / "main").glob("*.bin")):
        assert path.read_bytes() == (second.out / "main" / path.name).read_bytes()


def test_a_system_message_that_a_whole_collection_shares_makes_nobody_alike(tmp_path: Path):
    system = sentence(77, 200)
    rows = [{"q": sentence(n), "a": "a", "s": system} for n in range(10)]
    other = [{"q": sentence(100 + n), "a": "a", "s": sentence(200 + n, 200)} for n in range(2)]
    other += [{**other[0], "q": sentence(300)}]
    found = built(tmp_path, NEAR, rows, other, exam=rows[:1], has_system=True)
    assert {collection for collection, _ in found.lost()} == {"two"}
    assert len(found.lost()) == 1


SHOWN = """
[[rules]]
strategy = "shown"
[strategies.shown]
kind = "few_shot"
fewest = 4
most = 4
"""
WORDED = f"""
[[rules]]
strategy = "worded"
[strategies.worded]
kind = "instruct"
prompt = "{{question}} {sentence(77, 90)}"
"""
HEADED = f"""
[datasets.main.student]
erase = true
system_message = "said"
[system_messages.said.messages]
one = "{sentence(78, 90)}"
two = "{sentence(79, 90)}"
"""


@pytest.mark.parametrize("tables", [SHOWN, WORDED, HEADED], ids=["shots", "words", "student"])
def test_what_is_said_beside_a_rows_question_makes_nobody_alike_nor_other(tmp_path: Path, tables: str):
    rows = [(sentence(n, 12), f"a{n}") for n in range(6)]
    twins = [*rows, (f"{rows[0][0]} other", "b")]
    made = built(
        tmp_path, NEAR, twins, [(sentence(n, 12), "b") for n in range(10, 16)], tables=tables, answer="reference"
    )
    (lost,) = made.lost().values()
    assert (lost["collection"], lost["stage"]) == ("one", "filter near_duplicates")
    assert lost["place"] in (1, 7)


@pytest.mark.parametrize("tables", ["", WORDED], ids=["direct", "words"])
def test_conversations_that_end_with_one_question_and_have_nothing_else_in_common_stay(tmp_path: Path, tables: str):
    def chat(number: int) -> dict[str, Any]:
        turns = zip(("user", "assistant", "user"), (sentence(number, 12), "It is.", "And why is that so?"), strict=True)
        return {"m": [{"role": role, "content": text} for role, text in turns], "a": f"Because of {number}."}

    chats = [[chat(n) for n in range(start, start + 6)] for start in (0, 10, 20)]
    columns = '{ messages = "m", reference = "a" }'
    assert not built(tmp_path, NEAR, *chats[:2], exam=chats[2], tables=tables, columns=columns).lost()


def test_an_item_of_a_benchmark_is_found_among_shots(tmp_path: Path):
    rows = [(sentence(n, 12), f"a{n}") for n in range(4)]
    with pytest.raises(BuildError, match="5 of 5 rows lost: 5 filter decontaminate: an item of exam stands in it"):
        built(tmp_path, CLEAN, [*rows, ITEMS[3]], [(sentence(n, 12), "b") for n in range(10, 15)], tables=SHOWN)


def test_items_of_a_benchmark_are_found_in_disguise(tmp_path: Path):
    clean = [(sentence(n), "a") for n in range(40)]
    item = ITEMS[3][0]
    contaminated = [
        (f"Please solve this: {item.upper()}!", "a"),
        (changed(item, 15), "a"),
        ("What was asked?", f"They asked {item}, I think."),
        (item.replace(" ", ",  "), "a"),
        (f"{sentence(500, 200)}\n{item}\n{sentence(501, 200)}", "a"),
    ]
    found = built(tmp_path, CLEAN, [*clean, *contaminated])
    assert set(found.lost()) == {("one", line) for line in range(41, 46)}
    assert {line["reason"] for line in found.lost().values()} == {"an item of exam stands in it"}
    text = "\n".join(rejected_text(found.out))
    assert "(like " in text
    twin = found.lost()["one", 41]["twin"]
    assert {line["twin"] for line in found.lost().values()} == {twin}
    for path in found.out.rglob("*"):
        assert not path.is_file() or ITEMS[7][0].encode() not in path.read_bytes()


def test_short_items_are_found_whole_and_alone(tmp_path: Path):
    exam = [("Who wrote Faust?", "Goethe"), ("In which year did the war of two roses end at last?", "1487")]
    rows = [
        ("who wrote faust", "a"),
        ("Tell me who wrote Faust? and why it was ever written at all", "a"),
        ("in which year did the war of two roses end at last, please", "a"),
        ("In which year did the war of two roses begin at last?", "a"),
    ]
    found = built(tmp_path, CLEAN, rows, exam=exam)
    assert set(found.lost()) == {("one", 1), ("one", 3)}


def test_an_empty_benchmark_is_refused(tmp_path: Path):
    with pytest.raises(Exception, match=r"exam"):
        built(tmp_path, CLEAN, [("a b c", "d")], exam=[])


def test_a_benchmark_that_the_dataset_is_made_of_is_refused(tmp_path: Path):
    with pytest.raises(MixtureError, match=r"datasets\.main\.filters: decontaminate compares with collection one, whi"):
        built(tmp_path, '{ kind = "decontaminate", against = ["one"] }', [("a b c", "d")])


def test_what_is_named_and_not_there_is_refused_with_the_right_name(tmp_path: Path):
    with pytest.raises(RecipeError, match=r'there is no collection "exams"; did you mean "exam"'):
        built(tmp_path, '{ kind = "decontaminate", against = ["exams"] }', [("a b c", "d")])
    with pytest.raises(RecipeError, match=r"own mixture"):
        built(tmp_path, '{ kind = "near_duplicates", against = ["m"] }', [("a b c", "d")])


def test_rows_of_another_mixture_always_stay(tmp_path: Path):
    texts = [sentence(n) for n in range(12)]
    tables = "[mixtures.held]\ntake.exam = { all = true }\n"
    near = '{ kind = "near_duplicates", against = ["held"] }'
    exam = [(changed(text, 30), "x") for text in texts[:4]]
    found = built(tmp_path, near, [(text, "a") for text in texts], exam=exam, tables=tables)
    assert set(found.lost()) == {("one", line) for line in range(1, 5)}
    assert {line["reason"] for line in found.lost().values()} == {"nearly the same question stands in held"}


def test_explain_shows_both_texts_side_by_side(tmp_path: Path):
    text = sentence(5)
    found = built(
        tmp_path,
        f"{NEAR}, {CLEAN}",
        [(text, "a"), (f"So: {ITEMS[0][0]}", "a"), (sentence(8), "a")],
        [(changed(text, 3), "b"), (sentence(9), "b")],
    )
    for (collection, line), lost in found.lost().items():
        told = explain_example(found.out, lost["id"], store=found.store)
        (alike,) = told.stories[0].fates[0].alike
        page = str(told)
        assert alike.twin == lost["twin"]
        assert "this row" in page
        assert "its twin" in page
        if (collection, line) == ("one", 2):
            assert (alike.collection, alike.file, alike.place) == ("exam", "exam.jsonl", 1)
            assert f"| {ITEMS[0][0][:30]}" in page
            assert alike.likeness == pytest.approx(1.0)
        else:
            assert alike.likeness == pytest.approx(jaccard(text, changed(text, 3)))
    for lost in found.lost().values():
        told = explain_example(found.out, lost["id"], store=tmp_path / "gone")
        assert f"(example {lost['twin']})" in str(told)
