"""Examples that are cut to whole turns: a turn whose parts do not all fit is left out whole."""

from pathlib import Path

import numpy as np
import pytest

from orca_plugins.packers.best_fit import BestFit
from orca_recipes.run.rows.cut import Cut, cut_example
from orca_recipes.shards.layout import ROLES, segment_modes
from orca_recipes.shards.records import TURNS_DROPPED
from orca_recipes.shards.writer import write_pair
from tests.run.segments.test_trained_text import CONTROL, Letters

END = CONTROL["<b>"]
ASKED, HEAD, SAID = ("user", 0, [2, 3, END]), ("assistant", 0, [0]), ("assistant", 1, [2, 2, END])
THOUGHT, WORDS, CALL = ("assistant", 1, [5, 5, 5]), ("assistant", 0, [7, 7]), ("assistant", 1, [8, 8, END])


def cut(folder: Path, segments: list[tuple[str, int, list[int]]], row_tokens: int) -> Cut | str:
    """Cut one example of these segments (role, whether trained, ids)."""
    roles, trained, ids = zip(*segments, strict=True)
    starts = np.arange(len(segments)) == 0
    codes = np.array([ROLES.index(role) for role in roles])
    write_pair(
        prefix=folder / "unit",
        vocabulary_size=9,
        blocks=iter([np.concatenate([np.array(some) for some in ids])]),
        segment_lengths=np.array([len(some) for some in ids], dtype=np.int32),
        segment_modes=segment_modes(trained=np.array(trained, dtype=bool), starts=starts, roles=codes),
        row_starts=np.array([0, len(segments)]),
    )
    packer = BestFit(row_tokens=row_tokens, overlong="drop_turns")
    return cut_example(folder / "unit", 0, packer=packer, flags=0, encoder=Letters(False), turn_ends={END})


ONE, TWO = [ASKED, HEAD, SAID], [ASKED, HEAD, THOUGHT, WORDS, CALL]


def size(segments: list[tuple[str, int, list[int]]]) -> int:
    return sum(len(ids) for _, _, ids in segments)


@pytest.mark.parametrize("missing", [1, size([CALL]), size([WORDS, CALL]), size([THOUGHT, WORDS, CALL])])
def test_a_thought_is_not_kept_without_the_call_of_its_turn(tmp_path: Path, missing: int):
    found = cut(tmp_path, [*ONE, *TWO], size([*ONE, *TWO]) - missing)
    assert isinstance(found, Cut)
    assert (found.tokens, found.flags) == (size(ONE), TURNS_DROPPED)


def test_a_turn_that_fits_whole_is_kept(tmp_path: Path):
    found = cut(tmp_path, [*TWO, *ONE], size([*TWO, *ONE]) - 1)
    assert isinstance(found, Cut)
    assert found.tokens == size(TWO)


def test_answers_that_follow_each_other_are_turns_of_their_own(tmp_path: Path):
    found = cut(tmp_path, [*ONE, HEAD, SAID], size([*ONE, HEAD, SAID]) - 1)
    assert isinstance(found, Cut)
    assert found.tokens == size(ONE)


def test_an_example_whose_first_turn_does_not_fit_is_rejected(tmp_path: Path):
    assert cut(tmp_path, [*TWO, *ONE], size(TWO) - 1) == "longer than a row with its first answer alone"
