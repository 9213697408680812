"""`verify` proves what was trained: every change of an answer, its mask or its prompt is found and named."""

import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer

from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.main import main
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.shards.checks.verify_report import Finding, Report
from orca_recipes.shards.layout import TRAINED, is_trained
from orca_recipes.shards.manifest import Contents, Made, read_manifest, sealed, write_manifest
from orca_recipes.shards.reader import Shard
from orca_recipes.store.store import Store
from tests.prove.forging import reseal, rewrite

QUICKSTART_TOKENIZER = Path(__file__).parents[2] / "recipes" / "quickstart" / "tokenizer.json"
ODD = ["-", " . ", " leading", "trailing ", "É é ﬁ", "☃ \U0001f469\u200d\U0001f467", "▁x", "say <|im_end|> now"]
ODD += ["\n\ntwo\r\n", "12345678", "ไทย", "\ta"]


def built(recipe: Path, *overrides: str) -> Path:
    asked = Asked(
        loaded=load_recipe(recipe, catalogue=Catalogue(), overrides=overrides),
        store=Store(recipe.parent / "store"),
        directory=recipe.parent / "out",
        workers=1,
    )
    build(asked, Progress())
    return asked.directory


def proven(directory: Path, sample: float | None = None) -> Report:
    return prove(directory, kinds=Catalogue(), sample=sample, progress=Progress())


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory, recipe_maker: Callable[[Path], Path]) -> Path:
    """A small build with conversations, sums and texts of every odd sort."""
    recipe = recipe_maker(tmp_path_factory.mktemp("proof") / "project")
    odd = [{"q": f"{question}?", "a": f"{answer}", "t": "odd"} for question in ODD for answer in ODD]
    with (recipe.parent / "sums.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in odd)
    return built(recipe, "mixtures.both.take.sums.rows=300")


@pytest.fixture
def directory(sound: Path, tmp_path: Path) -> Path:
    """A copy of the build, to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "out"))


def answers(shard: Shard) -> list[tuple[int, int, int]]:
    """Example, start and stop of the only answer of each example that has one."""
    segments = shard.segments
    trained = np.flatnonzero(is_trained(segments.modes))
    owners = np.searchsorted(segments.example_starts, trained, side="right") - 1
    counts = np.bincount(owners, minlength=segments.examples)
    starts, stops = (segments.token_starts[at].tolist() for at in (trained, trained + 1))
    spans = zip(owners.tolist(), starts, stops, strict=True)
    return [(owner, start, stop) for owner, start, stop in spans if counts[owner] == 1]


def ids_of(directory: Path, prefix: str) -> list[str]:
    return [example.hex() for example in pq.read_table(directory / f"{prefix}.records.parquet")["id"].to_pylist()]


def swap_answers(directory: Path) -> tuple[int, int]:
    """Swap two answers of equal length; returns the examples."""
    swapped: list[int] = []

    def change(tokens: np.ndarray, modes: np.ndarray, shard: Shard) -> None:
        by_length: dict[int, tuple[int, int, int]] = {}
        for example, start, stop in answers(shard):
            other = by_length.setdefault(stop - start, (example, start, stop))
            ours, theirs = tokens[start:stop].copy(), tokens[other[1] : other[2]].copy()
            if (ours != theirs).any():
                tokens[start:stop], tokens[other[1] : other[2]] = theirs, ours
                swapped.extend((other[0], example))
                return

    rewrite(directory, "main/00000", change)
    return swapped[0], swapped[1]


def test_a_sound_build_is_proven_whole(sound: Path):
    report = proven(sound)
    assert report.findings == ()
    examples = read_manifest(sound).datasets["main"].examples
    assert report.checked["texts"] == report.checked["examples"] == examples
    held = [
        re.fullmatch(r"the prompts of (\d+) sampled .* hold the text of a control token", told)
        for told in report.not_checked
    ]
    assert len(held) == 1
    assert held[0] is not None
    assert report.checked["prompts"] == examples - int(held[0].group(1))


def test_a_swapped_answer_is_found_under_new_digests_and_both_examples_are_named(directory: Path):
    pair = swap_answers(directory)
    reseal(directory)
    names = ids_of(directory, "main/00000")
    findings = proven(directory).findings
    assert {finding.example for finding in findings} == {names[example] for example in pair}
    assert all(finding.file == "main/00000.bin" and finding.row is not None for finding in findings)
    told = next(finding for finding in findings if finding.example == names[pair[0]])
    assert f"example {names[pair[1]]} of the same shard has that text" in told.sentence


def test_a_changed_mask_bit_is_found_under_new_digests(directory: Path):
    chosen: list[int] = []

    def change(tokens: np.ndarray, modes: np.ndarray, shard: Shard) -> None:
        segments = shard.segments
        trained = np.flatnonzero(is_trained(modes) & (segments.lengths > 2))
        owners = np.searchsorted(segments.example_starts, trained, side="right") - 1
        twice = np.flatnonzero(owners[1:] == owners[:-1])[0]
        modes[trained[twice]] &= ~np.int8(TRAINED)
        chosen.append(int(owners[twice]))

    rewrite(directory, "main/00000", change)
    reseal(directory)
    name = ids_of(directory, "main/00000")[chosen[0]]
    told = [finding for finding in proven(directory).findings if "trained tokens say" in finding.sentence]
    assert [finding.example for finding in told] == [name]


def test_a_prompt_cut_into_other_tokens_than_inference_sees_is_found(directory: Path):
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer" / "tokenizer.json"))
    rewrite(directory, "main/00000", lambda tokens, modes, shard: recut(tokens, modes, shard, tokenizer))
    reseal(directory)
    (finding,) = proven(directory).findings
    assert re.match(r"at its token \d+: before its answer stands \d+, where inference would see \d+", finding.sentence)


def recut(tokens: np.ndarray, modes: np.ndarray, shard: Shard, tokenizer: Tokenizer) -> None:
    """Put two other tokens of the same text in the place of two, none of them trained; where no text is a control's."""
    context, bounds = ~np.repeat(is_trained(modes), shard.segments.lengths), shard.segments.example_bounds
    for start, stop in pairwise(bounds.tolist()):
        if "say <" in tokenizer.decode(tokens[start:stop].tolist(), skip_special_tokens=False):
            context[start:stop] = False
    for place in np.flatnonzero(context[:-1] & context[1:])[10:].tolist():
        left, right = (tokenizer.id_to_token(int(token)) for token in tokens[place : place + 2])
        text = left + right
        for cut in range(1, len(text)):
            other = (tokenizer.token_to_id(text[:cut]), tokenizer.token_to_id(text[cut:]))
            if text.isalpha() and None not in other and cut != len(left):
                tokens[place : place + 2] = other
                return


def test_a_header_that_the_chat_template_does_not_print_is_found(directory: Path):
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer" / "tokenizer.json"))
    user, other = (tokenizer.encode(word).ids for word in ("user", "the"))

    def change(tokens: np.ndarray, modes: np.ndarray, shard: Shard) -> None:
        place = next(at for at in range(1, len(tokens)) if tokens[at : at + len(user)].tolist() == user)
        tokens[place] = other[0]

    rewrite(directory, "main/00000", change)
    reseal(directory)
    findings = proven(directory).findings
    assert len(findings) == 1
    assert "chat template" in findings[0].sentence


def tokenizer_with(folder: Path, normalizer: dict[str, Any] | None) -> Path:
    table = json.loads(QUICKSTART_TOKENIZER.read_text(encoding="utf-8"))
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**table, "normalizer": normalizer}), encoding="utf-8")
    return path


def spoken(contents: list[str]) -> list[dict[str, str]]:
    """User and assistant by turns."""
    roles = ("user", "assistant") * (len(contents) // 2)
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]


def odd_recipe(folder: Path, tokenizer: Path, template: str, more: str = "") -> Path:
    """A recipe of odd texts in all places, dialogues and answers longer than a row."""
    folder.mkdir()
    turns = [
        {
            "messages": [
                {"role": role, "content": text + word}
                for role, text in zip(("user", "assistant") * 2, four, strict=True)
            ]
        }
        for word in ("", " Ünd")
        for four in zip(ODD, ODD[3:] + ODD[:3], ODD[5:] + ODD[:5], ODD[7:] + ODD[:7], strict=True)
    ]
    turns.append({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "É é ☃ 👩‍👧 " * 60}]})
    rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in turns)
    (folder / "odd.jsonl").write_text(rows, encoding="utf-8")
    path = folder / "odd.toml"
    path.write_text(
        f'name = "odd"\n[collections.odd]\nkind = "files"\npath = "odd.jsonl"\ntask = "odd"\n'
        f'columns = {{ messages = "messages" }}\n[tokenizer]\nkind = "hf"\npath = "{tokenizer.as_posix()}"\n{more}'
        f'[template]\n{template}\n[packing]\nrow_tokens = 256\noverlong = "truncate"\n',
        encoding="utf-8",
    )
    return path


CHATML = 'kind = "chatml"'
PLAIN = 'kind = "plain"\nterminator = "<|im_end|>"'
SENTENCEPIECE = 'add_special_tokens = ["<|im_start|>", "<|im_end|>"]\n'


@pytest.mark.parametrize("template", [CHATML, PLAIN])
@pytest.mark.parametrize("steps", [[], ["NFC", "Lowercase"], ["NFKC"]])
def test_a_byte_level_tokenizer_that_changes_text_is_proven(tmp_path: Path, template: str, steps: list[str]):
    normalizer = {"type": "Sequence", "normalizers": [{"type": step} for step in steps]} if steps else None
    directory = built(odd_recipe(tmp_path / "odd", tokenizer_with(tmp_path, normalizer), template))
    report = proven(directory)
    assert report.findings == ()
    assert report.checked["texts"] == 25
    assert report.checked["prompts"] > 5
    records = pl.read_parquet(directory / "main" / "00000.records.parquet")
    assert (records["flags"] == 2).sum() == 1, "an answer cut in the middle of a character is proven too"


@pytest.mark.parametrize("template", [CHATML, PLAIN])
def test_a_sentencepiece_tokenizer_is_proven(tmp_path: Path, shared: Path, template: str):
    report = proven(built(odd_recipe(tmp_path / "odd", shared / "data" / "tokenizer", template, SENTENCEPIECE)))
    assert report.findings == ()
    assert (report.checked["texts"], report.checked["prompts"] > 5) == (25, True)


def test_a_tokenizer_that_cannot_spell_everything_is_proven_by_what_its_ids_say(tmp_path: Path, shared: Path):
    table = json.loads((shared / "data" / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    table["model"]["byte_fallback"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")
    more = SENTENCEPIECE + '[datasets.main]\nunknown = "train"\n'
    report = proven(built(odd_recipe(tmp_path / "odd", tmp_path / "tokenizer.json", CHATML, more)))
    assert report.findings == ()
    assert report.checked["texts"] == 25
    assert report.checked["answers_with_unknown_text"] > 0
    assert any("does not give back" in told for told in report.not_checked)


@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_the_tokenizers_own_template_is_proven(tmp_path: Path, line: str):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    shutil.copyfile(QUICKSTART_TOKENIZER, folder / "tokenizer.json")
    jinja = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    settings = {"chat_template": jinja.replace("\n", line), "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    report = proven(built(odd_recipe(tmp_path / "odd", folder, 'kind = "from_tokenizer"')))
    assert report.findings == ()
    assert report.checked["prompts"] > 5


def test_a_sample_says_exactly_what_it_did_not_check(sound: Path):
    report = proven(sound, sample=0.25)
    rows, examples = (getattr(read_manifest(sound).datasets["main"], name) for name in ("rows", "examples"))
    assert report.findings == ()
    assert 0 < report.checked["texts"] < examples
    assert report.not_checked[0].startswith("the digests of ")
    assert re.fullmatch(rf"the tokens of \d+ of the {rows} rows of dataset main", report.not_checked[1])
    assert (
        f"the text of {examples - report.checked['texts']} of the {examples} examples of dataset main"
        in report.not_checked
    )
    assert proven(sound, sample=0.25) == report


def test_a_sample_of_everything_finds_what_a_digest_would_not(directory: Path):
    swap_answers(directory)
    reseal(directory)
    assert len(proven(directory, sample=1.0).findings) == 2


def test_a_row_outside_the_sample_is_not_looked_at(directory: Path):
    def change(tokens: np.ndarray, modes: np.ndarray, shard: Shard) -> None:
        for _, start, stop in answers(shard):
            tokens[start : stop - 1] = tokens[0]

    rewrite(directory, "main/00000", change)
    reseal(directory)
    everything, some = proven(directory), proven(directory, sample=0.05)
    assert 0 < len(some.findings) <= len(everything.findings)
    assert {finding.row for finding in some.findings} <= set(range(Shard.open(directory / "main/00000").rows))


def test_counts_that_the_recipe_did_not_ask_for_are_found(directory: Path):
    def change(table: dict[str, Any]) -> None:
        table["recipe"]["mixtures"]["both"]["take"]["sums"]["rows"] = 290

    reseal(directory, change)
    (finding,) = proven(directory).findings
    assert finding == Finding("manifest.json", "stage mix both/sums gave 300 rows, where 290 were asked for")


def test_text_that_cannot_be_spelt_is_none_where_the_tokenizer_spells_all(directory: Path):
    assert "datasets.unknown" not in proven(directory).unknowable

    def change(table: dict[str, Any]) -> None:
        table["datasets"]["main"]["unknown"] = {"examples": 3, "answers": 1}

    reseal(directory, change)
    (finding,) = proven(directory).findings
    told = "it counts 3 examples with text that cannot be spelt, and its tokenizer spells all"
    assert finding == Finding("manifest.json", f"dataset main: {told}")


def test_a_table_that_is_miscounted_in_the_manifest_is_proven_all_the_same(directory: Path):
    def miscount(table: dict[str, Any]) -> None:
        for listed in table["tables"]:
            listed["rows"] += 1

    reseal(directory, miscount)
    report = proven(directory)
    assert {finding.file for finding in report.findings} == {"manifest.json"}
    assert report.checked["texts"] == report.checked["examples"]


def test_a_table_whose_content_is_not_promised_leaves_its_text_unchecked(directory: Path):
    path = directory / "main/00000.records.parquet"
    table = pq.read_table(path)
    at = table.column_names.index("file")
    pq.write_table(table.set_column(at, "file", pa.array(["other"] * len(table), pa.large_string())), path)
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    promised = {listed["path"]: listed["content_digest"] for listed in manifest["tables"]}
    reseal(directory)
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    made = manifest.pop("made")
    for listed in manifest["tables"]:
        listed["content_digest"] = promised[listed["path"]]
    contents = {key: value for key, value in manifest.items() if key not in ("data_digest", "digest", "seal")}
    write_manifest(
        directory,
        sealed(Contents.model_validate_json(json.dumps(contents)), made=Made.model_validate_json(json.dumps(made))),
    )
    report = proven(directory)
    assert [finding.file for finding in report.findings] == ["main/00000.records.parquet"]
    assert "the text of main/00000: its files are damaged" in report.not_checked


def test_rows_lost_between_stages_are_found(directory: Path):
    def change(table: dict[str, Any]) -> None:
        stage = next(found for found in table["datasets"]["main"]["stages"] if found["name"] == "converse main/sums")
        stage["in"] -= 1
        stage["out"] -= 1

    reseal(directory, change)
    told = [finding.sentence for finding in proven(directory).findings]
    assert told == [
        "stage converse main/sums took in 299 rows, where stage mix both/sums gave 300",
        "stage tokenize main/sums took in 300 rows, where stage converse main/sums gave 299",
    ]


def test_a_build_of_few_examples_is_held_to_its_limit(recipe: Path, tmp_path: Path):
    asked = Asked(
        loaded=load_recipe(recipe, catalogue=Catalogue()),
        store=Store(tmp_path / "store"),
        directory=tmp_path / "out",
        workers=1,
        limit=5,
    )
    build(asked, Progress())
    assert proven(tmp_path / "out").findings == ()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _unlink(directory: Path) -> None:
    (directory / "main" / "00001.bin").unlink()


def _swap_shards(directory: Path) -> None:
    first, second, aside = (directory / "main" / name for name in ("00000.idx", "00001.idx", "aside"))
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def _extra(directory: Path) -> None:
    shutil.copyfile(directory / "main" / "00000.bin", directory / "main" / "00009.bin")


def _edit(directory: Path) -> None:
    path = directory / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"seed":7', b'"seed":8').replace(b'"seed": 7', b'"seed": 8'))


def _swap_and_reseal(directory: Path) -> None:
    swap_answers(directory)
    reseal(directory)


def _recut_and_reseal(directory: Path) -> None:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer" / "tokenizer.json"))
    rewrite(directory, "main/00000", lambda tokens, modes, shard: recut(tokens, modes, shard, tokenizer))
    reseal(directory)


def _drop_a_terminator_and_reseal(directory: Path) -> None:
    def change(tokens: np.ndarray, modes: np.ndarray, shard: Shard) -> None:
        _, _, stop = answers(shard)[0]
        tokens[stop - 1] = tokens[stop - 2]

    rewrite(directory, "main/00000", change)
    reseal(directory)


def _repeat_an_example_and_reseal(directory: Path) -> None:
    path = directory / "main" / "00000.records.parquet"
    table = pl.read_parquet(path)
    twin = pl.when(pl.int_range(pl.len()) == 1).then(pl.col("id").first()).otherwise("id").alias("id")
    table.with_columns(twin).write_parquet(path)
    reseal(directory)


def _forget_a_rejected_row_and_reseal(directory: Path) -> None:
    path = directory / "main" / "rejected.parquet"
    pl.read_parquet(path).head(0).write_parquet(path)
    reseal(directory)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a flipped bit": (lambda build: flip(build / "main/00000.bin"), r"main/00000\.bin: its digest is .* promised"),
    "a missing file": (_unlink, r"main/00001\.bin: the file is missing"),
    "an extra file": (_extra, r"main/00009\.bin: the manifest does not list this file; remove it"),
    "an edited manifest": (_edit, r"manifest\.json: it was changed after the build"),
    "two indices swapped": (_swap_shards, r"main/00000\.idx: "),
    "swapped answers": (_swap_and_reseal, r"main/00000\.bin: row \d+: example \w+: its trained tokens say"),
    "a recut prompt": (
        _recut_and_reseal,
        r"main/00000\.bin: row \d+: example \w+: at its token \d+: before its answer",
    ),
    "a lost terminator": (
        _drop_a_terminator_and_reseal,
        r"row \d+: example \w+: the trained turn .* lacks its terminator",
    ),
    "an example twice": (_repeat_an_example_and_reseal, r"row \d+: example \w+: the example stands .* more than once"),
    "a forgotten row": (_forget_a_rejected_row_and_reseal, r"main/rejected\.parquet: it lists 0 rows rejected as"),
}


def test_ten_damages_give_ten_sentences_that_name_file_and_what_differs(sound: Path, tmp_path: Path):
    told: dict[str, str] = {}
    for name, (damage, sentence) in DAMAGES.items():
        directory = Path(shutil.copytree(sound, tmp_path / name.replace(" ", "-")))
        damage(directory)
        ran = CliRunner().invoke(main, ["verify", str(directory)])
        assert ran.exit_code == 1, name
        found = [line for line in ran.stdout.splitlines() if re.search(sentence, line)]
        assert found, f"{name}: {ran.stdout}"
        told[name] = found[0]
    assert len(set(told.values())) == len(DAMAGES) == 10


def test_a_damaged_tokenizer_leaves_the_text_unchecked_and_says_so(directory: Path):
    flip(directory / "tokenizer" / "tokenizer.json")
    report = proven(directory)
    assert [finding.file for finding in report.findings] == ["tokenizer/tokenizer.json"]
    assert report.not_checked == ("the text of all examples: tokenizer/tokenizer.json is damaged",)


def test_another_tokenizer_under_new_digests_is_found(directory: Path):
    table = json.loads((directory / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    merges = table["model"]["merges"]
    table["model"]["merges"] = merges[::-1]
    (directory / "tokenizer" / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")
    reseal(directory)
    assert any("where inference would see" in finding.sentence for finding in proven(directory).findings)


def test_the_verdict_is_json_for_programs(sound: Path):
    told = json.loads(CliRunner().invoke(main, ["verify", "--json", "--sample", "0.5", str(sound)]).stdout)
    assert (told["sound"], told["findings"]) == (True, [])
    assert told["checked"]["texts"] > 0
    assert any("digests" in words for words in told["not_checked"])
