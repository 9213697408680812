"""Answered examples shown before a question: of the same task and system message, drawn by key, never itself."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from orca_recipes.contract.draws import splitmix64
from orca_recipes.contract.frames import completed, examples_schema
from orca_recipes.run.conversations.shots import POOL, with_shots, write_pool
from orca_recipes.run.examples.read import Batch
from orca_recipes.store.arrow_files import write_frame


def rows(count: int, tasks: int = 2) -> pl.DataFrame:
    ids = splitmix64(np.arange(2 * count, dtype=np.uint64))
    frame = pl.DataFrame(
        {
            "id_hi": ids[:count],
            "id_lo": ids[count:],
            "task": [f"t{n % tasks}" for n in range(count)],
            "question": [f"q{n}" for n in range(count)],
            "references": [[f"a{n}"] for n in range(count)],
        }
    )
    return completed(frame, examples_schema())


def pool_of(folder: Path, frame: pl.DataFrame, *, selected: np.ndarray | None = None, cuts: int = 1) -> Path:
    """The pool of examples that lie in so many batches."""
    folder.mkdir(exist_ok=True)
    write_frame(folder / "ids.arrow", frame.select("id_hi", "id_lo"))
    bounds = np.linspace(0, frame.height, cuts + 1).astype(int).tolist()
    batches = []
    for start, stop in pairwise(bounds):
        batches.append(Batch(folder / f"{start}.arrow", start, stop))
        write_frame(batches[-1].path, frame[start:stop].drop("id_hi", "id_lo"))
    chosen = np.ones(frame.height, dtype=bool) if selected is None else selected
    write_pool(folder / "pool.arrow", batches=batches, ids=folder / "ids.arrow", selected=chosen, seed=1)
    return folder / "pool.arrow"


def shots(frame: pl.DataFrame, pool: Path, wanted: tuple[int, int] = (3, 5)) -> pl.DataFrame:
    return with_shots(frame.with_columns(message_id=pl.lit("")), frame["question"], wanted, pool, seed=1)


def test_shots_are_others_of_the_same_task_with_their_answers(tmp_path: Path):
    made = shots(frame := rows(60), pool_of(tmp_path, frame))
    assert made["lacks"].null_count() == 60
    for row in made.iter_rows(named=True):
        questions = [shot["question"] for shot in row["shots"]]
        assert 3 <= len(questions) == len(set(questions)) <= 5
        assert row["question"] not in questions
        assert {int(question[1:]) % 2 for question in questions} == {int(row["task"][1:])}
        assert [shot["answer"][1:] for shot in row["shots"]] == [question[1:] for question in questions]


def test_every_number_of_shots_and_every_other_example_comes_up(tmp_path: Path):
    made = shots(frame := rows(400, tasks=1), pool_of(tmp_path, frame))
    assert set(made["shots"].list.len()) == {3, 4, 5}
    shown = made["shots"].explode().struct.field("question").value_counts()
    assert shown.height == POOL
    assert shown["count"].max() < 3 * 400 * 4 / POOL


def test_shots_depend_on_nothing_but_example_and_pool(tmp_path: Path):
    frame = rows(90, tasks=3)
    whole = shots(frame, pool_of(tmp_path / "one", frame))["shots"]
    assert shots(frame, pool_of(tmp_path / "cut", frame, cuts=4))["shots"].equals(whole)
    assert shots(frame[50:], pool_of(tmp_path / "one", frame))["shots"].equals(whole[50:])


def test_what_the_mixture_left_out_is_never_shown(tmp_path: Path):
    frame, selected = rows(40, tasks=1), np.arange(40) < 10
    made = shots(frame[:10], pool_of(tmp_path, frame, selected=selected))
    assert set(made["shots"].explode().struct.field("question")) <= {f"q{n}" for n in range(10)}


def test_examples_under_another_system_message_of_their_own_are_not_shown(tmp_path: Path):
    frame = rows(40, tasks=1).with_columns(system=pl.Series(["A", "B"] * 20))
    made = shots(frame, pool_of(tmp_path, frame))
    for row in made.iter_rows(named=True):
        assert {int(shot["question"][1:]) % 2 for shot in row["shots"]} == {int(row["question"][1:]) % 2}


def test_repeats_and_copies_under_other_ids_are_never_shown_their_own_row(tmp_path: Path):
    frame = rows(12, tasks=1)
    copies = frame.with_columns(id_hi=~pl.col("id_hi"), id_lo=~pl.col("id_lo"))
    made = shots(copies, pool_of(tmp_path, frame), (5, 11))
    assert made["lacks"].null_count() == 12
    for question, shown in made.select("question", "shots").iter_rows():
        assert question not in {shot["question"] for shot in shown}


def test_rows_that_ask_the_same_are_not_shown_to_each_other(tmp_path: Path):
    frame = pl.concat([rows(6, tasks=1)] * 3)
    frame = frame.with_columns(pl.Series("id_hi", splitmix64(np.arange(18, dtype=np.uint64))))
    made = shots(frame, pool_of(tmp_path, frame, cuts=3), (5, 11))
    assert made["lacks"].null_count() == 18
    for question, shown in made.select("question", "shots").iter_rows():
        assert sorted([question, *(shot["question"] for shot in shown)]) == [f"q{n}" for n in range(6)]


@pytest.mark.parametrize(("count", "kept"), [(3, 0), (4, 4)])
def test_a_task_with_too_few_others_is_rejected_with_the_reason(tmp_path: Path, count: int, kept: int):
    made = shots(frame := rows(count, tasks=1), pool_of(tmp_path, frame))
    assert made["lacks"].null_count() == kept
    if not kept:
        assert "fewer than 3 other answered examples" in made["lacks"][0]


def test_an_example_without_an_answer_is_shown_to_nobody(tmp_path: Path):
    frame = rows(12, tasks=1).with_columns(references=pl.Series([["a"]] * 6 + [None] * 6))
    made = shots(frame, pool_of(tmp_path, frame))
    assert set(made["shots"].explode().struct.field("question")) <= {f"q{n}" for n in range(6)}
