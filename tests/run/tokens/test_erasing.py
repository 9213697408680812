"""Prompt erasing on a whole build: what the student sees, what records tell, and what `verify` proves of it."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from orca_plugins.strategies.step_by_step import StepByStep
from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.messages import Turn, conversations_of
from orca_recipes.errors import PluginError, RuleError
from orca_recipes.explain.two_views import view_teller
from orca_recipes.preview.preview import preview
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build, prepare
from orca_recipes.run.tokens import stored_examples
from orca_recipes.shards.manifest import Manifest, read_manifest
from orca_recipes.shards.show.show import show
from orca_recipes.store.store import Store

HOME = Path(__file__).parents[3]
TOKENIZERS = {
    "quickstart": 'kind = "hf"\npath = "{home}/recipes/quickstart/tokenizer.json"\n',
    "llama": 'kind = "hf"\npath = "{shared}/data/tokenizer/tokenizer.json"\n',
}
RECIPE = """
name = "views"

[collections.sums]
kind = "files"
path = "sums.jsonl"
columns = {{ question = "q", reference = "a", task = "t", options = "o", language = "l" }}
extra = ["subject"]

[system_messages.set]
messages = {{ plain = "Help where you can.", child = "Explain it as you would to a curious child." }}

[strategies.mine]
kind = "instruct"
prompt = "About {{subject}}: {{question}}\\n{{options}}\\nName a letter."

[[rules]]
when = {{ task = "pick", options = true }}
strategy = "mine"

[[rules]]
when = {{ task = "shown" }}
strategy = "few_shot"
system_messages = ["set/child"]

[[rules]]
when = {{ task = "each", max_tokens = 40 }}
strategy = "explain_then_answer"
system_messages = ["set/child", "set/plain"]
expand = "each"

[[rules]]
strategy = "step_by_step"
system_messages = ["set/child"]

[datasets.main]
student = {{ erase = true, system_message = "set/plain" }}

[template]
kind = "chatml"

[tokenizer]
{tokenizer}
"""


def write_recipe(folder: Path, tokenizer: str, *, change: Callable[[str], str] = str) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [
        {"q": f"What is {n} + {n}?", "a": f"It is {2 * n}.", "t": task, "o": ["1", "2"], "l": "en", "subject": "sums"}
        for task in ("pick", "shown", "each", "rest")
        for n in range(12)
    ]
    rows[-1]["q"] += " Work this out one step at a time. Write each step down, with what it follows from."
    rows[-2]["a"] += " I was told to work this out one step at a time. Write each step down, with what it follows from."
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "views.toml"
    path.write_text(change(RECIPE.format(tokenizer=tokenizer)))
    return path


def asked(path: Path) -> Asked:
    loaded = load_recipe(path, catalogue=Catalogue())
    return Asked(loaded=loaded, store=Store(path.parent / "store"), directory=path.parent / "out", workers=1)


def made(path: Path) -> Manifest:
    return build(asked(path), Progress())[0]


def proven(path: Path) -> tuple[list[str], dict[str, int]]:
    report = prove(path.parent / "out", kinds=Catalogue(), progress=Progress())
    return [str(finding) for finding in report.findings], dict(report.checked)


def records(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path.parent / "out/main/00000.records.parquet")


@pytest.fixture
def quickstart() -> str:
    return TOKENIZERS["quickstart"].format(home=HOME.as_posix())


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_recipe(tmp_path_factory.mktemp("views"), TOKENIZERS["quickstart"].format(home=HOME.as_posix()))
    made(path)
    return path


def test_a_build_with_erased_prompts_is_proven_to_be_erased(views: Path):
    findings, checked = proven(views)
    assert findings == []
    assert checked["erased_prompts"] == checked["examples"] == 60


@pytest.mark.parametrize("template", ["chatml", "plain"])
def test_it_is_proven_behind_a_sentencepiece_tokenizer_and_other_templates(tmp_path: Path, shared: Path, template: str):
    tokenizer = (
        TOKENIZERS["llama"].format(shared=shared.as_posix()) + 'add_special_tokens = ["<|im_start|>", "<|im_end|>"]\n'
    )
    path = write_recipe(tmp_path, tokenizer, change=lambda text: text.replace('"chatml"', f'"{template}"'))
    made(path)
    findings, checked = proven(path)
    assert findings == []
    assert checked["erased_prompts"] == 60


def test_records_tell_what_was_asked_in_few_words(views: Path):
    told = dict(records(views).select("task", "teacher_view").filter(task="pick").iter_rows())
    assert json.loads(told["pick"]) == [["user", "About sums: ", 0, "\n(A) 1\n(B) 2\nName a letter."]]
    told = records(views).filter(task="rest")["teacher_view"].unique().to_list()
    assert len(told) == 1
    assert json.loads(told[0])[0][0] == "system"
    assert "What is" not in told[0]


def test_expanded_examples_are_counted_as_created(views: Path):
    stages = read_manifest(views.parent / "out").datasets["main"].stages
    converse = next(stage for stage in stages if stage.name == "converse main/sums")
    assert (converse.taken, converse.created, converse.out) == (48, {"expand": 12}, 60)
    by_message = records(views).filter(task="each")["system_message"].value_counts()
    assert dict(by_message.iter_rows()) == {"set/child": 12, "set/plain": 12}


def test_answers_that_quote_their_instruction_are_counted_and_can_be_rejected(
    views: Path, tmp_path: Path, quickstart: str
):
    assert read_manifest(views.parent / "out").datasets["main"].echoes == 1
    path = write_recipe(
        tmp_path, quickstart, change=lambda text: text.replace("[datasets.main]", '[datasets.main]\nfilters = ["echo"]')
    )
    counts = made(path).datasets["main"]
    assert (counts.echoes, counts.examples) == (1, 59)
    rejected = pl.read_parquet(path.parent / "out/main/rejected.parquet")
    assert rejected["reason"].to_list() == ["it quotes the instruction"]


def test_both_views_are_shown(views: Path):
    out, directory = io.StringIO(), views.parent / "out"
    show(directory, out=out, task="pick", views=view_teller(directory, Catalogue()))
    text = out.getvalue()
    teacher, student = (text.index(title) for title in ("the teacher was asked", "the student sees"))
    assert teacher < text.index("Name a letter.") < student < text.index("Help where you can.")


def test_where_nothing_is_erased_the_student_sees_all_that_was_asked(tmp_path: Path, quickstart: str):
    path = write_recipe(
        tmp_path,
        quickstart,
        change=lambda text: text.replace('student = { erase = true, system_message = "set/plain" }', ""),
    )
    made(path)
    assert records(path)["teacher_view"].null_count() == 60
    out = io.StringIO()
    show(path.parent / "out", out=out, task="rest", views=view_teller(path.parent / "out", Catalogue()))
    assert "nothing is erased" in out.getvalue()
    assert "Write each step down" in out.getvalue()


def test_words_that_a_strategy_leaves_behind_are_found(
    tmp_path: Path, quickstart: str, monkeypatch: pytest.MonkeyPatch
):
    def leaky(self: StepByStep, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        left = examples.select(pl.col("system") + " Write each step down, with what it follows from, please.")["system"]
        turns = [Turn("system", left), Turn("user", examples["question"]), Turn("assistant", answers, trained=True)]
        return conversations_of(turns)

    monkeypatch.setattr(StepByStep, "teach", leaky)
    made(path := write_recipe(tmp_path, quickstart))
    findings, _ = proven(path)
    assert len(findings) > 0
    assert all(
        "its system message holds" in finding and "only the teacher was told" in finding for finding in findings[:3]
    )


def test_a_question_that_is_not_what_it_was_is_found(tmp_path: Path, quickstart: str, monkeypatch: pytest.MonkeyPatch):
    def other(conversations: pa.Table, encoder: object) -> tuple[np.ndarray, np.ndarray]:
        ones = np.ones(conversations.num_rows, dtype=np.uint64)
        return ones, ones

    monkeypatch.setattr(stored_examples, "kept_question_digests", other)
    made(path := write_recipe(tmp_path, quickstart))
    assert any("its record promises another, by its digest" in finding for finding in proven(path)[0])


def test_a_strategy_that_changes_the_question_cannot_erase(
    tmp_path: Path, quickstart: str, monkeypatch: pytest.MonkeyPatch
):
    def rewriting(self: StepByStep, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        question = examples["question"].str.to_uppercase()
        return conversations_of([Turn("user", question), Turn("assistant", answers, trained=True)])

    monkeypatch.setattr(StepByStep, "teach", rewriting)
    with pytest.raises(PluginError, match=r'strategies.step_by_step: kind "step_by_step" changes the question'):
        made(write_recipe(tmp_path, quickstart))


# --- coverage --------------------------------------------------------------------------------------------------------


def planned(path: Path) -> tuple[dict[int | None, int | None], str]:
    shown = preview(asked(path), prepare(asked(path)))
    return {view.number: view.examples for view in shown.rules}, str(shown)


def test_a_plan_counts_the_examples_of_every_rule(views: Path):
    counts, text = planned(views)
    assert counts == {1: 12, 2: 12, 3: 12, 4: 12}
    assert "12 (and 12 by expand)" in text


def test_a_plan_names_rules_that_nothing_falls_under(tmp_path: Path, quickstart: str):
    path = write_recipe(tmp_path, quickstart, change=lambda text: text.replace("options = true", "options = false"))
    made(path)
    counts, text = planned(path)
    assert counts == {1: 0, 2: 12, 3: 12, 4: 24}
    assert 'nothing falls under rule 1 (task = "pick", options = false)' in text


def test_examples_that_no_rule_is_for_are_refused_and_counted_by_plan(tmp_path: Path, quickstart: str):
    last = '[[rules]]\nstrategy = "step_by_step"\nsystem_messages = ["set/child"]\n'
    path = write_recipe(tmp_path, quickstart, change=lambda text: text.replace(last, ""))
    with pytest.raises(RuleError, match='collection "sums", of tasks "rest"; add a rule'):
        made(path)
    counts, text = planned(path)
    assert counts[None] == 12
    assert "no rule is for 12 examples" in text


def test_a_pattern_that_no_task_fits_is_a_fault_with_the_nearest_task(tmp_path: Path, quickstart: str):
    path = write_recipe(tmp_path, quickstart, change=lambda text: text.replace('"shown"', '"shwon"'))
    with pytest.raises(RuleError, match=r'rules.1.when.task: no task of sums fits "shwon"; did you mean "shown"'):
        made(path)
