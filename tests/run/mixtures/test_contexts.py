"""Which rows of two collections are duplicates: those before whose answers the same stands, all of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_plugins.strategies.direct import Direct
from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.frames import examples_schema
from orca_recipes.contract.hooks import hookimpl
from orca_recipes.explain.explain import explain_place
from orca_recipes.plan.mixing import context_columns
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.run.mixtures import contexts
from orca_recipes.shards.manifest import Manifest
from orca_recipes.shards.records import DUPLICATE
from orca_recipes.store.store import Store
from tests.run.mixtures.said import EITHER, frame_of

TOKENIZER = (Path(__file__).parents[3] / "recipes" / "quickstart" / "tokenizer.json").as_posix()
RECIPE = f"""\
name = "twins"

[tokenizer]
kind = "hf"
path = "{TOKENIZER}"

[template]
kind = "chatml"

"""
DIRECT = "[[rules]]\nstrategy = 'direct'\n"
TALKS = 'columns = { messages = "messages" }'
ROWS = 'columns = { question = "q", reference = "r", system = "s" }\nextra = ["input", "other"]'
REST = {"s": None, "input": None, "other": None}
"""What most rows of `ROWS` have nothing of."""

Rows = Sequence[Mapping[str, Any]]
Make = Callable[..., tuple[Manifest, pl.DataFrame, Path]]


def talk(*texts: str, system: str | None = None) -> dict[str, Any]:
    turns = [{"role": "user" if place % 2 == 0 else "assistant", "content": text} for place, text in enumerate(texts)]
    return {"messages": [*([] if system is None else [{"role": "system", "content": system}]), *turns]}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Build two collections, each of the same kind of rows; the manifest, what was rejected, and the directory."""

    def made(first: Rows, second: Rows, columns: str | tuple[str, str], tables: str = "") -> tuple[Manifest, Any, Path]:
        both = (columns, columns) if isinstance(columns, str) else columns
        text = RECIPE
        for name, rows, told in zip("ab", (first, second), both, strict=True):
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            text += f'[collections.{name}]\nkind = "files"\npath = "{name}.jsonl"\n{told}\n\n'
        text += tables if "[mixtures" in tables else f"[mixtures.m]\ntake.a.all = true\ntake.b.all = true\n{tables}"
        path = tmp_path / "twins.toml"
        path.write_text(text if "[datasets" in tables else text + '\n[datasets.main]\nmixture = "m"\n')
        loaded = load_recipe(path, catalogue=Catalogue(plugins=[Stranger()]))
        asked = Asked(loaded=loaded, store=Store(tmp_path / "store"), directory=tmp_path / "out", workers=1)
        manifest = build(asked, Progress())[0]
        return manifest, pl.read_parquet(tmp_path / "out" / "main" / "rejected.parquet"), tmp_path / "out"

    return made


def left_of(manifest: Manifest, collection: str = "b", mixture: str = "m") -> dict[str, int]:
    stages = {stage.name: stage for stage in manifest.datasets["main"].stages}
    return stages[f"mix {mixture}/{collection}"].rejected


def places(out: Path, collection: str = "b", dataset: str = "main") -> list[int]:
    records = pl.read_parquet(sorted((out / dataset).glob("*.records.parquet")))
    return sorted(records.filter(collection=collection)["line"])


def test_conversations_that_open_alike_are_all_kept(make: Make):
    first = [talk("hello", "hi", "tell me about rain", "wet"), talk("same q", "x", system="S1")]
    second = [
        talk("hello", "hi", "tell me about sun", "hot"),
        talk("hello", "hey", "tell me about rain", "damp"),
        talk("same q", "y", system="S2"),
        talk("same q", "z"),
    ]
    manifest, _, out = make(first, second, TALKS)
    assert left_of(manifest) == {}
    assert places(out) == [1, 2, 3, 4]


def test_a_conversation_with_the_same_turns_up_to_another_answer_is_a_duplicate(make: Make):
    first = [talk("hello", "hi", "tell me about rain", "wet"), talk("same q", "x", system="S1")]
    second = [talk("same q", "else", system="S1"), talk("hello", "hi", "tell me about rain", "else"), talk("new", "n")]
    manifest, rejected, out = make(first, second, TALKS)
    assert left_of(manifest) == {DUPLICATE: 2}
    assert places(out) == [3]
    assert prove(out, kinds=Catalogue(), progress=Progress()).findings == ()
    kept = pl.read_parquet(sorted((out / "main").glob("*.records.parquet"))).filter(collection="a").sort("line")
    lost = rejected.sort("line").select("collection", "file", "line", "stage", "reason").rows()
    assert lost == [("b", "b.jsonl", 1, "mix", DUPLICATE), ("b", "b.jsonl", 2, "mix", DUPLICATE)]
    hexadecimal = [value.hex() if isinstance(value, bytes) else value for value in kept["id"]]
    twins = [value.hex() if isinstance(value, bytes) else value for value in rejected.sort("line")["twin"]]
    assert twins == [hexadecimal[1], hexadecimal[0]]


def test_explain_names_the_row_that_a_duplicate_repeats(make: Make, tmp_path: Path):
    _, _, out = make([talk("p", "x"), talk("q", "x")], [talk("q", "y"), talk("r", "y")], TALKS)
    (story,) = explain_place(out, "b.jsonl:1", store=tmp_path / "store").stories
    (fate,) = story.fates
    assert fate.outcome == "not drawn"
    assert fate.reason is not None
    assert fate.reason.startswith(f"{DUPLICATE} (example ")
    assert fate.reason.endswith(", a/a.jsonl:2)")
    (story,) = explain_place(out, "b.jsonl:1", store=tmp_path / "no-store").stories
    assert str(story.fates[0].reason).startswith(f"{DUPLICATE} (example ")


def test_a_row_is_the_same_as_a_conversation_that_says_the_same(make: Make):
    first = [{**REST, "r": "x", **row} for row in ({"q": "one"}, {"q": "two", "s": "S"}, {"q": "three", "s": ""})]
    second = [
        talk("one", "y"),
        talk("two", "y", system="S"),
        talk("three", "y", system=""),
        talk("two", "y"),
        talk("one", "y", system="S"),
    ]
    manifest, rejected, _ = make(first, second, (ROWS, TALKS))
    assert left_of(manifest) == {DUPLICATE: 3}
    assert sorted(rejected["line"]) == [1, 2, 3]


ASKED = "[strategies.asked]\nkind = 'instruct'\nprompt = '{question} {input}'\n"


@pytest.mark.parametrize(
    ("rules", "duplicates"),
    [
        (DIRECT, [1, 2, 3]),
        (f"{ASKED}[[rules]]\nstrategy = 'asked'\n", [1, 3]),
        (
            f"{ASKED}system = '{{other}}'\n[[rules]]\nwhen = {{ min_tokens = 9_000 }}\nstrategy = 'asked'\n" + DIRECT,
            [3],
        ),
    ],
)
def test_rows_that_differ_in_a_column_that_a_strategy_names_are_no_duplicates(
    make: Make, rules: str, duplicates: list[int]
):
    first = [{**REST, "q": "Translate", "r": "x", "input": "good morning", "other": "o"}]
    second = [
        {**REST, "q": "Translate", "r": "y", "input": "good morning", "other": "p"},
        {"q": "Translate", "r": "y", "input": "good night", "other": "o"},
        {"q": "Translate", "r": "y", "input": "good morning", "other": "o"},
        {"q": "Tell", "r": "y", "input": "good morning", "other": "o"},
    ]
    _, rejected, _ = make(first, second, ROWS, rules)
    assert sorted(rejected["line"]) == duplicates


@pytest.mark.parametrize(("prompt", "duplicates"), [("{question} !", [1, 2]), ("{question} {options}", [2])])
def test_options_count_where_a_strategy_shows_them(make: Make, prompt: str, duplicates: list[int]):
    columns = 'columns = { question = "q", reference = "r", options = "o" }'
    rules = f"[strategies.asked]\nkind = 'instruct'\nprompt = '{prompt}'\n[[rules]]\nstrategy = 'asked'\n"
    first = [{"q": "Which?", "r": "x", "o": ["x", "y"]}]
    second = [{"q": "Which?", "r": "x", "o": ["xy"]}, {"q": "Which?", "r": "x", "o": ["x", "y"]}]
    second.append({"q": "What else?", "r": "x", "o": ["x", "y"]})
    _, rejected, _ = make(first, second, columns, rules)
    assert sorted(rejected["line"]) == duplicates


TABLE = """\
default = "Think."
[tasks]
"sum*" = "Add up."
[categories]
hard = "Take your time."
"""


@pytest.mark.parametrize(("table", "columns"), [("default = 'Think.'\n", []), (TABLE, ["category", "task"])])
def test_the_words_by_which_a_strategy_chooses_its_instructions_count(tmp_path: Path, table: str, columns: list[str]):
    (tmp_path / "words.toml").write_text(table)
    (tmp_path / "a.jsonl").write_text('{"q": "one", "r": "x"}\n')
    text = RECIPE + '[collections.a]\nkind = "files"\npath = "a.jsonl"\ncolumns = { question = "q", reference = "r" }\n'
    text += "[strategies.s]\nkind = 'step_by_step'\ninstructions = 'words.toml'\n[[rules]]\nstrategy = 's'\n"
    (tmp_path / "twins.toml").write_text(text)
    recipe = load_recipe(tmp_path / "twins.toml", catalogue=Catalogue()).recipe
    assert context_columns(recipe) == tuple(columns)


class Mute(Direct):
    """As direct, and says nothing of its columns.

    [strategies.mute]
    kind = "mute"
    """

    kind: Literal["mute"] = "mute"  # type: ignore[assignment]

    def columns(self) -> None:  # type: ignore[override]
        return None


class Stranger:
    """A plugin of somebody else's, as pluggy sees it."""

    @hookimpl
    def orca_strategies(self) -> dict[str, str]:
        return {"mute": f"{__name__}:Mute"}


def test_under_a_strategy_that_does_not_say_its_columns_every_column_counts(make: Make):
    columns = 'columns = { question = "q", reference = "r", category = "c", options = "o" }\nextra = ["input"]'
    first = [{"q": "one", "r": "x", "c": "c", "o": ["a", "b"], "input": "i"}]
    second = [{**first[0], **change} for change in ({}, {"c": "d"}, {"o": ["a"]}, {"input": "j"}, {"r": "y"})]
    _, rejected, _ = make(first, second, f"{columns}\ntask = 'same'", "[[rules]]\nstrategy = 'mute'\n")
    assert sorted(rejected["line"]) == [1, 5]


def test_the_duplicates_of_a_mixture_are_listed_by_its_parts_and_its_hold_out_too(make: Make):
    first = [{**REST, "q": f"q{number}", "r": "x"} for number in range(20)]
    second = [{**REST, "q": f"q{number}", "r": "y"} for number in range(15, 40)]
    tables = "[mixtures.m]\nholdout = 6\ntake.a.all = true\ntake.b.all = true\n[mixtures.v]\nholdout_of = 'm'\n"
    tables += "[mixtures.p]\nfrom = 'm'\nrows = 20\n"
    for dataset, mixture in (("main", "m"), ("v", "v"), ("p", "p")):
        tables += f"[datasets.{dataset}]\nmixture = '{mixture}'\n"
    manifest, rejected, out = make(first, second, ROWS, tables)
    assert left_of(manifest)[DUPLICATE] == 5
    for dataset in ("main", "v", "p"):
        table = pl.read_parquet(out / dataset / "rejected.parquet")
        assert sorted(table.filter(reason=DUPLICATE)["line"]) == [1, 2, 3, 4, 5]
        assert table["twin"].null_count() == 0
    assert rejected.height == 5
    assert prove(out, kinds=Catalogue(), progress=Progress()).findings == ()


def test_a_held_out_question_is_found_under_another_system_message_and_behind_history(make: Make):
    """Both collections hold it under words of their own; the mixture keeps all, and the hold-out takes them all."""
    first = [talk("secret?", "x", system="S1"), *(talk(f"a{number}", "x") for number in range(9))]
    second = [
        talk("secret?", "y"),
        talk("secret?", "y", "why?", "z", system="S3"),
        talk("hi", "hello", "secret?", "y"),
        talk("hi", "hello", "public?", "y"),
        talk("other", "y", "why?", "z"),
        {**talk("hey", "hello", "secret?"), "last": "y"},
        {**talk("hey", "hello", "public?"), "last": "y"},
    ]
    history = 'columns = { messages = "messages", answer = "last" }\ntrain_on = "last"'
    tables = "[mixtures.held]\ntake.a = { per_task = 1_000 }\n[mixtures.m]\nexclude = ['held']\ntake.b.all = true\n"
    tables += "[datasets.main]\nmixture = 'm'\n[datasets.held]\nmixture = 'held'\n"
    manifest, _, out = make(first, second, (TALKS, history), tables)
    assert left_of(manifest) == {"an excluded mixture holds its question": 4}
    assert places(out) == [4, 5, 7]
    assert prove(out, kinds=Catalogue(), progress=Progress()).findings == ()


def test_adding_a_collection_behind_redraws_none_of_the_others(make: Make):
    rows = [{**REST, "q": f"q{number}", "r": "x"} for number in range(30)]
    tables = "[mixtures.m]\ntake.a.rows = 10\n[datasets.main]\nmixture = 'm'\n"
    alone, _, _ = make(rows, rows[:20], ROWS, tables)
    others = [*rows[:20], {"q": "new", "r": "x"}]
    both, _, _ = make(rows, others, ROWS, tables.replace("\n[d", "\ntake.b.all = true\n[d"))
    of_a = [{stage.name: stage.fingerprint for stage in made.plan}["tokenize main/a"] for made in (alone, both)]
    assert of_a[0] == of_a[1]


def plain_context(row: Any) -> list[tuple[str, str]]:
    """What stands before the answer, message by message."""
    system, question, turns = row
    said = [("user", question)] if turns is None else [(role, content) for role, content, _ in turns]
    if turns is not None and said[-1][0] == "assistant":
        said.pop()
    if said and said[0] == ("system", ""):
        del said[0]
    return [("system", system), *said] if system and (not said or said[0][0] != "system") else said


@given(rows=st.lists(EITHER, min_size=1, max_size=12))
def test_contexts_are_equal_where_every_message_is(rows: Sequence[Any]):
    hi, lo = (contexts._digests(frame_of(rows).to_arrow(), ())[name].to_list() for name in ("hi", "lo"))
    told, plain = list(zip(hi, lo, strict=True)), [plain_context(row) for row in rows]
    for one in range(len(rows)):
        for other in range(one):
            assert (told[one] == told[other]) == (plain[one] == plain[other]), (rows[one], rows[other])


def test_rows_that_differ_only_in_tools_or_calls_are_no_duplicates():
    def digests(*rows: dict[str, Any]) -> list[tuple[int, int]]:
        schema = {**frame_of([]).schema, **{name: examples_schema()[name] for name in ("messages", "tools")}}
        frame = pl.DataFrame([{"question": None, **row} for row in rows], schema=schema)
        return contexts._digests(frame.to_arrow(), ()).rows()

    def row(tools: str | None = None, calls: str | None = None, closing: str | None = None) -> dict[str, Any]:
        told = [("user", "Weather?", None), ("assistant", "", calls), ("tool", "4", None), ("assistant", "4", closing)]
        messages = [{"role": role, "content": text, "tool_calls": call} for role, text, call in told]
        return {"messages": messages, "tools": tools}

    one, two = '[{"function":{"name":"one"}}]', '[{"function":{"name":"two"}}]'
    plain, again, tools, calls, others, answers = digests(
        row(), row(), row(tools=one), row(calls=one), row(calls=two), row(closing=one)
    )
    assert plain == again == answers
    assert len({plain, tools, calls, others}) == 4


def test_a_row_of_a_task_that_is_not_taken_owns_nothing(make: Make):
    columns = 'columns = { question = "q", reference = "r", task = "t" }'
    first = [{"q": f"q{number}", "r": "x", "t": task} for task in ("in", "out") for number in range(len(task) * 2)]
    second = [{"q": f"q{number}", "r": "y", "t": "in" if number else "out"} for number in range(8)]
    tables = "[mixtures.m]\ntake.a = { all = true, tasks = 'in' }\ntake.b = { all = true, tasks = 'in' }\n"
    manifest, rejected, _ = make(first, second, columns, tables + "[datasets.main]\nmixture = 'm'\n")
    counts = {name: found.examples for name, found in manifest.datasets["main"].collections.items()}
    assert counts == {"a": 4, "b": 4}
    assert sorted(rejected.filter(reason=DUPLICATE)["line"]) == [2, 3, 4]
