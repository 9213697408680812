"""A key in every spelling is taken out of what servers say; what is no key stays byte for byte."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_plugins.teachers.openai.masking import MASKED, Mask
from tests.servers.echoes import spellings

KEY = "sk-planted+7Rk9/2wQz=hV5tbX0mGcYp3N"
SPELLINGS = spellings(KEY)


def rows(text: str) -> set[str]:
    """All twelve letters and digits in a row, whatever stands between them."""
    only = "".join(letter for letter in text.lower() if letter.isascii() and letter.isalnum())
    return {only[at : at + 12] for at in range(len(only) - 11)}


@pytest.mark.parametrize("spelt", SPELLINGS.values(), ids=SPELLINGS)
def test_a_spelling_is_masked_in_texts_names_and_bodies(spelt: str):
    mask = Mask(KEY)
    said = json.dumps({"error": {"message": f"bad key {spelt}, see", f"name {spelt}": [1, spelt]}}).encode()
    for found in (mask.body(said).decode(), mask.body(f"<p>{spelt}</p>".encode()).decode(), mask.text(spelt)):
        assert MASKED in found
        assert not rows(KEY) & rows(found)
        assert len(rows(spelt) & rows(found)) < 12


def test_a_body_that_escapes_its_letters_is_parsed_first():
    said = ('{"text": "' + "".join(f"\\u{ord(letter):04X}" for letter in KEY) + ' done"}').encode()
    assert json.loads(Mask(KEY).body(said)) == {"text": f"{MASKED} done"}


def test_what_holds_no_key_stays_byte_for_byte():
    said = b'{ "choices":[ {"message" : {"content": "sk-planted+ is no key\\u00e9 1e400"}} ]}\n'
    assert Mask(KEY).body(said) is said
    assert Mask(None).body(said) is said
    assert Mask(KEY).body(b"\xff\xfe no json") == b"\xff\xfe no json"


def test_a_short_key_is_a_word_in_answers_and_masked_in_errors():
    mask = Mask("none")
    assert mask.body(b'{"text": "none at all"}') == b'{"text": "none at all"}'
    assert mask.body(b'{"text": "none at all"}', answer=False) == b'{"text": "*** at all"}'


@given(before=st.text(max_size=30), after=st.text(max_size=30), begin=st.integers(0, 25), length=st.integers(12, 37))
def test_any_twelve_characters_in_a_row_are_masked(before: str, after: str, begin: int, length: int):
    part = KEY[begin : begin + length]
    masked = Mask(KEY).text(before + part + after)
    assert (len(part) < 12) or not rows(part) & rows(masked)


@pytest.mark.parametrize("length", [1, 5, 11])
def test_a_key_in_pieces_of_one_answer_is_found_when_they_are_joined(length: int):
    pieces = [{"type": "text", "text": KEY[at : at + length]} for at in range(0, len(KEY), length)]
    content = json.loads(Mask(KEY).body(json.dumps({"content": [*pieces, {"type": "text", "text": " end"}]}).encode()))
    assert "".join(piece["text"] for piece in content["content"]) == f"{MASKED} end"
    texts = json.loads(Mask(KEY).body(json.dumps(["a ", *(piece["text"] for piece in pieces), 1, None]).encode()))
    assert "".join(map(str, texts)) == f"a {MASKED}1None"


def test_a_name_that_stands_twice_hides_no_key():
    assert KEY.encode() not in Mask(KEY).body(f'{{"a": "{KEY}", "a": "x"}}'.encode())


def test_a_key_of_digits_is_found_in_a_number():
    mask = Mask("12345678901234567890")
    assert mask.body(b'{"a": [12345678901234567890, 123456789]}') == b'{"a": ["***", 123456789]}'


def test_a_key_of_words_is_masked_as_it_is_alone():
    mask, said = Mask("sk-no-key-required"), "There is no key required, and none is sk-no, key required."
    assert mask.text(said) == said
    assert mask.text("sent SK-NO-KEY-REQUIRED, and drawkcab deriuqer-yek-on-ks") == "sent ***, and drawkcab ***"


def test_words_that_share_letters_with_a_key_are_left_alone():
    said = "\\u0073\\u006b-planted and 73 6b 2d 70, &#115;&#107; sk-planted+7Rk, c2stcGxhbnR = sk-plant"
    assert Mask(KEY).text(said) == said.replace("sk-planted+7Rk", MASKED)


@pytest.mark.parametrize(
    "spelt",
    [
        f"{KEY[:3]}\\u{ord(KEY[3]):04x}{KEY[4:]}",
        f"{KEY[:5]}%{ord(KEY[5]):02x}{KEY[6:9]}%25{ord(KEY[9]):02x}{KEY[10:]}",
        f"{KEY[:5]}&#{ord(KEY[5])};{KEY[6:]}",
        json.dumps(json.dumps({"key": "\n".join([KEY[:6], KEY[6:11], KEY[11:]])})),
        json.dumps(json.dumps({"key": "\u200b".join(KEY)})),
    ],
)
def test_a_key_is_found_where_some_of_its_letters_are_escaped(spelt: str):
    found = Mask(KEY).text(f"It was {spelt}.")
    assert found.startswith("It was ")
    assert found.endswith(".")
    assert MASKED in found
    assert not rows(KEY) & rows(found)
