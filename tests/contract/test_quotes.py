"""What counts as quoting a text."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.contract.quotes import RUN_WORDS, quoted_runs, quoting, runs_of

LONG = "You are a teacher. First say in simple steps what the task wants, then show how to reach it."


def quotes(text: str, source: str, **options: int) -> bool:
    return bool(quoting(pl.Series([text]), pl.Series([source]), **options)[0])


def test_eight_words_in_a_row_are_a_quotation_and_seven_are_none():
    words = LONG.split()
    assert quotes(f"So: {' '.join(words[3:11])}, and more", LONG)
    assert not quotes(f"So: {' '.join(words[3:10])} and more", LONG)


def test_case_line_breaks_and_marks_at_the_ends_hide_no_quotation():
    assert quotes('"FIRST say in\nsimple  steps\twhat the task"', LONG)


def test_a_short_text_is_quoted_as_a_whole():
    assert quotes("I was told: think it over carefully, so I do", "Think it over carefully.")
    assert not quotes("I think it over", "Think it over carefully.")


def test_a_turn_of_phrase_is_no_quotation_unless_every_word_counts():
    assert not quotes("Be brief, they say", "Be brief.")
    assert quotes("Be brief, they say", "Be brief.", fewest_words=1)


def test_nothing_quotes_nothing():
    texts, sources = (pl.Series([None, "a", None], dtype=pl.String), pl.Series([None, None, LONG], dtype=pl.String))
    assert quoting(texts, sources).to_list() == [False] * 3
    assert runs_of("") == ()


@given(words=st.lists(st.sampled_from(["one", "Two", "three,", "FOUR", "5"]), min_size=1, max_size=20), cut=st.data())
def test_the_fast_search_finds_what_the_slow_one_finds(words: list[str], cut: st.DataObject):
    source = " ".join(words)
    start = cut.draw(st.integers(0, len(words)))
    text = "x " + " ".join(words[start : start + cut.draw(st.integers(0, RUN_WORDS + 2))]) + " y"
    assert quotes(text, source) == bool(quoted_runs(text, source))
