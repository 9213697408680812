"""Rows are shown as a person would want to look at them, and no text of a data set steers the terminal."""

import dataclasses
import io
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from tokenizers import Tokenizer, decoders, models

from orca_recipes.errors import DamagedShard, UserError
from orca_recipes.shards.show.show import show
from orca_recipes.shards.show.spans import SpanDecoder
from orca_recipes.shards.show.visible import visible


def shown(build, **options) -> str:
    out = io.StringIO()
    show(build, out=out, **options)
    return out.getvalue()


def coloured(build, **options) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=60, _environ={})
    show(build, out=console, **options)
    return console.file.getvalue()


def test_a_row_is_shown_with_roles_trained_marks_and_where_each_example_came_from(build, build_rows):
    first, second = build_rows["main/00000"][0]
    assert shown(build, row=0) == (
        "row 0 (main/00000 row 0): 2 examples, 38 of 96 tokens, 10 trained\n"
        "\n"
        f"example {first.id}: cot/aqua; train.tsv:1; strategy direct, teacher reference; 15 tokens, 2 trained\n"
        "  system            │ <s>Be kind.\n"
        "  user              │ 2+2?\n"
        "  assistant trained ┃ 4</s>\n"
        "\n"
        f"example {second.id}: cot/aqua; train.tsv:1; strategy direct, teacher reference; 23 tokens, 8 trained\n"
        "  user              │ <s>Two↵\n"
        "                    │ lines?\n"
        "  assistant trained ┃ one</s>\n"
        "  user              │ more\n"
        "  assistant trained ┃ two</s>\n"
        "\n"
    )


def test_without_a_choice_the_first_row_of_each_dataset_is_shown(build):
    headings = [line for line in shown(build).splitlines() if line.startswith("row ")]
    assert headings == [
        "row 0 (main/00000 row 0): 2 examples, 38 of 96 tokens, 10 trained",
        "row 3 (side/00000 row 0): 1 example, 12 of 96 tokens, 10 trained",
    ]


def test_rows_are_counted_through_the_whole_build(build):
    assert shown(build, row=4).startswith("row 4 (side/00000 row 1): ")
    with pytest.raises(UserError, match="has 5 rows, counted from 0, and no row 5"):
        shown(build, row=5)
    with pytest.raises(UserError, match="no row -1"):
        shown(build, row=-1)


def test_an_example_is_shown_by_its_id_or_how_it_begins(build, build_rows):
    wanted = build_rows["side/00000"][1][0]
    told = shown(build, example=wanted.id)
    assert f"example {wanted.id}: row 4 (side/00000 row 1), gym/chain; train.tsv:8; " in told
    assert told.count("example ") == 1
    assert shown(build, example=wanted.id[:6].upper()) == told


def test_an_id_that_is_unknown_or_shared_is_a_mistake(build):
    with pytest.raises(UserError, match="holds no example zz"):
        shown(build, example="zz")
    with pytest.raises(UserError, match="more than one example"):
        shown(build, example="")


def test_a_task_is_shown_by_its_examples(build):
    told = shown(build, task="aqua")
    assert told.startswith("task aqua: 2 examples, 2 of them here\n")
    assert told.count("cot/aqua") == 2
    assert told.splitlines()[1:] == shown(build, task="cot/aqua").splitlines()[1:]


def test_many_examples_of_a_task_are_counted_and_a_few_shown(build, reseal, write_shard, build_rows, tokenizer):
    example = build_rows["side/00000"][1][0]
    rows = [[dataclasses.replace(example, name=f"n{number}")] for number in range(9)]
    write_shard(build, "side/00000", rows, tokenizer)
    reseal(build)
    told = shown(build, task="chain")
    assert told.startswith("task chain: 9 examples, 5 of them here\n")
    assert told.count("gym/chain") == 5


def test_a_misspelt_task_is_answered_with_the_right_one(build):
    with pytest.raises(UserError, match='no task "aqau"; did you mean "aqua"'):
        shown(build, task="aqau")


def test_flags_are_shown_in_words(build):
    assert "18 tokens" not in shown(build, row=1)
    assert "16 tokens, 10 trained, truncated by packing" in shown(build, row=1)
    assert "12 tokens, 10 trained, cut by the teacher" in shown(build, row=3)


def test_raw_shows_ids_and_modes_and_needs_no_tokenizer(build):
    (build / "tokenizer/tokenizer.json").unlink()
    assert shown(build, row=4, raw=True).splitlines()[3:6] == [
        "  user              │ mode 10 starts, 2 tokens from 0: 256 88",
        "  tool              │ mode 16, 2 tokens from 2: 90 92",
        "  assistant trained ┃ mode 13, 1 token from 4: 257",
    ]


def test_escapes_and_markup_of_a_data_set_are_shown_and_never_act(build):
    plain, colour = shown(build, row=2), coloured(build, row=2)
    assert "␛[31mred[bold]" in plain
    assert "\x1b" not in plain
    assert "␛[31mred[bold]" in re.sub("\x1b\\[[0-9;]*m", "", colour)
    assert "\x1b[31mred" not in colour


def test_a_terminal_gets_colour_by_role_and_bold_where_trained(build):
    told = coloured(build, row=0)
    assert "\x1b[1;32m4</s>" in told
    assert "\x1b[2;36m2+2?" in told


def test_a_generated_example_says_so(build):
    assert "cot/esnli; generated; strategy direct" in shown(build, row=2)


def test_a_stream_that_knows_only_ascii_is_served(build):
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    show(build, out=out, row=2)
    out.flush()
    assert b"mixed             \\u2502 <s>\\xe9\n" in raw.getvalue()


def test_a_tokenizer_that_is_damaged_is_named(build):
    (build / "tokenizer/tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DamagedShard, match=r"tokenizer\.json: it cannot be loaded as a tokenizer"):
        shown(build, row=0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 漢 👩‍👩‍👧", "plain é 漢 👩‍👩‍👧"),
        ("a\x00b\x1b[0m\x7f", "a␀b␛[0m␡"),
        ("\r\n\t", "␍␊␉"),
        ("\x9b31m", "⟨U+009B⟩31m"),
        ("\u202eabc\u2066", "⟨U+202E⟩abc⟨U+2066⟩"),
        ("\u2028\u2029", "⟨U+2028⟩⟨U+2029⟩"),
        ("\ud800", "⟨U+D800⟩"),
    ],
)
def test_what_could_steer_a_terminal_is_shown_by_a_sign(text, expected):
    assert visible(text) == expected


@given(st.text())
def test_nothing_that_steers_is_left(text):
    signs = visible(text)
    assert visible(signs) == signs
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]", signs)


def byte_level(tmp_path, tokenizer) -> SpanDecoder:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return SpanDecoder(tmp_path / "tokenizer.json")


def test_a_character_cut_by_a_bound_is_shown_once(tmp_path, tokenizer):
    ids = tokenizer.encode("aéb").ids
    assert byte_level(tmp_path, tokenizer).texts(ids, [0, 2, 3, 4]) == ["a", "é", "b"]


def test_bytes_that_are_no_character_are_shown_as_such(tmp_path, tokenizer):
    ids = tokenizer.encode("aé").ids
    assert byte_level(tmp_path, tokenizer).texts(ids[:2], [0, 1, 2]) == ["a", "�"]


def test_an_id_that_no_token_has_is_shown_as_such(tmp_path, tokenizer):
    assert byte_level(tmp_path, tokenizer).texts([7000, *tokenizer.encode("a").ids], [0, 1, 2])[0] == "⟨no token 7000⟩"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(text=st.text(min_size=1, max_size=20), data=st.data())
def test_spans_joined_are_the_whole_text(tmp_path, tokenizer, text, data):
    ids = tokenizer.encode(text).ids
    cuts = data.draw(st.sets(st.integers(1, max(1, len(ids) - 1)), max_size=4))
    bounds = [0, *sorted(cuts - {len(ids)}), len(ids)]
    assert "".join(byte_level(tmp_path, tokenizer).texts(ids, bounds)) == text


def test_leading_spaces_of_sentencepiece_spans_are_kept(shared):
    path = shared / "data" / "tokenizer" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    head, answer, tail = (
        tokenizer.encode(text, add_special_tokens=False).ids for text in ("Say it", " 🙂 two  spaces", "end")
    )
    ids = [1, *head, *answer, 2, *tail]
    bounds = [0, 1 + len(head), 1 + len(head) + len(answer), len(ids)]
    texts = SpanDecoder(path).texts(ids, bounds)
    assert texts == ["<s> Say it", "  🙂 two  spaces", "</s> end"]


def test_an_unusual_decoder_still_loses_nothing(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"one": 0, "two": 1, "[U]": 2}, unk_token="[U]"))
    tokenizer.decoder = decoders.WordPiece()
    decoder = byte_level(tmp_path, tokenizer)
    assert "".join(decoder.texts([0, 1, 0], [0, 1, 2, 3])).split() == ["one", "two", "one"]
