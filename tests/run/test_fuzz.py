"""A slice of the fuzz campaign: `python -m tests.campaign fuzz` tries some hundred thousand inputs more."""

from pathlib import Path

import pytest

from tests.campaign.fuzz import make_world, tried
from tests.campaign.fuzz_targets import TARGETS

INPUTS = {"template": 120, "recipe": 200}
"""Slower than the others."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    make_world(root)
    return root


@pytest.mark.parametrize("target", TARGETS)
def test_a_spoilt_input_ends_in_a_right_answer_or_a_sentence(world: Path, target: str):
    tally = tried(world, target, seed=0, start=0, count=INPUTS.get(target, 300))
    assert tally.failures == []
    assert 0 <= tally.accepted <= tally.inputs
