"""A key in every spelling is taken out of what servers say; what is no key stays byte for byte."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_plugins.teachers.openai.masking import MASKED, Mask

KEY = "sk-planted+0123/4567=abcdefghijKLMNOP"
SPELLINGS = {
    "as it is": KEY,
    "backwards": KEY[::-1],
    "shortened": f"{KEY[:14]}...{KEY[-4:]}",
    "the middle": KEY[9:22],
    "in an address": quote(KEY, safe=""),
    "each letter in an address": "".join(f"%{ord(letter):02x}".upper() for letter in KEY),
    "hexadecimal": KEY.encode().hex(),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of a header": base64.b64encode(f"Bearer {KEY}\n".encode()).decode(),
    "base64 of a longer header": base64.b64encode(f"Bearer: {KEY}\n".encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(f"user:{KEY}".encode()).decode(),
    "escaped": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
    "escaped twice": json.dumps(json.dumps(KEY))[3:-3],
}


def rows(text: str) -> set[str]:
    return {text[at : at + 12] for at in range(len(text) - 11)}


@pytest.mark.parametrize("spelt", SPELLINGS.values(), ids=SPELLINGS)
def test_a_spelling_is_masked_in_texts_names_and_bodies(spelt: str):
    mask = Mask(KEY)
    said = json.dumps({"error": {"message": f"bad key {spelt}, see", f"name {spelt}": [1, spelt]}}).encode()
    for found in (mask.body(said).decode(), mask.body(f"<p>{spelt}</p>".encode()).decode(), mask.text(spelt)):
        assert MASKED in found
        assert not rows(spelt) & rows(found)


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
