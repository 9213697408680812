"""Single exchanges of plain text are rendered by the columns to the very bytes that the template itself gives."""

import re
from pathlib import Path

import polars as pl
import pytest

from orca_recipes.run.renderers import student_renderer
from orca_recipes.run.renderers.plain_exchanges import PlainExchanges, plain_exchanges
from orca_recipes.run.tokens import tokenize
from orca_recipes.shards.show.show_lines import rejected_lines
from tests.contract.templates.test_turn_texts import CONTROL, QWEN3, R1, writer
from tests.run.renderers.test_student_renderer import TWO, make, proof, talk, thinking
from tests.run.small import promised

ODD = [
    "x < y",
    " spaces around ",
    "</think> tells",
    "grüß\n\nGott",
    "[INST]",
    "{{ x }}",
    "\u3000wide",
    "a  b",
    "🏳️‍🌈",
    "|",
]


def rows():
    for number in range(40):
        said = (f"user: Ask {number}: {ODD[number % 10]}", f"assistant: Say {ODD[number // 4]}{number}.")
        yield talk(*(["system: Be brief."] if number % 3 else []), *said)
    yield from (talk(*TWO), thinking(talk(*TWO)), talk("user: One?", "assistant: ends with space "))
    # Contents that stand within control tokens and headers, too.
    yield from (talk("user: a", "assistant: s ", "user: im", "assistant: user"), talk("user: a", "assistant: user"))


@pytest.mark.parametrize("template", [QWEN3, R1])
def test_both_ways_give_the_same_bytes(tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, counts, fit = {}, [], PlainExchanges.fit
    monkeypatch.setattr(
        PlainExchanges, "fit", lambda self, table: counts.append(fit(self, table).sum()) or fit(self, table)
    )
    for way, worth in (("columns", 1), ("turns", 1000)):
        monkeypatch.setattr(student_renderer, "WORTH", worth)
        tokenize._student.cache_clear()
        built = make(tmp_path / way, template, list(rows()))
        assert list(rejected_lines(built.directory)) == []
        assert proof(built).findings == ()
        records = pl.read_parquet(built.directory / "main" / "00000.records.parquet")
        found[way] = promised(built.directory), records.rows()
    assert found["columns"] == found["turns"]
    assert 15 < sum(counts) < 40


def test_words_that_change_what_a_template_prints_are_told_of() -> None:
    template = "{% for m in messages %}{% if '/no_think' in m.content %}Do not think.{% endif %}{% endfor %}" + QWEN3
    found = plain_exchanges(writer(template), template, CONTROL)
    assert found is not None
    assert [text for text in ("Be brief.", "Be brief. /NO_THINK", "/think") if re.search(found.telling, text)] == [
        "Be brief. /NO_THINK"
    ]


def test_white_space_around_contents_is_no_matter_where_the_template_prints_it_in_its_place() -> None:
    cutting = QWEN3.replace("{{ c + '", "{{ c.lstrip('\n') + '")
    found = {text: plain_exchanges(writer(text), text, CONTROL) for text in (QWEN3, cutting, R1)}
    told = {text: None if one is None else (one.raw, one.cut) for text, one in found.items()}
    assert told[QWEN3] == ({"system", "user"}, ("", ""))
    assert told[cutting] == ({"system", "user"}, ("\n", ""))
    assert told[R1] == ({"system", "user"}, ("\n", ""))
