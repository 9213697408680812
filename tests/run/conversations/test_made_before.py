"""A filter judges conversations again that were made before, and makes none; what it sees is what it saw when they were
made."""

from pathlib import Path

import pytest

from orca_recipes.run.built import Built
from tests.run.small import STUDENT, sums, write_rows
from tests.run.tokens.test_recall import damage, same, told

RECIPE = f"""
name = "judged"
seed = 7

[collections.sums]
kind = "files"
path = "sums.jsonl"
columns = {{ question = "q", reference = "a", task = "t" }}
extra = ["level"]

[collections.talks]
kind = "files"
path = "talks.jsonl"
columns = {{ messages = "m" }}

[mixtures.some]
take.sums = {{ rows = 90, max_repeat = 2 }}
take.talks = {{ all = true }}

[system_messages.moods.messages]
kind = "Be kind."
brief = "Be brief."

[[rules]]
when = {{ task = "sum-1" }}
strategy = "direct"
system_messages = ["moods/kind", "moods/brief"]
expand = "each"

[[rules]]
strategy = "direct"

[datasets.main]
mixture = "some"
filters = [FILTERS]
{STUDENT}
"""
LONG = '{ kind = "length", max_chars = 2000 }'
LEVEL = '{ kind = "where", where = { not = { "extra.level" = "hard" } } }'
OTHERS = {
    "extra": LEVEL,
    "question": '{ kind = "where", where = { not = { question = { matches = "3 [+]" } } } }',
    "answer": '{ kind = "where", where = { answer = { matches = "[0-4].$" } } }',
    "finish_reason": '{ kind = "where", where = { finish_reason = "stop" } }',
    "references": '{ kind = "answer_matches" }',
    "system_message": '{ kind = "where", where = { not = { system_message = "moods/brief" } } }',
    "messages": '{ kind = "length", min_answer_chars = 9 }',
}
REFUSALS = '{ kind = "refusal", action = "untrain" }'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{**row, "level": "hard" if place % 4 == 0 else None} for place, row in enumerate(sums(60))]
    write_rows(tmp_path / "sums.jsonl", rows)
    turns = ["One?", "I'm sorry, but I cannot help with that.", "Two?"]
    said = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]
    talks = [{"m": [*said, {"role": "assistant", "content": f"It is {number}."}]} for number in range(20)]
    write_rows(tmp_path / "talks.jsonl", talks)
    return tmp_path


def built(folder: Path, *filters: str, name: str, store: str = "store", text: str = RECIPE) -> Built:
    return told(folder, text.replace("FILTERS", ", ".join(filters)), name, store=store)


def converse(one: Built, collection: str) -> tuple[int, int]:
    """The conversations that passed the filters, and those of them that were taken over as they had been made."""
    stage = one.as_json()["stages"][f"converse main/{collection}"]
    return stage["out"], stage["reused"]


@pytest.mark.parametrize("kind", OTHERS)
def test_another_filter_makes_no_conversation_and_sees_what_it_would_have_seen(folder: Path, kind: str) -> None:
    first = built(folder, LONG, name="first")
    later = built(folder, LONG, OTHERS[kind], name="later")
    assert converse(first, "sums") == (117, 0)
    for collection in ("sums", "talks"):
        out, reused = converse(later, collection)
        assert 0 < out == reused
    same(later, built(folder, LONG, OTHERS[kind], name="anew", store="other"))


def test_a_filter_that_is_taken_away_makes_none_either(folder: Path) -> None:
    strict = built(folder, LONG, LEVEL, name="strict")
    loose = built(folder, name="loose")
    assert converse(strict, "sums")[0] < 117
    assert converse(loose, "sums") == (117, 117)
    same(loose, built(folder, name="anew", store="other"))


def test_another_rule_has_its_conversations_made(folder: Path) -> None:
    built(folder, LONG, name="first")
    text = RECIPE.replace('"moods/kind", ', "")
    later = built(folder, LONG, name="later", text=text)
    assert [converse(later, collection)[1] for collection in ("sums", "talks")] == [0, 0]
    same(later, built(folder, LONG, name="anew", store="other", text=text))


def test_teachers_that_are_asked_in_other_words_have_theirs_made(folder: Path) -> None:
    text = RECIPE.replace('mixture = "some"', 'mixture = "some"\nstudent.erase = true')
    built(folder, LONG, name="first", text=text)
    later = built(folder, LONG, LEVEL, name="later", text=text)
    assert converse(later, "sums")[1] == 0
    same(later, built(folder, LONG, LEVEL, name="anew", store="other", text=text))


@pytest.mark.parametrize("pattern", ["part-*[0-9].arrow", "part-*.rejected.arrow"])
def test_conversations_that_are_damaged_are_made_again(folder: Path, pattern: str) -> None:
    built(folder, LONG, LEVEL, name="first")
    paths = list((folder / "store" / "stages").glob(f"converse-sums-*/{pattern}"))
    for path in paths:
        damage(path)
    later = built(folder, LONG, name="later")
    assert paths
    assert converse(later, "sums")[1] == 0
    same(later, built(folder, LONG, name="anew", store="other"))


def test_answers_that_a_filter_leaves_untrained_leave_the_earlier_file_as_it_was(folder: Path) -> None:
    built(folder, LONG, name="first")
    (path,) = (folder / "store" / "stages").glob("converse-talks-*/part-*[0-9].arrow")
    before = path.read_bytes()
    later = built(folder, LONG, REFUSALS, name="later")
    assert path.read_bytes() == before
    assert converse(later, "talks") == (20, 20)
    assert {one.read_bytes() == before for one in path.parents[1].glob(f"converse-talks-*/{path.name}")} == {
        True,
        False,
    }
    same(later, built(folder, LONG, REFUSALS, name="anew", store="other"))
    third = built(folder, LONG, OTHERS["messages"], name="third")
    assert converse(third, "talks") == (20, 20)
    same(third, built(folder, LONG, OTHERS["messages"], name="third-anew", store="other"))
