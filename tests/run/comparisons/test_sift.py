"""Of compared conversations those go on that no comparison rejected."""

from pathlib import Path

import pytest

from tests.run.comparisons.test_compare import CLEAN, ITEMS, NEAR, built, changed, sentence


@pytest.mark.parametrize("filters", [f"{NEAR}, {CLEAN}", CLEAN])
def test_what_an_earlier_filter_rejects_takes_no_part_and_does_not_come_back(tmp_path: Path, filters: str):
    """Conversations lie as they were made, with the rows that passed beside them."""
    texts = [sentence(n) for n in range(5)]
    long = changed(texts[0], 7) + " word" * 200
    rows = [*((text, "a") for text in texts), (long, "a"), (changed(texts[1], 7), "a"), (ITEMS[3][0], "a")]
    found = built(tmp_path, f'{{ kind = "length", max_chars = 600 }}, {filters}', rows)
    lost = {place: line["reason"] for (_, place), line in found.lost().items()}
    assert "too long" in lost.pop(6)
    assert lost.pop(8) == "an item of exam stands in it"
    assert len(lost) == (NEAR in filters)
    assert set(lost) <= {2, 7}
    assert {place for _, place in found.kept()} == {1, 2, 3, 4, 5, 7} - set(lost)


def test_a_report_keeps_what_it_tells_of(tmp_path: Path):
    texts = [sentence(n) for n in range(4)]
    told = '{ kind = "near_duplicates", action = "report" }'
    found = built(tmp_path, told, [(text, "a") for text in texts], [(changed(texts[2], 20), "b")])
    assert not found.lost()
    assert len(found.kept()) == 5
    assert (
        'nearly the same question stands in the dataset: 1 conversation kept, because action = "report"' in found.said
    )
    assert "one.jsonl:3 is like two/two.jsonl:1" in found.said or "two.jsonl:1 is like one/one.jsonl:3" in found.said
