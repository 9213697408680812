"""What loses every row is refused with the reasons, and allowed where the recipe says so."""

from pathlib import Path

import pytest

from orca_recipes.errors import BuildError
from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from tests.run.small import STUDENT, asked, write_rows

TAKE = """\
name = "lost"

[collections.sums]
kind = "files"
path = "sums.jsonl"
columns = { question = "q", reference = "a", answer = "own", task = "t", category = "c" }

[collections.chats]
kind = "files"
path = "chats.jsonl"
columns = { question = "q", reference = "a", task = "t" }
on_bad_row = "reject"

[mixtures.both]
take.sums = { all = true }
take.chats = { all = true }

[datasets.main]
mixture = "both"
filters = [{ kind = "length", max_chars = 40 }]
"""
RULES = """
[[rules]]
when = { task = "easy" }
strategy = "step_by_step"

[[rules]]
when = { category = "odd" }
strategy = "direct"

[[rules]]
strategy = "direct"
"""
OWN = "strategy step_by_step: the row brings its own answer or system message; say replace = true to replace it"


class Said(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Two collections; one task's rows all bring answers of their own."""
    folder = tmp_path / "project"
    folder.mkdir()
    rows = [{"q": f"easy {n}?", "a": "1", "own": "2", "t": "easy", "c": None} for n in range(54)]
    rows += [{"q": f"hard {n}?", "a": "1", "t": "hard"} for n in range(6)]
    write_rows(folder / "sums.jsonl", rows)
    write_rows(folder / "chats.jsonl", [{"q": f"hello {n}", "a": "hi", "t": "chat"} for n in range(5)])
    path = folder / "lost.toml"
    path.write_text(TAKE + RULES + STUDENT, encoding="utf-8")
    return path


def made(recipe: Path, *overrides: str, said: Progress | None = None, **more):
    return build(asked(recipe, *overrides, **more), said or Progress())[0]


def refused(recipe: Path, *overrides: str, **more) -> list[str]:
    with pytest.raises(BuildError) as told:
        made(recipe, *overrides, **more)
    assert told.value.exit_status == 2
    return str(told.value).splitlines()


def test_a_task_and_a_rule_that_lose_every_row_are_refused_with_the_reason(recipe: Path):
    assert refused(recipe) == [
        "datasets.main: nothing is left of",
        f'  task "sums/easy": 54 of 54 rows lost: 54 {OWN}',
        f'  rule 1 (task = "easy"; strategy "step_by_step"): 54 of 54 rows lost: 54 {OWN}',
        'mend what loses them, or allow it: datasets.main.allow_empty = ["sums/easy"]; allow_empty = true at the rule',
    ]
    assert not (recipe.parent / "out").exists()


def test_a_task_that_loses_every_copy_under_several_system_messages_is_refused_too(recipe: Path):
    overrides = (
        'rules=[{ strategy = "direct", replace = true, system_messages = ["s"], expand = "each" }]',
        'system_messages={ s = { messages = { a = "You are A.", b = "You are B." } } }',
        'datasets.main.filters=[{ kind = "where", where = { not = { task = "easy" } } }]',
    )
    sentence, task, _ = refused(recipe, *overrides)
    assert sentence.endswith("nothing is left of")
    assert task == '  task "sums/easy": 54 of 54 rows lost: 54 filter where: where: it does not hold'


def test_the_recipe_allows_it_by_the_lines_that_the_sentence_prints(recipe: Path):
    text = recipe.read_text()
    recipe.write_text(text.replace('strategy = "step_by_step"', 'strategy = "step_by_step"\nallow_empty = true'))
    told = refused(recipe)
    assert not any(line.startswith("  rule") for line in told)
    counts = made(recipe, 'datasets.main.allow_empty=["sums/easy"]').datasets["main"]
    assert counts.examples == 11


def test_a_pattern_allows_many_and_the_plan_stays_the_same(recipe: Path):
    allowing = 'datasets.main.allow_empty=["*/e*"]'
    text = recipe.read_text().replace("[[rules]]\nwhen = { task", "[[rules]]\nallow_empty = true\nwhen = { task")
    refused(recipe)
    stages = {path.name for path in (recipe.parent / "store" / "stages").iterdir()}
    recipe.write_text(text)
    made(recipe, allowing)
    assert {path.name for path in (recipe.parent / "store" / "stages").iterdir()} == stages


def test_a_collection_that_loses_every_row_is_refused_once_and_not_task_by_task(recipe: Path):
    write_rows(recipe.parent / "chats.jsonl", [{"q": f"hello {n}", "a": "hi " * 99, "t": "chat"} for n in range(5)])
    told = refused(recipe)
    assert told[1] == '  collection "chats": 5 of 5 rows lost: 5 filter length: too long: more than 40 characters'
    assert not any("chats/chat" in line for line in told)
    assert told[-1].startswith('mend what loses them, or allow it: datasets.main.allow_empty = ["chats", "sums/easy"]')


def test_a_collection_whose_rows_cannot_be_read_ends_empty_too(recipe: Path):
    write_rows(recipe.parent / "chats.jsonl", [{"q": "", "a": "hi", "t": "chat"}] * 3)
    assert refused(recipe)[1].startswith('  collection "chats": 3 of 3 rows lost: 3 read: question: ')


def test_a_collection_that_another_holds_whole_ends_empty_too(recipe: Path):
    write_rows(recipe.parent / "chats.jsonl", [{"q": f"hard {n}?", "a": "1", "t": "hard"} for n in range(6)])
    (line,) = [line for line in refused(recipe) if "collection" in line]
    assert line.startswith('  collection "chats": 6 of 6 rows lost: 6 mix: duplicate')


def test_a_draw_that_takes_nothing_of_a_task_or_collection_loses_nothing(recipe: Path):
    text = recipe.read_text().replace("[[rules]]\nwhen = { task", "[[rules]]\nallow_empty = true\nwhen = { task")
    recipe.write_text(text.replace("take.chats = { all = true }", "take.chats = { rows = 1 }"))
    write_rows(recipe.parent / "chats.jsonl", [{"q": f"hello {n}", "a": "hi", "t": f"chat-{n}"} for n in range(5)])
    counts = made(recipe, 'datasets.main.allow_empty=["sums/easy"]').datasets["main"]
    assert len(counts.collections["chats"].tasks) == 1


def test_under_a_limit_tasks_and_rules_are_said_and_collections_refused(recipe: Path):
    said = Said()
    made(recipe, said=said, limit=40)
    (told,) = [sentence for sentence in said.sentences if "nothing is left" in sentence]
    assert 'task "sums/easy"' in told
    write_rows(recipe.parent / "chats.jsonl", [{"q": f"hello {n}", "a": "hi " * 99, "t": "chat"} for n in range(5)])
    assert [line for line in refused(recipe, limit=40) if line.startswith("  ")] == [
        '  collection "chats": 5 of 5 rows lost: 5 filter length: too long: more than 40 characters'
    ]


def test_a_hold_out_that_loses_every_row_of_a_collection_is_refused_by_its_dataset(recipe: Path):
    text = recipe.read_text().replace("[mixtures.both]", "[mixtures.both]\nholdout = 20")
    valid = '[mixtures.aside]\nholdout_of = "both"\n[datasets.valid]\nmixture = "aside"\n[[rules]]'
    text = text.replace("[[rules]]", valid, 1)
    recipe.write_text(text.replace("step_by_step", "direct"))
    write_rows(recipe.parent / "chats.jsonl", [{"q": f"hello {n}", "a": "hi", "t": "chat"} for n in range(40)])
    told = refused(recipe, 'datasets.valid.filters=[{ kind = "length", min_answer_chars = 2 }]')
    assert told[0] == "datasets.valid: nothing is left of"
    assert told[1].startswith('  collection "sums": ')
    assert "filter length: answer too short" in told[1]
