"""What is asked of a teacher: each question that lacks its answer, once, and after an edit only what it changed."""

import json

import polars as pl
import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from tests.run.answers.bought import World
from tests.run.oracle import Delphi, was_asked


def test_one_rule_edited_asks_only_its_questions(world: World) -> None:
    world.build()
    world.edit('fast = "Be quick."', 'fast = "Be very quick."')
    counts = world.counts()
    new = world.questions[60:]
    assert counts.asked == len(new) > 0
    assert {question["messages"][0][1] for question in new} == {"Be very quick."}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[datasets.main]", '[datasets.main]\nfilters = [{ kind = "length", max_chars = 90 }]'),
        ("[datasets.main]", '[datasets.main]\nstudent = { erase = true, system_message = "set/fast" }'),
        ("row_tokens = 128", "row_tokens = 256"),
        ('asked = "asked.jsonl"', 'asked = "asked.jsonl"\nbudget_usd = 3.0'),
    ],
)
def test_filters_students_view_packing_and_budget_buy_nothing_again(world: World, old: str, new: str) -> None:
    world.build()
    world.edit(old, new)
    assert (world.counts().asked, len(world.questions)) == (0, 60)


def test_a_collection_added_asks_only_its_own_questions(world: World) -> None:
    world.build()
    (world.folder / "more.jsonl").write_text('{"q": "Why?"}\n{"q": "How?"}\n')
    world.edit(
        "[system_messages",
        '[collections.more]\nkind = "files"\npath = "more.jsonl"\ncolumns = { question = "q" }\n\n[system_messages',
    )
    assert world.counts().asked == 2


def test_a_question_that_stands_twice_is_bought_once(world: World) -> None:
    with (world.folder / "sums.jsonl").open("a") as file:
        file.write(json.dumps({"q": "What is 0 + 0?", "a": "It is 0.", "t": "sum-0"}) + "\n")
    counts = world.counts()
    assert (counts.stored, counts.asked) == (1, 60)


def test_rows_that_bring_their_answer_are_not_asked(world: World) -> None:
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}]
    (world.folder / "chats.jsonl").write_text(json.dumps({"m": messages}) + "\n")
    world.edit(
        "[system_messages",
        '[collections.chats]\nkind = "files"\npath = "chats.jsonl"\ncolumns = { messages = "m" }\n\n[system_messages',
    )
    manifest = world.build()
    assert manifest.made.answers["main"].asked == 60
    assert manifest.datasets["main"].examples == 61


def test_two_teachers_get_the_same_system_messages_from_one_draw_and_others_from_two(world: World) -> None:
    better = '[teachers.better]\nkind = "oracle"\nmodel = "oracle-2"\nasked = "better.jsonl"'
    world.edit("[teachers.oracle]", f"{better}\n\n[teachers.oracle]")
    world.edit("[datasets.main]", '[datasets.second]\nteacher = "better"\n\n[datasets.main]')
    manifest = world.build()
    assert [manifest.made.answers[name].asked for name in ("main", "second")] == [60, 60]
    first = {question["messages"][-1][1]: question["messages"][0][1] for question in world.questions}
    others = was_asked(world.folder / "better.jsonl")
    assert {question["messages"][-1][1]: question["messages"][0][1] for question in others} == first
    world.edit('teacher = "better"', 'teacher = "better"\ndraw = "own"')
    counts = world.build().made.answers
    assert (counts["main"].asked, counts["main"].stored) == (0, 60)
    assert 0 < counts["second"].asked < 20
    again = was_asked(world.folder / "better.jsonl")[60:]
    assert all(first[question["messages"][-1][1]] != question["messages"][0][1] for question in again)


EXAM = "A farmer sells seven dozen brown eggs on Monday and twice as many on Tuesday, so how many eggs were sold?"
LONG = "Tell in your own words why the sea is salty, who found it out, and what that has to do with rivers and rain"


def test_what_comparisons_of_questions_find_is_never_asked(world: World) -> None:
    pytest.importorskip("rensa", reason="needs orca-recipes[near]")
    (world.folder / "exam.jsonl").write_text(json.dumps({"q": EXAM, "a": "252"}) + "\n")
    rows = [EXAM + " Think first.", LONG, LONG + " alone", "Why is grass green?"]
    with (world.folder / "sums.jsonl").open("a") as file:
        file.writelines(json.dumps({"q": row, "t": "other"}) + "\n" for row in rows)
    world.edit(
        "[system_messages",
        '[collections.exam]\nkind = "files"\npath = "exam.jsonl"\ncolumns = { question = "q", reference = "a" }\n'
        "[mixtures.m]\ntake.sums = { all = true }\n[system_messages",
    )
    near = '{ kind = "near_duplicates", of = "question" }, { kind = "decontaminate", against = ["exam"] }'
    world.edit("[datasets.main]", f'[datasets.main]\nmixture = "m"\nfilters = [{near}]')
    manifest = world.build()
    asked = [question["messages"][-1][1] for question in world.questions]
    assert not [one for one in asked if one.startswith(EXAM)]
    assert len([one for one in asked if one.startswith(LONG)]) == 1
    assert "Why is grass green?" in asked
    lost = pl.read_parquet(world.folder / "out" / "main" / "rejected.parquet")
    told = dict(lost.filter(lost["stage"].str.starts_with("filter")).select("line", "reason").iter_rows())
    assert set(told.values()) >= {"an item of exam stands in it", "nearly the same question stands in the dataset"}
    assert lost.filter(pl.col("reason").str.contains("nearly|item of"))["twin"].null_count() == 0
    assert manifest.made.answers["main"].asked == len(asked)
    assert prove(world.folder / "out", kinds=Catalogue([Delphi()]), progress=Progress()).findings == ()
    before = len(world.questions)
    world.build(out="again", store="another")
    assert len(world.questions) == before
    assert world.bytes_of("again") == world.bytes_of()
