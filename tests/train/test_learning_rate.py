"""The learning rate of every step."""

import pytest

from orca_recipes.errors import UserError
from orca_recipes.train.learning_rate import Rates, Schedule


def test_a_warm_up_rises_to_the_peak_and_a_cosine_falls_to_the_end():
    rates = [Schedule(1.0, "cosine", warmup_steps=4, final_learning_rate=0.1).rate(step, 13) for step in range(13)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[8] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_a_line_falls_evenly_and_a_constant_stays():
    assert [Schedule(1.0, "linear").rate(step, 5) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert [Schedule(0.3, "constant", warmup_steps=1).rate(step, 3) for step in range(3)] == [0.3, 0.3, 0.3]


def test_each_phase_begins_its_own_schedule():
    rates = Rates([(Schedule(1.0, "linear"), 3), (Schedule(0.2, "linear"), 2)])
    assert [rates.at(step) for step in range(5)] == [1.0, 0.5, 0.0, 0.2, 0.0]


def test_a_phase_can_carry_on_the_schedule_of_the_one_before():
    rates = Rates([(Schedule(1.0, "linear"), 3), (Schedule(0.2, carried_on=True), 2)])
    assert [rates.at(step) for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_a_warm_up_longer_than_the_run_is_the_whole_run():
    assert [Schedule(1.0, warmup_steps=100).rate(step, 2) for step in range(2)] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"curve": "sine"}, "choose cosine, linear, constant"),
        ({"final_learning_rate": 2.0}, "not above the first"),
        ({"warmup_steps": -1}, "0 or more"),
        ({"learning_rate": float("nan")}, "numbers"),
    ],
)
def test_a_schedule_that_cannot_be_meant_is_refused(options: dict[str, object], said: str):
    with pytest.raises(UserError, match=said):
        Schedule(**{"learning_rate": 1.0, **options})  # type: ignore[arg-type]
