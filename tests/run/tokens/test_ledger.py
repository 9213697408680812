"""The ledger of what was tokenized is read as it was written, and its sums are what a stage reports."""

from pathlib import Path

import numpy as np

from orca_recipes.run.renderers.student_renderer import PRINTED, TELLING, TURNED
from orca_recipes.run.tokens.ledger import CHECKED, NOWHERE, RENDERED, TAILED, Ledger, read_ledger, report_of


def ledger() -> Ledger:
    lines = Ledger.empty(4)
    lines.unit[:] = [0, NOWHERE, 1, 0]
    lines.first[:] = [3, 0, 0, 0]
    lines.examples[:] = [2, 0, 1, 3]
    lines.way[:] = [PRINTED | TAILED | RENDERED, 0, PRINTED | TELLING | RENDERED | CHECKED, TURNED | RENDERED]
    lines.tried[:] = [0, 0, 0, 3]
    lines.unknown[:] = [1, 0, 0, 1]
    lines.unknown_answers[:] = [2, 0, 0, 0]
    return lines


def test_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    ledger().write(tmp_path / "lines.arrow", {1: "too long"})
    found, reasons = read_ledger(tmp_path / "lines.arrow")
    assert reasons == {1: "too long"}
    for name, column in vars(ledger()).items():
        assert getattr(found, name).tolist() == column.tolist()


def test_a_unit_is_told_which_of_its_examples_count() -> None:
    assert ledger().examples_of(0).tolist() == [0, 1, 2, 3, 4]
    assert ledger().examples_of(1).tolist() == [0]


def test_what_a_stage_draws_and_nobody_looked_at_is_told() -> None:
    assert ledger().unchecked(np.ones(4, dtype=bool)).tolist() == [True, False, False, False]
    assert ledger().unchecked(np.zeros(4, dtype=bool)).tolist() == [False] * 4


def test_a_report_adds_up_lines() -> None:
    report = report_of(ledger(), ["a", "b"], np.array([True, True, False, False]))
    assert report == {
        "units": ["a", "b"],
        "prompts_checked": 2 + 3,
        "unknown": {"examples": 2, "answers": 2},
        "tails_trimmed": 1,
        "normalized": {"examples": 0, "answers": 0},
        "fast_rows": 2,
        "slow_rows": 1,
        "expansion": {"conversations": 0, "tokens": 0, "examples": 0, "example_tokens": 0},
    }
