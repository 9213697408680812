"""What settings of a trainer other than those told would do is counted, as told by the format's own reader."""

from pathlib import Path

import pytest

from orca_plugins.exporters.bridge import Bridge
from orca_plugins.exporters.hf import HF
from orca_recipes.export.export import Exported
from tests.export.conftest import quickstart
from tests.export.oracle import examples_of, labels_in, rows_of
from tests.export.test_export import exported

__all__ = ["quickstart"]


def counts(told: Exported) -> dict[tuple[str, str], int]:
    return {(str(one["setting"]), str(one["effect"])): int(one["count"]) for one in told.wrong_settings}


def test_trl_settings_that_lose_labels_or_join_examples_are_counted(quickstart: Path, tmp_path: Path):
    rows = list(rows_of(quickstart))
    examples = [example for row in rows for example in row]
    joined = len(examples) - len(rows)
    tokens = sum(len(ids) for ids, _ in examples)
    found = counts(exported(quickstart, HF(packed=True), tmp_path / "packed"))
    whole = [
        (tuple(t for ids, _ in row for t in ids), tuple(label for _, labels in row for label in labels)) for row in rows
    ]
    assert found == {
        ("`max_length` left at TRL's 1,024", "labels cut off"): labels_in([(ids, one[1024:]) for ids, one in whole]),
        (
            "`completion_mask` in place of `labels`, without `completion_only_loss=True`",
            "tokens trained that are no labels",
        ): tokens - labels_in(examples),
        ("`packing=True`", "examples joined to the one before"): joined,
        ("`padding_free=True` left out", "examples joined to the one before"): joined,
    }
    assert joined > 0
    # No example is longer than TRL's default, so that nothing of it is cut where TRL packs.
    assert len(counts(exported(quickstart, HF(), tmp_path / "plain"))) == 1
    page = (tmp_path / "packed" / "README.md").read_text()
    assert f"- `packing=True`: {joined:,} examples joined to the one before\n" in page


def test_bridges_answer_only_loss_is_counted(quickstart: Path, tmp_path: Path):
    examples = examples_of(quickstart)
    ((key, number),) = counts(exported(quickstart, Bridge(), tmp_path / "out")).items()
    assert key[0] == "`answer_only_loss=False`"
    assert number == sum(len(ids) - 1 for ids, _ in examples) - labels_in(examples)


@pytest.mark.parametrize("packed", [False, True])
def test_a_second_export_counts_the_same(quickstart: Path, tmp_path: Path, packed: bool):
    first, second = (exported(quickstart, HF(packed=packed), tmp_path / name) for name in ("one", "two"))
    assert first.wrong_settings == second.wrong_settings
