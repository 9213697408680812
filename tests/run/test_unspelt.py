"""Text that a vocabulary cannot spell, or that its normalizer changes: counted, and never trained unasked."""

import json
from pathlib import Path

import polars as pl
import pytest
import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.run.build import build
from orca_recipes.run.built import Built, Ran
from orca_recipes.run.closing_table import closing_table
from tests.run.small import QUICKSTART_TOKENIZER, asked, write_rows

CONTROL = ["<|im_start|>", "<|im_end|>"]
SNOWMAN = "\N{SNOWMAN}"
LETTERS = "abcdefghijklmnopqrstuvwxyz[]<>UNK.#:"
REASON = "the vocabulary cannot spell a part of an answer, which would be trained as "

RECIPE = """
name = "unspelt"

[collections.sums]
kind = "files"
path = "rows.jsonl"
columns = {{ messages = "messages" }}

[datasets.main]
{dataset}

[tokenizer]
kind = "hf"
path = "tokenizer.json"

[template]
kind = "chatml"

[packing]
row_tokens = 128
"""


def word_piece() -> Tokenizer:
    words = ["[UNK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    tokenizer = Tokenizer(models.WordPiece({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[UNK]"])
    return tokenizer


def unigram() -> Tokenizer:
    pieces = [
        ("<unk>", 0.0),
        ("\N{LOWER ONE EIGHTH BLOCK}", -2.0),
        ("\n", -2.0),
        *((letter, -3.0) for letter in LETTERS),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer


def bpe(unknown: str | None = "<unk>") -> Tokenizer:
    signs = {sign: place for place, sign in enumerate(["<unk>", "\n", " ", *LETTERS])}
    tokenizer = Tokenizer(models.BPE(signs, [], unk_token=unknown))
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def bpe_that_drops() -> Tokenizer:
    return bpe(None)


def chat(question: str, answer: str, system: str | None = None) -> dict:
    told = [("system", system)] if system else []
    told += [("user", question), ("assistant", answer)]
    return {"messages": [{"role": role, "content": content} for role, content in told]}


ROWS = [
    chat("say a", "a"),
    chat(f"say {SNOWMAN}", "no"),
    chat("say it", f"a {SNOWMAN} b"),
    chat("and", "c", f"be {SNOWMAN}"),
    chat("more", "d"),
]


def make(folder: Path, tokenizer: Tokenizer, rows: list[dict], *, dataset: str = "") -> Built:
    folder.mkdir(exist_ok=True)
    tokenizer.add_special_tokens(CONTROL)
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    write_rows(folder / "rows.jsonl", rows)
    (folder / "unspelt.toml").write_text(RECIPE.format(dataset=dataset))
    manifest, fresh = build(asked(folder / "unspelt.toml"), Progress())
    return Built(folder / "out", manifest, fresh, Ran("local"))


def rejected(built: Built) -> dict[int, str]:
    table = pl.read_parquet(built.directory / "main" / "rejected.parquet")
    return dict(zip(table["line"].to_list(), table["reason"].to_list(), strict=True))


def checked(built: Built) -> tuple[bool, int, int]:
    report = prove(built.directory, kinds=Catalogue(), progress=Progress())
    told = dict(report.checked)
    return report.is_sound, told.get("examples_with_unknown_text", 0), told.get("answers_with_unknown_text", 0)


@pytest.mark.parametrize(
    ("tokenizer", "becomes"),
    [(word_piece, "[UNK]"), (unigram, "<unk>"), (bpe, "<unk>"), (bpe_that_drops, "nothing")],
)
def test_an_answer_that_the_vocabulary_cannot_spell_is_rejected_and_a_context_is_counted(
    tmp_path: Path, tokenizer, becomes: str
) -> None:
    built = make(tmp_path / "p", tokenizer(), ROWS)
    assert rejected(built) == {3: REASON + becomes}
    assert built.as_json()["unknown"] == {"examples": 3, "answers": 1}
    sound, examples, answers = checked(built)
    assert sound
    assert (examples, answers) == ((0, 0) if becomes == "nothing" else (2, 0))


@pytest.mark.parametrize("tokenizer", [word_piece, unigram, bpe])
def test_such_answers_are_trained_where_the_recipe_wants_it_and_still_counted(tmp_path: Path, tokenizer) -> None:
    built = make(tmp_path / "p", tokenizer(), ROWS, dataset='unknown = "train"')
    assert rejected(built) == {}
    counts = json.loads((built.directory / "manifest.json").read_text())["datasets"]["main"]
    assert counts["unknown"] == {"examples": 3, "answers": 1}
    assert checked(built) == (True, 3, 1)


def test_a_build_that_trains_it_against_its_recipe_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orca_recipes.run.tokens.tokenize._unspelt_answers", lambda rendered: [])
    built = make(tmp_path / "p", word_piece(), ROWS)
    report = prove(built.directory, kinds=Catalogue(), progress=Progress())
    assert [finding.sentence for finding in report.findings] == ["[UNK] is trained, which the recipe rejects"]


def test_text_that_spells_the_unknown_token_is_text_where_it_can_be_and_never_trained_as_it(tmp_path: Path) -> None:
    rows = [chat("say [UNK]", "[UNK]"), chat("say <unk>", "<unk>")]
    spelt = make(tmp_path / "word_piece", word_piece(), rows)
    assert rejected(spelt) == {}
    assert spelt.as_json()["unknown"] == {"examples": 0, "answers": 0}
    taken = make(tmp_path / "unigram", unigram(), rows)  # its model finds the piece "<unk>" itself
    assert rejected(taken) == {2: REASON + "<unk>"}


def test_a_vocabulary_that_spells_everything_counts_nothing(tmp_path: Path) -> None:
    built = make(tmp_path / "p", tokenizers.Tokenizer.from_file(str(QUICKSTART_TOKENIZER)), ROWS)
    assert rejected(built) == {}
    assert built.as_json()["unknown"] == built.as_json()["normalized"] == {"examples": 0, "answers": 0}


@pytest.mark.parametrize(
    ("normalizer", "changed"),
    [
        (normalizers.NFC(), {"examples": 2, "answers": 1}),
        (normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), {"examples": 3, "answers": 2}),
    ],
)
def test_text_that_a_normalizer_changes_is_counted_and_kept(tmp_path: Path, normalizer, changed: dict) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(QUICKSTART_TOKENIZER))
    tokenizer.normalizer = normalizer
    rows = [
        chat("cafe\N{COMBINING ACUTE ACCENT}", "plain"),
        chat("plain \N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}"),
        chat("plain", "Loud"),
        chat("plain too", "quiet"),
    ]
    built = make(tmp_path / "p", tokenizer, rows)
    assert rejected(built) == {}
    assert built.as_json()["normalized"] == changed
    assert built.as_json()["unknown"] == {"examples": 0, "answers": 0}
    assert checked(built)[0]


def test_the_count_is_of_each_answer_of_a_conversation(tmp_path: Path) -> None:
    turns = ["user", "assistant"] * 3
    texts = ["a", SNOWMAN, "b", f"c {SNOWMAN}", SNOWMAN, "d"]
    row = {"messages": [{"role": role, "content": text} for role, text in zip(turns, texts, strict=True)]}
    built = make(tmp_path / "p", bpe(), [row, chat("a", "b")])
    assert built.as_json()["unknown"] == {"examples": 1, "answers": 2}
    assert list(rejected(built)) == [1]


def test_the_end_of_a_build_says_so(tmp_path: Path) -> None:
    built = make(tmp_path / "p", bpe(), ROWS)
    assert "text that the vocabulary cannot spell: 3 examples, 1 answer" in closing_table(built.manifest)
