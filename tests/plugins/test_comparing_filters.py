"""What two filters that compare take for alike, against sets of Python and against each word."""

import random
import re
import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_plugins.filters._words import _MAY_CHANGE, Manner, Words, jaccard, normal, words, words_of
from orca_plugins.filters.decontaminate import Decontaminate
from orca_plugins.filters.near_duplicates import NearDuplicates
from tests.bench.planted import pairs

LETTERS = st.text(alphabet="ab É1ß'.\t\n\u00a0\u3000_\x1cÅ-", max_size=40)
NOTHING = np.empty(0, dtype=np.uint64)


def texts(*questions: str, answers: tuple[str, ...] = ()) -> pl.DataFrame:
    told = answers or ("",) * len(questions)
    return pl.DataFrame({"question": questions, "answer": told}, schema={"question": pl.String, "answer": pl.String})


def plain_jaccard(one: str, other: str, ngram: int) -> float:
    sets = []
    for text in (one, other):
        found = text.lower().split()
        sets.append({tuple(found[at : at + ngram]) for at in range(max(len(found) - ngram, 0) + 1)} if found else set())
    return len(sets[0] & sets[1]) / max(len(sets[0] | sets[1]), 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(LETTERS, min_size=2, max_size=6), st.integers(1, 5))
def test_jaccard_is_that_of_plain_sets(found: list[str], ngram: int):
    runs = words(normal(pl.Series(found), "spaced"), "spaced").runs(ngram)
    one, other = np.indices((len(found), len(found))).reshape(2, -1)
    expected = [plain_jaccard(found[a], found[b], ngram) for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    assert jaccard(runs, one, other).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("manner", ["spaced", "plain"])
@settings(max_examples=60, deadline=None)
@given(found=st.lists(LETTERS, min_size=1, max_size=6))
def test_numbers_of_words_are_equal_where_the_words_are(manner: Manner, found: list[str]):
    plain = normal(pl.Series(found), manner)
    numbered = words(plain, manner)
    spelt = [word for text in plain for word in words_of(text, manner)]
    assert len(numbered.numbers) == len(spelt)
    known = dict(zip(spelt, numbered.numbers.tolist(), strict=True))
    assert [known[word] for word in spelt] == numbered.numbers.tolist()
    assert len(set(known.values())) == len(known)


def test_words_of_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch):
    found = pl.Series([f"word{n} and é{n} more " * (n % 5) for n in range(50)])
    whole = words(normal(found, "plain"), "plain")
    monkeypatch.setattr("orca_plugins.filters._words._BLOCK_BYTES", 64)
    cut = words(normal(found, "plain"), "plain")
    assert cut.numbers.tolist() == whole.numbers.tolist()
    assert cut.starts.tolist() == whole.starts.tolist()


def test_a_part_without_words_meets_nobody():
    pytest.importorskip("rensa", reason="needs orca-recipes[near]")
    kind = NearDuplicates(kind="near_duplicates")
    assert not len(kind.sketch(texts=texts()).keys)
    assert not len(kind.sketch(texts=texts("", " \n")).keys)


def test_texts_that_are_alike_share_a_key_of_their_sketches():
    pytest.importorskip("rensa", reason="needs orca-recipes[near]")
    made = pairs(
        [f"{' '.join(f'w{n * 7 % 97}' for n in range(k, k + 40))}. So?" for k in range(0, 9_000, 11)], random.Random(1)
    )
    kind = NearDuplicates(kind="near_duplicates")
    sides = [kind.sketch(texts=texts(*(pair[side] for pair in made))) for side in ("a", "b")]
    keys = [{(row, key) for row, key in zip(side.rows.tolist(), side.keys.tolist(), strict=True)} for side in sides]
    meet = {row for row, _ in keys[0] & keys[1]}
    alike = {row for row, pair in enumerate(made) if plain_jaccard(pair["a"], pair["b"], 5) >= 0.7}
    assert len(alike) > 200
    assert len(alike - meet) <= len(alike) // 100


def test_both_looks_at_question_and_answer_as_one_text():
    kind = NearDuplicates(kind="near_duplicates", of="both", ngram=1, threshold=0.6)
    likeness = kind.likeness(mine=texts("a b", answers=("c d",)), theirs=texts("a b", answers=("c e",)), shared=NOTHING)
    assert likeness.to_list() == [pytest.approx(0.6)]


ITEM = "Two trains leave the station at noon and travel north for three hours until they meet a third one again"


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        (ITEM, True),
        (f"Please: «{ITEM.upper()}»!", True),
        (re.sub(" ", " - ", ITEM), True),
        (ITEM.replace("travel", "drive"), True),
        (" ".join(ITEM.split()[:14]), True),
        (" ".join(ITEM.split()[:9]) + " and then nothing at all was heard of them", False),
        ("Two trains leave the station", False),
        ("", False),
    ],
)
def test_of_a_long_item_half_of_its_words_tell(text: str, is_found: bool):
    kind = Decontaminate(kind="decontaminate", against=("exam",))
    for mine in (texts(text), texts("?", answers=(text,))):
        found = kind.likeness(mine=mine, theirs=texts(ITEM), shared=NOTHING)
        assert found.is_not_null().to_list() == [is_found]


@pytest.mark.parametrize("place", range(13))
def test_one_changed_word_of_thirteen_hides_no_item(place: int):
    item = ITEM.split()[:13]
    changed = " ".join([*item[:place], "instead", *item[place + 1 :]])
    kind = Decontaminate(kind="decontaminate", against=("exam",))
    mine, theirs = kind.sketch(texts=texts(changed)), kind.sketch_others(texts=texts(" ".join(item)))
    assert np.isin(mine.keys, theirs.keys).any()
    assert kind.likeness(mine=texts(changed), theirs=texts(" ".join(item)), shared=NOTHING).is_not_null().all()


def test_a_form_that_many_items_have_tells_of_none():
    head = "Choose the sentence that follows from what is told here and say nothing else:"
    kind = Decontaminate(kind="decontaminate", against=("exam",))
    item = f"{head} all cats of the village are asleep while the dogs run about and bark at each other"
    other = f"{head} no bird can fly"
    forms = np.sort(words(pl.Series([head]), "plain").headed(7, 3).numbers)
    assert kind.likeness(mine=texts(other), theirs=texts(item), shared=forms).to_list() == [None]
    assert kind.likeness(mine=texts(item), theirs=texts(item), shared=forms).to_list() == [pytest.approx(1.0)]


def test_items_of_symbols_must_have_the_same_symbols():
    kind = Decontaminate(kind="decontaminate", against=("exam",))
    item = texts("not ( True ) and ( True ) is")
    mine = texts("not ( True ) and ( True ) is", "not True, and True is", "( not True ) and ( True is )")
    found = kind.likeness(mine=mine, theirs=pl.concat([item] * 3), shared=NOTHING)
    assert found.is_not_null().to_list() == [True, False, False]


def test_sums_of_numbers_stand_everywhere_and_tell_of_nothing():
    kind = Decontaminate(kind="decontaminate", against=("exam",))
    sums = "She has 20 - 15 = 5 left. 20 + 15 = 35, 5 + 5 = 10, and 10 + 35 = 45"
    item = texts("What is left?", answers=(sums,))
    mine = texts("So?", answers=("He spends 20 - 15 = 5. 20 + 15 = 35, 5 + 5 = 10 in all, which is much",))
    assert kind.likeness(mine=mine, theirs=item, shared=NOTHING).to_list() == [None]


def test_runs_of_a_text_that_is_short_are_one():
    assert isinstance(found := words(pl.Series(["a b", "", "a b c d"]), "spaced").runs(3), Words)
    assert np.diff(found.starts).tolist() == [1, 0, 2]


def test_letters_that_are_not_normalized_are_normal():
    letters = pl.Series([chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000])
    stable = letters.filter(~letters.str.contains(_MAY_CHANGE)).to_list()
    assert "é" in stable
    assert "”" in stable
    assert all(unicodedata.is_normalized("NFKC", letter) for letter in stable)
    # None joins the letter before it either, as an accent does.
    spelt = [unicodedata.decomposition(letter).split() for letter in letters]
    joining = {chr(int(parts[1], 16)) for parts in spelt if len(parts) == 2 and not parts[0].startswith("<")}
    assert not joining & set(stable)
    assert not any(unicodedata.combining(letter) for letter in stable)
