"""Shares of tokens: which tokens they are of, and that what is packed has the shares that were asked for."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.main import main
from orca_recipes.errors import RecipeError, Shortfall
from orca_recipes.preview.preview import preview
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build, prepare, scan
from orca_recipes.shards.manifest import Manifest
from orca_recipes.store.store import Store

RECIPES = Path(__file__).parents[3] / "recipes"
QUICKSTART = f'kind = "hf"\npath = "{(RECIPES / "quickstart" / "tokenizer.json").as_posix()}"\n'
LLAMA = 'kind = "hf"\npath = "{}/data/tokenizer"\nadd_special_tokens = ["<|im_start|>", "<|im_end|>"]\n'
COLLECTIONS = """\
name = "shares"
seed = 5

[collections.short]
kind = "files"
path = "short.jsonl"
columns = { question = "q", reference = "r", system = "s" }

[collections.long]
kind = "files"
path = "long.jsonl"
columns = { question = "q", reference = "r" }

[collections.talks]
kind = "files"
path = "talks.jsonl"
columns = { messages = "messages" }

[template]
kind = "chatml"

[packing]
row_tokens = 1024

"""
THREE = "take.short = { share = 0.5 }\ntake.long = { share = 0.3 }\ntake.talks = { share = 0.2 }\n"
SHARES = {"short": 0.5, "long": 0.3, "talks": 0.2}
MAIN = '[datasets.main]\nmixture = "m"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Short answers to long questions, long answers to short ones, and conversations of four turns."""
    words = [f"word{number % 17} of {number}" for number in range(40)]
    short = [{"q": " ".join(words[: n % 30]) + f" which {n}?", "r": "yes", "s": "Be brief."} for n in range(900)]
    long = [{"q": f"tell {n}", "r": " ".join(words[: 5 + n % 35])} for n in range(600)]
    turns = [("user", "hello {}"), ("assistant", "hi"), ("user", "and then?"), ("assistant", "no more of {}")]
    talks = [{"messages": [{"role": role, "content": text.format(n)} for role, text in turns]} for n in range(400)]
    for name, rows in (("short", short), ("long", long), ("talks", talks)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def asked_of(folder: Path, tables: str, tokenizer: str = QUICKSTART) -> Asked:
    path = folder / "shares.toml"
    text = f"{COLLECTIONS}[tokenizer]\n{tokenizer}\n{tables}" + ("" if "[datasets" in tables else MAIN)
    path.write_text(text)
    loaded = load_recipe(path, catalogue=Catalogue())
    return Asked(loaded=loaded, store=Store(folder / "store"), directory=folder / "out", workers=1)


@pytest.fixture
def made(folder: Path) -> Callable[..., tuple[Manifest, Mapping[str, Any]]]:
    """Build; the manifest, and what the plan then says of each collection of mixture m."""

    def built(tables: str, tokenizer: str = QUICKSTART) -> tuple[Manifest, Mapping[str, Any]]:
        asked = asked_of(folder, tables, tokenizer)
        manifest = build(asked, Progress())[0]
        return manifest, preview(asked, prepare(asked)).as_json()["mixtures"]["m"]["collections"]

    return built


@pytest.mark.parametrize("tokenizer", ["quickstart", "llama"])
@pytest.mark.parametrize(
    ("unit", "column", "tokens"), [("conversation", "tokens", 20_000), ("trained", "trained_tokens", 3_000)]
)
def test_what_is_packed_has_the_shares_that_were_asked_for(made, request, unit, column, tokens, tokenizer):
    path = QUICKSTART if tokenizer == "quickstart" else LLAMA.format(request.getfixturevalue("shared").as_posix())
    manifest, told = made(f'[mixtures.m]\ntokens = {tokens}\ntokens_of = "{unit}"\n{THREE}', path)
    packed = {name: getattr(counts, column) for name, counts in manifest.datasets["main"].collections.items()}
    assert {name: view["tokens"] for name, view in told.items()} == packed
    for name, share in SHARES.items():
        assert share * tokens - manifest.longest_example < packed[name] <= share * tokens
        assert told[name]["asked_tokens"] == share * tokens
        assert told[name]["tokens_of"] == unit


def test_questions_are_counted_where_a_recipe_says_nothing_and_packed_shares_are_other_ones(made):
    manifest, told = made(f"[mixtures.m]\ntokens = 6_000\n{THREE}")
    assert {view["tokens_of"] for view in told.values()} == {"question"}
    assert 2_800 < told["short"]["tokens"] <= 3_000
    packed = {name: counts.trained_tokens for name, counts in manifest.datasets["main"].collections.items()}
    assert packed["short"] / sum(packed.values()) < 0.1


def test_what_rules_and_filters_make_of_a_row_is_what_is_counted(made):
    """One system message of two for each of two conversations a row; those with long answers are rejected."""
    rules = "[system_messages.s]\nmessages = { one = 'Speak.', two = 'Speak slowly, and in whole sentences.' }\n"
    rules += "[[rules]]\nstrategy = 'direct'\nsystem_messages = ['s']\nexpand = 'each'\n"
    takes = "take.long = { share = 0.7 }\ntake.talks = { share = 0.3 }\n"
    main_table = f"{MAIN}filters = [{{ kind = 'length', max_chars = 120 }}]\n"
    manifest, told = made(f'{rules}[mixtures.m]\ntokens = 9_000\ntokens_of = "conversation"\n{takes}{main_table}')
    counts = manifest.datasets["main"]
    packed = {name: found.tokens for name, found in counts.collections.items()}
    assert {name: view["tokens"] for name, view in told.items()} == packed
    assert 6_300 - 400 < packed["long"] <= 6_300
    stages = {stage.name: stage for stage in counts.stages}
    assert sum(stages["converse main/long"].rejected.values()) > 0
    assert stages["converse main/long"].created["expand"] > 0


def test_what_a_dataset_trains_is_what_is_counted(made):
    """Of talks the last answers alone; of rows that the vocabulary cannot spell nothing."""
    takes = "take.long = { share = 0.5 }\ntake.talks = { share = 0.5 }\n"
    main_table = f"{MAIN}train_on = {{ turns = 'last' }}\n"
    manifest, told = made(f'[mixtures.m]\ntokens = 2_000\ntokens_of = "trained"\n{takes}{main_table}')
    packed = {name: found.trained_tokens for name, found in manifest.datasets["main"].collections.items()}
    assert {name: view["tokens"] for name, view in told.items()} == packed
    assert min(packed.values()) > 900


def test_answers_that_are_replayed_are_counted_too(made, folder: Path):
    rows = [{"q": f"tell {n}", "r": "bought " * (n % 9 + 1)} for n in range(600)]
    (folder / "bought.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tables = "[collections.bought]\nkind = 'files'\npath = 'bought.jsonl'\n"
    tables += "columns = { question = 'q', answer = 'r' }\n"
    tables += "[teachers.t]\nkind = 'replay'\ncollection = 'bought'\nmodel = 'm-1'\nby = 'question'\n"
    tables += '[mixtures.m]\ntokens = 900\ntokens_of = "trained"\ntake.long = { share = 1 }\n'
    manifest, told = made(f"{tables}{MAIN}teacher = 't'\n")
    packed = manifest.datasets["main"].collections["long"].trained_tokens
    assert 860 < packed == told["long"]["tokens"] <= 900


def test_tokens_of_answers_that_are_yet_to_be_bought_are_refused_by_name(folder: Path):
    teacher = "[teachers.t]\nkind = 'openai'\nmodel = 'm'\nendpoints = [{ base_url = 'http://127.0.0.1:1/v1' }]\n"
    with pytest.raises(RecipeError) as told:
        asked_of(folder, f'{teacher}[mixtures.m]\ntokens = 9\ntokens_of = "trained"\n{THREE}{MAIN}teacher = "t"\n')
    (fault,) = told.value.faults
    assert fault.path == "mixtures.m.tokens_of"
    assert fault.sentence == (
        'trained tokens are not known before the draw: dataset "main" asks teacher "t" for its answers afterwards; say '
        'tokens_of = "question", or give answers that were bought already by a teacher of kind = "replay"'
    )


def test_tokens_of_a_mixture_that_no_dataset_takes_are_refused(folder: Path):
    tables = f'[mixtures.m]\ntokens = 9\ntokens_of = "conversation"\n{THREE}'
    tables += "[mixtures.o]\nexclude = ['m']\ntake.long.all = true\n[datasets.o]\nmixture = 'o'\n"
    with pytest.raises(RecipeError, match='no dataset takes mixture "m", so nothing says what its rows become'):
        asked_of(folder, tables)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ("question", "tokens of questions"),
        ("conversation", "tokens of conversations"),
        ("trained", "trained tokens"),
    ],
)
def test_a_shortfall_names_the_tokens_that_it_counted(folder: Path, unit: str, words: str):
    asked = asked_of(folder, f'[mixtures.m]\ntokens = 900_000\ntokens_of = "{unit}"\n{THREE}')
    with pytest.raises(Shortfall, match=rf"mixtures.m.take.short: 450000 {words} are asked for, and there are \d+ \("):
        scan(asked, prepare(asked), Progress())


def test_plan_scan_tells_tokens_and_shares(folder: Path):
    asked = asked_of(folder, f'[mixtures.m]\ntokens = 20_000\ntokens_of = "conversation"\n{THREE}')
    command = ["plan", str(asked.loaded.path), "--scan", "--store", str(folder / "store")]
    told = CliRunner().invoke(main, command)
    assert told.exit_code == 0, told.output
    (line,) = (" ".join(line.split()) for line in told.output.splitlines() if line.startswith("m ") and "short" in line)
    assert " of 10,000 tokens of conversations (" in line
    assert "its shares count tokens of questions alone" not in told.output
    asked_of(folder, f"[mixtures.m]\ntokens = 20_000\n{THREE}")
    told = CliRunner().invoke(main, ["plan", str(asked.loaded.path), "--store", str(folder / "store")])
    assert "10,000 tokens of questions" in told.output
    assert "mixtures.m: its shares count tokens of questions alone" in told.output
