"""Reserves: of what passed the filters the first are kept, in the order of the draw."""

from pathlib import Path

import polars as pl
import pytest

from orca_recipes.errors import MixtureError
from orca_recipes.run.conversations.keep import keep_first
from orca_recipes.run.examples.selection import keep_order
from orca_recipes.shards.manifest import Manifest
from orca_recipes.store.arrow_files import write_frame
from orca_recipes.store.stage_folder import PartWriter, StageFolder
from tests.run.mixtures.drawn import MAIN, made, records


def test_of_a_reserve_the_first_that_pass_the_filters_are_kept(apart: tuple[Manifest, Path]):
    stages = {stage.name: stage for stage in apart[0].datasets["main"].stages}
    kept = stages["keep main/pears"]
    assert kept.out == min(60, kept.taken)
    assert kept.rejected == {"in reserve, and not needed": kept.taken - 60}
    rejected = pl.read_parquet(apart[1] / "main" / "rejected.parquet")
    assert rejected.filter(stage="keep").height == kept.taken - 60


def test_a_reserve_of_uniform_tasks_is_kept_in_the_order_of_the_draw(orchard: Path):
    take = 'take.pears = { rows = 150, draw = "uniform_tasks"'
    both = []
    for reserve in ("", ", reserve = 0.4"):
        tables = f"[mixtures.m]\n{take}{reserve} }}\n{MAIN}"
        counts, out = made(orchard, tables, out=orchard / f"uniform{len(reserve)}")
        both.append(set(records(out, "main")["id"]))
        stages = {stage.name: stage for stage in counts.datasets["main"].stages}
    assert both[0] == both[1]
    assert len(both[0]) == 150
    assert (stages["mix m/pears"].out, stages["keep main/pears"].out) == (210, 150)


def test_a_reserve_of_tasks_makes_up_for_each_task_by_itself(orchard: Path):
    tables = "[mixtures.m]\ntake.pears = { per_task = 30, reserve = 0.5 }\n"
    tables += f"{MAIN}filters = [{{ kind = 'length', max_chars = 33 }}]\n"
    counts, _ = made(orchard, tables, out=orchard / "per-task")
    tasks = counts.datasets["main"].collections["pears"].tasks
    assert {name: task.examples for name, task in tasks.items()} == {"large": 30, "small": 30}


def test_a_reserve_of_questions_that_became_several_conversations_is_refused(tmp_path: Path):
    ids = pl.DataFrame({"id_hi": [1, 1], "id_lo": [1, 2]}, schema={"id_hi": pl.UInt64, "id_lo": pl.UInt64})
    mix, converse, keep = (StageFolder(tmp_path / name) for name in ("mix", "converse", "keep"))
    for stage in (mix, converse, keep):
        stage.path.mkdir()
    order = ids[:1].with_columns(pl.lit(0, dtype=pl.Int32).alias("group"), pl.lit(0, dtype=pl.Int64).alias("rank"))
    mix.finish([keep_order(mix, order, [1])], {})
    writer = PartWriter(converse.path, "part")
    told = ids.with_columns(pl.lit("f", dtype=pl.String).alias("file"), pl.lit(1, dtype=pl.Int64).alias("place"))
    write_frame(writer.path(".arrow"), told)
    writer.keep([".arrow"], {"out": 2})
    converse.finish(["part"], {})
    with pytest.raises(MixtureError, match="one question became several conversations; leave `reserve` out"):
        keep_first(mix, converse, keep, messages=[], where="mixtures.m.take.pears.reserve")
