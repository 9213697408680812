"""Conversations whose last question is answered apart: by a column, a table of answers, or a teacher that is asked."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.run.build import build
from orca_recipes.shards.manifest import Manifest
from tests.run.small import STUDENT, asked, write_rows
from tests.run.spoken import context_texts, trained_texts
from tests.servers.running import running
from tests.servers.stub import Stub

ASKED = """
[teachers.t]
kind = "openai"
model = "m"
endpoints = [{{ base_url = "{base_url}" }}]

[datasets.main]
teacher = "t"
"""

REPLAYED = """
[collections.answers]
kind = "files"
path = "answers.jsonl"
on_bad_row = "reject"

[teachers.t]
kind = "replay"
collection = "answers"
model = "gpt"
by = "question"

[mixtures.all]
take.c = {{ all = true }}

[datasets.main]
mixture = "all"
teacher = "t"
"""


def turns(*contents: str) -> list[dict[str, str]]:
    """A dialogue that a user begins."""
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(contents)]


OPEN = {"messages": turns("first", "old answer", "last question")}
CLOSED = {"messages": turns("hi", "hello", "and now?", "human-written answer")}


@dataclass
class World:
    """A collection `c` of conversations and what a recipe says of it."""

    folder: Path
    stub: Stub = field(default_factory=Stub)
    base_url: str = ""

    def build(self, *rows: dict[str, Any], says: str = "", collection: str = "", answers: Any = ()) -> Manifest:
        write_rows(self.folder / "c.jsonl", list(rows))
        write_rows(self.folder / "answers.jsonl", list(answers))
        text = f'name = "small"\n\n[collections.c]\nkind = "files"\npath = "c.jsonl"\n{collection}\n'
        (self.folder / "small.toml").write_text(text + says.format(base_url=self.base_url) + STUDENT)
        return build(asked(self.folder / "small.toml", traces=self.folder / "traces"), Progress())[0]

    @property
    def trained(self) -> dict[int, list[str]]:
        return trained_texts(self.folder / "out")

    @property
    def context(self) -> dict[int, str]:
        return context_texts(self.folder / "out")

    @property
    def teachers(self) -> dict[int, str]:
        records = pl.read_parquet(self.folder / "out" / "main" / "00000.records.parquet")
        return dict(records.select("line", "teacher").iter_rows())

    @property
    def rejected(self) -> dict[int, str]:
        table = pl.read_parquet(self.folder / "out" / "main" / "rejected.parquet")
        return dict(table.select("line", "reason").iter_rows())

    @property
    def requests(self) -> list[list[str]]:
        return sorted([message["content"] for message in body["messages"]] for body in self.stub.bodies)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stub = Stub(says=lambda body: f"TEACHER({body['messages'][-1]['content']})")
    with running(stub) as base_url:
        yield World(tmp_path, stub, base_url)


REPLACE = '\n[[rules]]\nstrategy = "direct"\nreplace = true\n'
ANSWERED = 'columns = { messages = "messages", answer = "out" }'


@pytest.mark.parametrize("column", ["answer", "reference"])
def test_an_answer_in_a_column_ends_the_conversation_and_alone_is_trained(world: World, column: str) -> None:
    collection = ANSWERED.replace("answer =", f"{column} =")
    world.build({**OPEN, "out": "THE REAL ANSWER"}, {"messages": turns("one"), "out": "1"}, collection=collection)
    assert world.trained == {1: ["THE REAL ANSWER"], 2: ["1"]}
    assert world.context[1].index("old answer") < world.context[1].index("last question")
    assert prove(world.folder / "out", kinds=Catalogue(), progress=Progress()).is_sound


def test_a_recipe_that_trains_all_turns_trains_the_history_too(world: World) -> None:
    world.build({**OPEN, "out": "THE REAL ANSWER"}, collection=f'{ANSWERED}\ntrain_on = "all"')
    assert world.trained == {1: ["old answer", "THE REAL ANSWER"]}


def test_a_conversation_that_ends_on_a_user_and_that_nobody_answers_is_trained_as_it_came(world: World) -> None:
    world.build(OPEN)
    assert world.trained == {1: ["old answer"]}
    assert "last question" not in world.context[1]


def test_two_answers_to_one_question_are_refused_unless_they_are_one(world: World) -> None:
    world.build({**CLOSED, "out": "other"}, {**CLOSED, "out": "human-written answer"}, collection=ANSWERED)
    assert list(world.trained) == [2]
    assert "the row brings two answers" in world.rejected[1]


def test_a_teacher_is_asked_the_last_question_and_what_it_answers_is_trained_under_its_name(world: World) -> None:
    world.build({"messages": turns("open question")}, OPEN, CLOSED, says=ASKED + REPLACE)
    assert world.requests == [["first", "old answer", "last question"], ["hi", "hello", "and now?"], ["open question"]]
    assert world.trained == {1: ["TEACHER(open question)"], 2: ["TEACHER(last question)"], 3: ["TEACHER(and now?)"]}
    assert set(world.teachers.values()) == {"t"}
    assert "human-written answer" not in world.context[3]


def test_a_teacher_answers_an_open_conversation_also_without_replace(world: World) -> None:
    world.build(OPEN, says=ASKED)
    assert world.requests == [["first", "old answer", "last question"]]
    assert world.trained == {1: ["TEACHER(last question)"]}


def test_under_a_teacher_all_turns_are_trained_where_the_recipe_says_so(world: World) -> None:
    world.build(CLOSED, says=ASKED + REPLACE, collection='train_on = "all"')
    assert world.trained == {1: ["hello", "TEACHER(and now?)"]}


def test_a_row_that_keeps_its_own_answer_bears_no_teachers_name(world: World) -> None:
    world.build(CLOSED, OPEN, says=ASKED)
    assert world.requests == [["first", "old answer", "last question"]]
    assert world.trained[1] == ["hello", "human-written answer"]
    assert world.teachers == {1: "", 2: "t"}


def test_erasing_the_prompt_leaves_the_teachers_answer_at_the_end(world: World) -> None:
    system = [{"role": "system", "content": "Be secret."}]
    student = ASKED.replace('teacher = "t"', 'teacher = "t"\nstudent = {{ erase = true }}')
    world.build({"messages": [*system, *OPEN["messages"]]}, CLOSED, says=student + REPLACE)
    assert world.trained == {1: ["TEACHER(last question)"], 2: ["TEACHER(and now?)"]}
    assert "secret" not in world.context[1]
    assert prove(world.folder / "out", kinds=Catalogue(), progress=Progress()).is_sound


def test_recorded_answers_replace_the_last_answer_or_follow_the_history(world: World) -> None:
    answers = [
        {"question": "why is rain wet?", "answer": "NEW ANSWER"},
        {"messages": turns("first", "old answer", "last question", "RECORDED")},
        {"messages": turns("hi", "hello", "and now?"), "answer": "LATER"},
    ]
    rows = [{"messages": turns("why is rain wet?", "old answer")}, OPEN, CLOSED, {"messages": turns("who?", "he")}]
    world.build(*rows, says=REPLAYED + REPLACE, answers=answers)
    assert world.trained == {1: ["NEW ANSWER"], 2: ["RECORDED"], 3: ["LATER"]}
    assert world.rejected == {4: "no recorded answer to this question"}


def test_a_rules_system_message_heads_conversations_that_bring_none(world: World) -> None:
    """Those that bring one keep it, unless the rule replaces it."""
    own = {"messages": [{"role": "system", "content": "OLD"}, *CLOSED["messages"]]}
    rule = '\n[[rules]]\nstrategy = "direct"\nsystem_messages = ["kind/one"]\n'
    rule += '[system_messages.kind.messages]\none = "Be kind."\n'
    world.build(CLOSED, own, says=rule)
    assert [("Be kind." in world.context[line], "OLD" in world.context[line]) for line in (1, 2)] == [
        (True, False),
        (False, True),
    ]
    world.build(CLOSED, own, says=rule.replace("system_messages =", "replace = true\nsystem_messages ="))
    assert all("Be kind." in world.context[line] and "OLD" not in world.context[line] for line in (1, 2))


def test_recorded_answers_leave_rows_alone_that_keep_their_own(world: World) -> None:
    rows = [{"messages": turns("why is rain wet?", "old answer")}, {"messages": turns("who?", "he")}, OPEN]
    answers = [{"question": "why is rain wet?", "answer": "NEW ANSWER"}]
    world.build(*rows, says=REPLAYED, answers=answers)
    assert world.trained == {1: ["old answer"], 2: ["he"]}
    assert world.teachers == {1: "", 2: ""}
    assert world.rejected == {3: "no recorded answer to this question"}


def test_a_blank_recorded_answer_is_none(world: World) -> None:
    answers = [{"question": "one", "reference": " "}, {"question": "two", "reference": "2"}]
    world.build({"question": "one"}, {"question": "two"}, says=REPLAYED, answers=answers)
    assert world.trained == {2: ["2"]}
    assert world.rejected == {1: "no recorded answer to this question"}


@pytest.mark.parametrize("strategy", ["few_shot", "step_by_step"])
def test_a_strategy_that_asks_with_a_question_refuses_conversations_that_leave_none_open(
    world: World, strategy: str
) -> None:
    rows = [{"question": f"{n}?", "reference": str(n)} for n in range(8)]
    says = f'\n[[rules]]\nstrategy = "{strategy}"\nreplace = true\n'
    world.build(*rows, {"messages": [*turns("why?", "so")[:1], {"role": "tool", "content": "4 C"}]}, says=says)
    assert sorted(world.trained) == list(range(1, 9))
    assert set(world.rejected.values()) == {
        "the row's conversation leaves no user's turn to answer, and the strategy asks with a question"
    }


@pytest.mark.parametrize("strategy", ["few_shot", "step_by_step"])
def test_the_last_users_turn_is_the_question_and_history_stands_before_it(world: World, strategy: str) -> None:
    rows = [{"question": f"{n}?", "reference": str(n)} for n in range(8)]
    says = f'\n[[rules]]\nstrategy = "{strategy}"\nreplace = true\n'
    world.build(*rows, OPEN, CLOSED, says=says)
    assert world.rejected == {9: "nobody answers the last question of its conversation"}
    assert world.trained[10] == ["human-written answer"]
    history = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n"
    assert world.context[10].count(history) == 1
    assert world.context[10].endswith(history + "<|im_start|>user\nand now?<|im_end|>\n<|im_start|>assistant\n")


def test_a_chat_is_not_shown_its_last_question_with_an_answer(world: World) -> None:
    rows = [{"question": f"{n}?", "reference": str(n)} for n in range(4)]
    says = '\n[[rules]]\nstrategy = "shown"\n[strategies.shown]\nkind = "few_shot"\nfewest = 3\nmost = 4\n'
    world.build(*rows, {"messages": turns("hi", "hello", "0?", "0")}, says=says)
    assert world.context[5].count("<|im_start|>user\n0?<|im_end|>") == 1


def test_a_teacher_is_asked_a_chats_last_question_behind_its_history_in_the_strategys_words(world: World) -> None:
    headed = {"messages": [{"role": "system", "content": "OLD"}, *CLOSED["messages"]]}
    rule = '\n[[rules]]\nstrategy = "step_by_step"\nreplace = true\nsystem_messages = ["kind/one"]\n'
    rule += '[system_messages.kind.messages]\none = "Be kind."\n[datasets.main.student]\nerase = true\n'
    world.build(OPEN, headed, says=ASKED + rule)
    assert [request[1:] for request in world.requests] == [
        ["first", "old answer", "last question"],
        ["hi", "hello", "and now?"],
    ]
    assert all(request[0].startswith("Be kind.\n\n") and "OLD" not in request[0] for request in world.requests)
    assert world.trained == {1: ["TEACHER(last question)"], 2: ["TEACHER(and now?)"]}
    assert all("Be kind" not in context and "OLD" not in context for context in world.context.values())
    assert "hello" in world.context[2]
    assert prove(world.folder / "out", kinds=Catalogue(), progress=Progress()).findings == ()
    world.build(OPEN, headed, says=ASKED + rule.replace("replace = true\n", ""))
    assert world.rejected == {2: "the row brings its own answer or system message; say replace = true to replace it"}


SPOKEN = """
[system_messages.s.messages]
1 = "Speak as one."
2 = "Speak as two."
3 = "Speak as three."
"""


@pytest.mark.parametrize("more", ["", "replace = true\n", 'expand = "each"\n'])
def test_rules_that_are_alike_treat_their_rows_as_rules_apart_do(world: World, more: str) -> None:
    rows = [
        {"t": f"t{n % 4}", "q": f"question {n}", "a": f"answer {n}", "s": "own words" if n % 5 == 0 else None}
        for n in range(40)
    ]
    rows += [{"t": f"t{n % 4}", "m": turns(f"said {n}", f"reply {n}")} for n in range(8)]
    columns = 'columns = { task = "t", question = "q", answer = "a", system = "s", messages = "m" }'
    found = []
    for names in (("plain",) * 4, ("plain", "other", "plain", "other")):
        says = "".join(f'\n[strategies.{name}]\nkind = "direct"\n' for name in dict.fromkeys(names)) + SPOKEN
        for number, name in enumerate(names):
            when = f'when = {{{{ task = "t{number}" }}}}\n' if number < 3 else ""
            said = f's/{number + 1}"' if number < 3 else 's/1", "s/2"'
            says += f'\n[[rules]]\n{when}strategy = "{name}"\nsystem_messages = ["{said}]\n{more}'
        world.build(*rows, says=says, collection=columns)
        records = pl.read_parquet(world.folder / "out" / "main" / "00000.records.parquet")
        told = records.select("id", "line", "system_message").sort("id").rows()
        found.append((told, world.trained, world.context, world.rejected))
    assert found[0] == found[1]
    assert len(found[0][1]) + len(found[0][3]) == len(rows)
