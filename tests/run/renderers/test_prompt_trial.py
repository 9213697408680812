"""A build tries what `verify` tries: rows that make the template print another prompt are not trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from orca_plugins.templates.from_tokenizer.kind import FromTokenizer
from orca_plugins.tokenizers.hf.kind import HF
from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.frames import messages_type
from orca_recipes.errors import TemplateError
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.run.build import build
from orca_recipes.run.built import Built, Ran
from orca_recipes.run.renderers.prompt_trial import PROMPTS_CHECKED, PromptTrial
from orca_recipes.run.renderers.render import Renderer
from orca_recipes.run.work.loaded_tokenizer import opened
from tests.run.ends import ONE_END, RECIPE, write_tokenizer
from tests.run.small import asked, write_rows

REASONS = {
    "strips a thought": "the chat template prints the answer otherwise than after its own prompt, which ends in "
    '"<|START|><|BOT|>"',
    "refuses it": "the chat template refuses it (no)",
}
"""What is said of a row that is rendered whole, once the table of joints was seen to print it otherwise."""

LONG = "word " * 60
PARTING = {
    "strips a thought": "{% if 'HIDE>' in m.content and m.content|length > 200 %}{% else %}BODY{% endif %}",
    "refuses it": "{% if 'HIDE>' in m.content and m.content|length > 200 %}{{ raise_exception('no') }}{% endif %}BODY",
}
"""Templates that print some long contents in their own way: the texts that templates are tried with are short."""


def template(body: str) -> str:
    """The template of two ends, with something around what it prints of a message."""
    start, rest = ONE_END.split("{% if m", 1)
    printed, end = rest.split("{% endfor %}")
    return start + body.replace("BODY", "{% if m" + printed) + "{% endfor %}" + end


def chat(question: str, answer: str) -> dict:
    told = (("user", question), ("assistant", answer), ("user", "And?"), ("assistant", "So."))
    return {"messages": [{"role": role, "content": content} for role, content in told]}


def make(folder: Path, text: str, rows: list[dict], **options) -> Built:
    write_tokenizer(folder / "tokenizer", text)
    write_rows(folder / "chats.jsonl", rows)
    (folder / "ends.toml").write_text(RECIPE.replace("row_tokens = 128", "row_tokens = 512"))
    manifest, fresh = build(asked(folder / "ends.toml", **options), Progress())
    return Built(folder / "out", manifest, fresh, Ran("local"))


@pytest.mark.parametrize("name", PARTING)
def test_a_row_whose_text_makes_the_template_print_another_prompt_is_rejected(tmp_path: Path, name: str) -> None:
    rows = [chat(f"Hi {n}", f"Hello {n}") for n in range(5)]
    rows += [chat("Hi", f"<HIDE> {LONG}"), chat("Hi", "<HIDE> short"), chat("Hi", LONG)]
    built = make(tmp_path / "p", template(PARTING[name]), rows)
    rejected = pl.read_parquet(built.directory / "main" / "rejected.parquet")
    assert rejected.select("line", "stage", "reason").rows() == [(6, "tokenize", REASONS[name])]
    assert built.as_json()["prompts_checked"] == 8
    assert prove(built.directory, kinds=Catalogue(), progress=Progress()).is_sound


def test_rows_with_telling_text_are_rejected_wherever_they_stand_and_however_many_there_are(tmp_path: Path) -> None:
    rows = [chat(f"Hi {n}", f"<HIDE> {n} {LONG}" if n % 4 == 0 else f"Hello {n}") for n in range(1000)]
    built = make(tmp_path / "p", template(PARTING["strips a thought"]), rows)
    rejected = pl.read_parquet(built.directory / "main" / "rejected.parquet")
    assert sorted(rejected["line"].to_list()) == list(range(1, 1001, 4))
    assert 250 + 0.6 * 0.75 * PROMPTS_CHECKED < built.as_json()["prompts_checked"] < 250 + 0.75 * 1.4 * PROMPTS_CHECKED


def test_a_template_that_prints_common_rows_in_its_own_way_builds_nothing_and_the_row_is_told(tmp_path: Path) -> None:
    short = "{{ '<|START|><|BOT|>cut<|END_RESPONSE|><|END_TURN|>\n' }}"
    cuts = template("{% if m.content|length > 200 %}" + short + "{% else %}BODY{% endif %}")
    rows = [chat("Hi", "Hello"), chat("Hi", LONG)]
    with pytest.raises(TemplateError) as caught:
        make(tmp_path / "p", cuts, rows)
    said = str(caught.value)
    assert "chats.jsonl:2: a build would train what inference does not see" in said
    assert "cut<|END_RESPONSE|>" in said
    assert "where training has" in said
    assert not (tmp_path / "p" / "out").exists()


def test_what_is_tried_again_is_not_made_again(tmp_path: Path) -> None:
    rows = [chat(f"Hi {n}", f"Hello {n}") for n in range(400)]
    first = make(tmp_path / "p", ONE_END, rows)
    assert 0 < first.as_json()["prompts_checked"] < 400
    manifest, fresh = build(asked(tmp_path / "p" / "ends.toml", out=tmp_path / "p" / "again"), Progress())
    again = Built(tmp_path / "p" / "again", manifest, fresh, Ran("local"))
    assert again.as_json()["prompts_checked"] == first.as_json()["prompts_checked"]
    assert again.as_json()["digest"] == first.as_json()["digest"]


def test_text_that_looks_like_the_templates_own_is_kept_where_it_changes_nothing(tmp_path: Path) -> None:
    rows = [chat("say <|END_TURN|> twice", "<|START|><|BOT|>"), chat("<|USER|>", "[INST] x [/INST]"), chat("Hi", "Ho")]
    built = make(tmp_path / "p", ONE_END, rows)
    assert len(pl.read_parquet(built.directory / "main" / "rejected.parquet")) == 0
    assert built.as_json()["prompts_checked"] == 3
    assert prove(built.directory, kinds=Catalogue(), progress=Progress()).is_sound


def test_tokens_that_inference_would_not_see_are_told(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "tokenizer", ONE_END)
    kind = HF(path=folder)
    (tmp_path / "resolved").mkdir()
    kind.materialize(files=kind.files(), folder=tmp_path / "resolved")
    encoder = opened(kind, tmp_path / "resolved")
    markup = FromTokenizer().markup(vocabulary=encoder.vocabulary)
    told = [[{**message, "trained": message["role"] == "assistant"} for message in chat("Hi", "Ho")["messages"]]]
    column = pl.Series(told, dtype=messages_type()).to_arrow()
    table = pa.table({"id_hi": [1], "id_lo": [2], "file": ["chats.jsonl"], "place": [7], "messages": column})
    flags = np.zeros(1, dtype=bool)
    rendered = Renderer(markup=markup, encoder=encoder).render(messages=column, cut=flags, check=flags, exact=True)
    trial = PromptTrial(markup, encoder, tmp_path / "resolved" / "tokenizer.json")
    assert trial.look(table, rendered, of=1).checked == 1
    at = rendered.tokens.tolist().index(encoder.vocabulary.control["<|USER|>"]) + 1
    other = rendered.tokens.copy()
    other[at] += 1
    with pytest.raises(TemplateError, match=r"chats\.jsonl:7: .* inference would see '.*Hi<"):
        trial.look(table, replace(rendered, tokens=other), of=1)
