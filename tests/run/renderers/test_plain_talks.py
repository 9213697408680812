"""Several exchanges of plain text are rendered by the columns to the very bytes that the template itself gives."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orca_recipes.run.renderers import student_renderer
from orca_recipes.run.renderers.plain_exchanges import plain_exchanges
from orca_recipes.run.renderers.plain_talks import PlainTalks, plain_talks
from orca_recipes.run.tokens import tokenize
from orca_recipes.shards.show.show_lines import rejected_lines
from tests.contract.templates.test_turn_texts import CHATML, CONTROL, QWEN3, R1, writer
from tests.run.renderers.test_plain_exchanges import ODD
from tests.run.renderers.test_student_renderer import TWO, make, proof, talk, thinking
from tests.run.small import promised

FINISH = 'history = "last"'


def rows() -> Iterator[dict[str, Any]]:
    for number in range(40):
        said = [f"user: Ask {number}: {ODD[number % 10]}", f"assistant: Say {ODD[number // 4]}{number}."]
        more = [
            part for turn in range(number % 4) for part in (f"user: Then {turn}?", f"assistant: {turn} {ODD[turn]}.")
        ]
        yield talk(*(["system: Be brief."] if number % 3 else []), *said, *more)
    some = talk("user: One?", "assistant: 1", "user: Two?", "assistant: 2", "user: Three?", "assistant: 3")
    some["messages"][3]["train"] = False
    tail = talk("user: One?", "assistant: 1", "user: Two?", "assistant: 2", "user: Three?")
    yield from (some, tail, thinking(talk(*TWO)), talk("user: a", "assistant: s ", "user: im", "assistant: user"))
    yield from (talk("user: a", "assistant: s", "user:  b ", "assistant: t "), talk("user: a", "assistant: user", *TWO))


@pytest.mark.parametrize(("template", "options"), [(QWEN3, ""), (R1, ""), (QWEN3, FINISH)])
def test_both_ways_give_the_same_bytes(
    tmp_path: Path, template: str, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, counts, fit = {}, [0], PlainTalks.fit
    monkeypatch.setattr(
        PlainTalks, "fit", lambda self, table: counts.append(fit(self, table).sum()) or fit(self, table)
    )
    alike, compare = [], student_renderer._are_alike
    monkeypatch.setattr(student_renderer, "_are_alike", lambda *both: alike.append(compare(*both)) or alike[-1])
    monkeypatch.setattr(tokenize, "CHECKED_ONE_IN", 2)
    for way, worth in (("columns", 1), ("turns", 1000)):
        monkeypatch.setattr(student_renderer, "WORTH", worth)
        tokenize._student.cache_clear()
        built = make(tmp_path / way, template, list(rows()), options)
        assert list(rejected_lines(built.directory)) == []
        assert proof(built).findings == ()
        records = pl.read_parquet(built.directory / "main" / "00000.records.parquet")
        found[way] = promised(built.directory), records.rows()
    assert found["columns"] == found["turns"]
    assert sum(counts) > 10
    assert set(alike) == {True}


def test_a_template_whose_answers_stand_in_one_example_has_no_other_way() -> None:
    exchanges = plain_exchanges(writer(CHATML), CHATML, CONTROL)
    assert exchanges is not None
    assert plain_talks(exchanges, writer(CHATML), CHATML) is None


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("'dull' in m.content", "How DULL."),
        ("m.content.startswith('dull')", "dull, I say"),
        ("m.content.endswith('dull')", "how dull"),
    ],
)
def test_words_that_change_what_is_printed_of_earlier_answers_are_told_of(condition: str, said: str) -> None:
    looks = f"{{% if {condition} and not loop.last %}}Dull. {{% endif %}}"
    template = QWEN3.replace("{% for m in messages %}", f"{{% for m in messages %}}{looks}")
    exchanges = plain_exchanges(writer(template), template, CONTROL)
    assert exchanges is not None
    found = plain_talks(exchanges, writer(template), template)
    assert found is not None
    # RE2, unlike Python, ends a text by z in lower case.
    pattern = found.telling.replace(r"\z", r"\Z")
    assert re.search(pattern, said)
    assert re.search(pattern, " user ")
    assert not re.search(pattern, "users of systems")
    assert not re.search(pattern, "How nice.")
