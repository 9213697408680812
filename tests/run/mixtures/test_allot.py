"""What is decided for all collections of a mixture at once: parts, hold-outs, and shares of what is left."""

import pytest

from orca_recipes.errors import Shortfall
from tests.run.mixtures.drawn import Draw


def test_collections_without_an_amount_share_what_is_left_by_the_rates_of_their_tasks(draw: Draw):
    takes = "rows = 200\ntake.talks = { share = 0.1 }\n"
    takes += 'take.apples = { draw = "proportional", cap = 50 }\ntake.pears = { draw = "proportional", cap = 50 }\n'
    assert draw(f"[mixtures.m]\n{takes}").out("m") == {"apples": 120, "pears": 60, "talks": 20}


def test_a_part_is_a_random_part_and_a_smaller_one_is_its_beginning(draw: Draw):
    takes = "take.apples = { rows = 30 }\ntake.pears = { all = true }\n"
    tables = f"[mixtures.m]\n{takes}"
    for name, rows in (("p", 100), ("q", 40)):
        tables += f'[mixtures.{name}]\nfrom = "m"\nrows = {rows}\n[datasets.{name}]\nmixture = "{name}"\n'
    drawn = draw(tables)
    assert (sum(drawn.out("p").values()), sum(drawn.out("q").values())) == (100, 40)
    for collection in ("apples", "pears"):
        whole, part, less = (drawn.questions(name, collection) for name in ("m", "p", "q"))
        assert less <= part <= whole
    # 30 of 510. In the order of the draw, where apples end at a tenth of all keys, all of them would come first.
    assert drawn.out("p")["apples"] < 16


def test_a_hold_out_has_exactly_its_rows_and_no_question_of_the_rest(draw: Draw):
    tables = "[mixtures.m]\nholdout = 60\nduplicates = 'keep'\ntake.apples = { per_task = 20 }\n"
    tables += 'take.pears = { rows = 90, draw = "uniform_tasks" }\ntake.talks = { all = true }\n'
    tables += "[mixtures.v]\nholdout_of = 'm'\n[datasets.v]\nmixture = 'v'\n"
    drawn = draw(tables)
    assert sum(drawn.out("v").values()) == 60
    assert (drawn.out("m")["apples"], drawn.out("m")["pears"]) == (80, 90)
    held = {question for name in ("apples", "pears", "talks") for question in drawn.questions("v", name)}
    rest = {question for name in ("apples", "pears", "talks") for question in drawn.questions("m", name)}
    assert not held & rest
    assert set(drawn.by_task("v", "apples").values()) <= {4, 5}


def test_a_hold_out_beside_shares_of_tokens_is_spread_by_rows(draw: Draw):
    tables = "[mixtures.m]\nholdout = 40\ntokens = 1_000\nduplicates = 'keep'\ntake.apples = { share = 1 }\n"
    tables += "take.pears = { rows = 100 }\n[mixtures.v]\nholdout_of = 'm'\n[datasets.v]\nmixture = 'v'\n"
    drawn = draw(tables)
    rows, held = drawn.out("m"), drawn.out("v")
    assert sum(held.values()) == 40
    assert abs(held["pears"] - 40 * rows["pears"] / sum(rows.values())) < 2


@pytest.mark.parametrize(
    ("takes", "words"),
    [
        (
            "rows = 1\ntake.apples = { draw = 'proportional' }",
            "90 of 90 rows .* has 75 in the tasks that are taken",
        ),
        ("take.pears = { rows = 9, allow_shortfall = true }\nexclude = ['all']", "there are none to take"),
    ],
)
def test_a_hold_out_that_is_not_there_is_a_shortfall(draw: Draw, takes: str, words: str):
    tables = f"[mixtures.m]\nholdout = 90\n{takes}\n[mixtures.all.take.pears]\nall = true\n"
    with pytest.raises(Shortfall, match=words):
        draw(f"{tables}[mixtures.v]\nholdout_of = 'm'\n[datasets.v]\nmixture = 'v'\n")


def test_a_part_that_is_larger_than_the_whole_is_a_shortfall(draw: Draw):
    tables = "[mixtures.m]\nfrom = 'w'\nrows = 11\n[mixtures.w]\ntake.pears = { rows = 10 }\n"
    with pytest.raises(Shortfall, match=r"mixtures.m: 11 rows are asked for, and the mixture .* has 10 to give"):
        draw(tables)
