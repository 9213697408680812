"""The command, as a person types it: answers, exit statuses, and a sentence for every mistake."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from orca_recipes.cli.main import main
from tests.patience import SECONDS, awaited

HOME = Path(__file__).parents[2]
QUICKSTART = HOME / "recipes" / "quickstart.toml"
FAULTS = """\
name = "faulty"
sead = 3

[collections.cot]
kind = "file"
path = "x.jsonl"

[collections.gsm]
kind = "files"
path = "y.jsonl"
formatt = "jsonl"

[mixtures.all]
take.cott = { all = true }

[datasets.main]
mixture = "al"
filters = [{ kind = "length", max_chars = "many" }]

[tokenizer]
kind = "hf"
path = "t.json"

[template]
kind = "chatml"

[packing]
row_tokens = -1
"""


def orca(*words: str | Path, cwd: Path = HOME, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orca_recipes.cli", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def here(*words: str | Path, cwd: Path = HOME) -> subprocess.CompletedProcess[str]:
    """As `orca`, in this process: for a command that another test starts as one of its own."""
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of the quickstart on a few examples."""
    folder = tmp_path_factory.mktemp("cli")
    done = orca("build", QUICKSTART, "--limit", "300", "--out", folder / "build", "--store", folder / "store")
    assert done.returncode == 0, done.stderr
    return folder / "build"


def test_help_teaches_the_commands():
    said = orca("--help").stdout
    assert "orca-recipe build recipe.toml" in said
    for command in main.commands:
        assert f"\n  {command} " in said
        assert here(command, "--help").returncode == 0
    assert "..." not in said.partition("\n\n")[2]
    assert max(map(len, said.splitlines())) <= 80


LATE = """\
name = "late"

[collections.sums]
kind = "files"
path = "sums.jsonl"

[mixtures.all]
take.sums = { rows = 5 }

[datasets.main]
mixture = "all"

[[rules]]
when.task = "sums"
strategy = "direct"

[tokenizer]
kind = "hf"
path = "tokenizer.json"

[template]
kind = "chatml"
"""


@pytest.mark.parametrize(
    ("change", "line", "path"),
    [
        (("rows = 5", "rows = 50"), 8, "mixtures.all.take.sums"),
        (("sums.jsonl", "summs.jsonl"), 3, "collections.sums"),
        (('when.task = "sums"', 'when.task = "sum"'), 14, "rules.0.when.task"),
        (('when.task = "sums"', 'when.language = "en"'), 13, "rules"),
        (("tokenizer.json", "none.json"), 17, "tokenizer"),
    ],
)
def test_a_fault_that_only_the_data_show_is_told_with_its_line_as_well(
    tmp_path: Path, change: tuple[str, str], line: int, path: str
):
    (tmp_path / "sums.jsonl").write_text('{"question": "1 + 1", "reference": "2"}\n' * 9)
    tokenizer = (HOME / "recipes" / "quickstart" / "tokenizer.json").as_posix()
    recipe = tmp_path / "late.toml"
    recipe.write_text(LATE.replace(*change).replace("tokenizer.json", tokenizer))
    done = here("build", recipe, "--workers", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2].startswith(f"{recipe}:{line}: {path}"), done.stderr


def test_a_recipe_with_seven_mistakes_gets_seven_sentences_with_their_lines(tmp_path: Path):
    recipe = tmp_path / "faulty.toml"
    recipe.write_text(FAULTS)
    done = orca("check", recipe)
    assert done.returncode == 2
    heads = [line for line in done.stderr.splitlines() if not line.startswith(" ")]
    assert [head.removeprefix(f"{recipe}:") for head in heads] == [
        "2: sead",
        "5: collections.cot.kind",
        "11: collections.gsm.formatt",
        "14: mixtures.all.take.cott",
        "17: datasets.main.mixture",
        "18: datasets.main.filters.0.max_chars",
        "28: packing.row_tokens",
    ]
    assert "Traceback" not in done.stderr
    assert 'did you mean "format"?' in done.stderr


def test_a_missing_recipe_is_one_sentence():
    done = orca("build", "nowhere.toml")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2)


def test_a_build_says_what_it_made(built: Path):
    done = orca("verify", built)
    assert done.returncode == 0
    assert "sound" in done.stdout


def test_verify_names_what_is_damaged_and_fails(built: Path, tmp_path: Path):
    import shutil

    copy = tmp_path / "build"
    shutil.copytree(built, copy)
    shard = next((copy / "main").glob("*.bin"))
    data = bytearray(shard.read_bytes())
    data[10] ^= 4
    shard.write_bytes(data)
    done = here("verify", copy)
    assert done.returncode == 1
    assert f"main/{shard.name}" in done.stdout
    told = json.loads(here("verify", copy, "--json").stdout)
    assert told["sound"] is False


def test_show_prints_plain_text_where_there_is_no_terminal(built: Path):
    done = orca("show", built, "--row", "0")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "reasoning/" in done.stdout


def test_show_of_a_row_that_is_not_there_is_one_sentence(built: Path):
    done = here("show", built, "--row", "999999")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_show_gives_programs_a_line_an_example_and_a_line_a_lost_row(built: Path):
    lines = [json.loads(line) for line in here("show", built, "--json").stdout.splitlines()]
    manifest = json.loads((built / "manifest.json").read_text())
    assert len(lines) == manifest["datasets"]["main"]["examples"]
    trained = sum(len(part["tokens"]) for line in lines for part in line["segments"] if part["trained"])
    assert trained == manifest["datasets"]["main"]["trained_tokens"]
    done = here("show", built, "--rejected", "--json")
    assert done.returncode == 0, done.stderr
    rejected = json.loads((built / "manifest.json").read_text())["tables"]
    assert len(done.stdout.splitlines()) == sum(table["rows"] for table in rejected if "rejected" in table["path"])
    assert here("show", built, "--rejected").stdout.startswith("dataset main: ")
    for words in (["--json", "--raw"], ["--rejected", "--views"], ["--rejected", "--row", "0"]):
        assert here("show", built, *words).returncode == 2


def test_explain_goes_both_ways_between_a_token_and_its_source(built: Path):
    store = ["--store", built.parent / "store"]
    back = json.loads(here("explain", built, "--row", "0", "--at", "5", "--json", *store).stdout)["stories"][0]
    origin = back["origin"]
    done = here("explain", built, "--source", f"{origin['file']}:{origin['place']}", *store)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"example {origin['id']}\n")
    assert "takes all, cut by --limit: 300 of " in done.stdout
    assert here("explain", built, "--example", origin["id"][:16], *store).stdout == done.stdout


def test_explain_answers_one_question_at_a_time(built: Path):
    assert here("explain", built, "--row", "0").stdout == here("explain", built, "--row", "0", "--at", "0").stdout
    for words in ([], ["--at", "0"], ["--row", "0", "--at", "0", "--example", "a"], ["--source", "x"]):
        done = here("explain", built, *words)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_plan_is_plain_text_and_json(built: Path):
    store = built.parent / "store"
    words = ["plan", QUICKSTART, "--limit", "300", "--out", built, "--store", store]
    assert "cached" in here(*words).stdout
    shown = json.loads(here(*words, "--json").stdout)
    assert {stage["state"] for stage in shown["stages"]} == {"cached"}
    assert shown["rows"][0]["taken"] == 300


def test_a_declared_plan_needs_no_lock_and_prints_no_fingerprints():
    done = orca("plan", QUICKSTART, "--declared")
    assert done.returncode == 0
    assert "fingerprint" not in done.stdout


def test_clean_frees_what_no_build_uses(built: Path, tmp_path: Path):
    store = tmp_path / "store"
    out = tmp_path / "build"
    assert here("build", QUICKSTART, "--limit", "20", "--out", out, "--store", store).returncode == 0
    assert "0 stages removed" in orca("clean", "--store", store).stdout
    (out / "manifest.json").unlink()
    assert "0 stages removed" not in here("clean", "--store", store).stdout
    assert list((store / "stages").iterdir()) == []


def test_kinds_lists_and_shows(tmp_path: Path):
    listed = orca("kinds").stdout
    assert "best_fit" in listed
    assert "orca-recipes" in listed
    shown = orca("kinds", "best_fit").stdout
    assert "row_tokens" in shown
    assert "2048" in shown


def test_schema_is_json():
    assert json.loads(orca("schema").stdout)["$schema"].startswith("https://json-schema.org/draft/2020-12")


def test_a_manifest_follows_its_schema(built: Path):
    schema = json.loads(orca("schema", "--manifest").stdout)
    jsonschema.validate(json.loads((built / "manifest.json").read_text()), schema)


def test_every_command_of_a_build_gives_programs_one_object(built: Path):
    places = ["--out", built, "--store", built.parent / "store"]
    recipe = [QUICKSTART, "--limit", "300", *places]
    example = json.loads(here("show", built, "--json").stdout.splitlines()[0])["id"]
    keys = {
        ("check", QUICKSTART): {"recipe", "sound", "faults", "collections", "datasets"},
        ("plan", *recipe): {"stages", "rows", "mixtures", "rules", "paper", "phases", "answers"},
        ("build", *recipe): {"digest", "fresh", "directory", "datasets", "stages", "passed_over", "unknown", "answers"},
        ("verify", built): {"sound", "findings", "checked", "not_checked", "unknowable"},
        ("explain", built, "--example", example, *places[2:]): {"stories"},
        ("kinds",): {"kinds", "broken"},
        ("kinds", "best_fit"): {"kinds", "broken"},
        ("schema",): {"$schema"},
    }
    for words, wanted in keys.items():
        done = here(*words, "--json")
        assert done.returncode == 0, done.stderr
        assert wanted <= json.loads(done.stdout).keys(), words
    assert here("build", *recipe, "--json").stderr == ""


def test_lock_and_clean_give_programs_one_object(tmp_path: Path):
    recipe = tmp_path / "late.toml"
    (tmp_path / "sums.jsonl").write_text('{"question": "1 + 1", "reference": "2"}\n' * 9)
    tokenizer = (HOME / "recipes" / "quickstart" / "tokenizer.json").as_posix()
    recipe.write_text(LATE.replace("tokenizer.json", tokenizer))
    done = orca("lock", recipe, "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {"lock": str(tmp_path / "late.lock"), "changed": []}
    freed = json.loads(here("clean", "--json", cwd=tmp_path).stdout)
    assert (freed["store"], freed["stages"]) == (".orca/store", 2)
    assert freed["bytes"] > 0


def test_a_faulty_recipe_is_told_to_programs_fault_by_fault_and_to_people_on_stderr(tmp_path: Path):
    recipe = tmp_path / "faulty.toml"
    recipe.write_text(FAULTS)
    done = orca("check", recipe, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["sound"], len(told["faults"])) == (2, False, 7)
    assert told["faults"][0].keys() == {"file", "line", "path", "sentence"}
    assert done.stderr == orca("check", recipe).stderr


def test_a_directory_that_is_no_build_is_one_sentence(tmp_path: Path):
    for command, status in (("verify", 1), ("show", 2)):
        done = orca(command, tmp_path)
        assert done.returncode == status
        assert "is not a complete build" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_half_written_and_the_next_build_goes_on(tmp_path: Path):
    words = ["build", QUICKSTART, "--out", tmp_path / "build", "--store", tmp_path / "store", "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "orca_recipes.cli", *map(str, words)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=HOME,
    )
    awaited((tmp_path / "store" / "stages").is_dir)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=SECONDS)
    if process.returncode != 0:
        # As it ends, when all is done, the system's own way of ending on an interrupt holds: shells call both 130.
        assert process.returncode in (130, -signal.SIGINT), said
        assert "Traceback" not in said
        assert not (tmp_path / "build").exists() or (tmp_path / "build" / "manifest.json").is_file()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".building")]
    assert orca(*words).returncode == 0
    assert orca("verify", tmp_path / "build").returncode == 0


def test_what_is_hardly_meant_is_warned_of_with_its_line_and_foreseen_by_a_plan(tmp_path: Path):
    rows = '{"question": "1 + 1", "reference": "2", "answer": "3"}\n' * 9
    (tmp_path / "sums.jsonl").write_text(rows)
    tokenizer = (HOME / "recipes" / "quickstart" / "tokenizer.json").as_posix()
    recipe = tmp_path / "late.toml"
    recipe.write_text(LATE.replace("tokenizer.json", tokenizer).replace('"direct"', '"step_by_step"'))
    for command in (["check"], ["plan", "--scan"]):
        done = here(*command, recipe, "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"warning: {recipe}:15: rules.0.strategy" in done.stderr
        (warned,) = json.loads(done.stdout)["warnings"]
        assert "was never given it" in warned
    (trial,) = json.loads(done.stdout)["trials"]
    assert (trial["tried"], trial["rejected"]) == (5, 5)
    assert "are rejected: 5 strategy step_by_step" in here("plan", recipe, cwd=tmp_path).stdout
    done = orca("build", recipe, "--workers", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert "no example is left to train on (5 the row brings its own answer" in done.stderr


def test_limits_that_no_number_or_name_keeps_are_refused_in_a_sentence(built: Path, tmp_path: Path):
    def told(*words: str) -> str:
        done = CliRunner().invoke(main, list(words))
        assert done.exit_code == 2, done.output
        return done.stderr

    recipe = str(QUICKSTART)
    assert "is no number between 0 and 1" in told("verify", str(built), "--sample", "nan")
    assert "give one of them" in told("plan", recipe, "--scan", "--declared")
    longest = told("check", recipe, "--set", f"packing.row_tokens={(1 << 63) - 1}")
    assert "packing.row_tokens" in longest
    assert "at most 16777216" in longest
    assert "must name a file or a folder" in told("check", recipe, "--set", 'collections.reasoning.path=""')
    text = QUICKSTART.read_text(encoding="utf-8") + "\n[datasets.both]\n[datasets.Both]\n"
    (tmp_path / "alike.toml").write_text(text, encoding="utf-8")
    assert 'differs from "both" in case alone' in told("check", str(tmp_path / "alike.toml"))
    text = QUICKSTART.read_text(encoding="utf-8") + '\n[collections.Reasoning]\nkind = "files"\npath = "x.jsonl"\n'
    (tmp_path / "alike.toml").write_text(text, encoding="utf-8")
    assert 'differs from "reasoning" in case alone' in told("check", str(tmp_path / "alike.toml"))


def test_a_recipe_on_standard_input_is_built_and_leaves_no_lock(tmp_path: Path):
    text = QUICKSTART.read_text(encoding="utf-8").replace('"quickstart/', f'"{QUICKSTART.parent}/quickstart/')
    command = [sys.executable, "-m", "orca_recipes.cli", "build", "/dev/stdin", "--limit", "3", "--workers", "1"]
    done = subprocess.run(command, input=text, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not Path("/dev/stdin.lock").exists()
    assert [path.name for path in (tmp_path / "build").glob("[!.]*")] == ["quickstart.limit-3"]
