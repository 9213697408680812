"""Verb `sift`: of a collection's conversations those that no comparison rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.counted import counted
from orca_recipes.run.comparisons.compare import verdict_part
from orca_recipes.run.work.account import ACCOUNT, count_reasons, read_account
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import read_frame, write_frame
from orca_recipes.store.made_conversations import MADE, passed_rows
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `sift` of a dataset's collection."""
    dataset, _, collection = subject.partition("/")
    converse, compare = bench.folder(f"converse {subject}"), bench.folder(f"compare {dataset}")
    found = read_frame(compare.file(f"{verdict_part(collection)}.arrow"))
    bench.progress.begin(f"sift {subject}", total=1, unit="collections")
    names, start, samples = [], 0, dict[str, str]()
    for part in converse.parts():
        if part.name == ACCOUNT:
            continue
        frame, passed = read_frame(part.file(MADE)), passed_rows(part)
        frame = frame if passed is None else frame[passed]
        rows = found["row"].to_numpy()
        first, last = np.searchsorted(rows, (start, start + frame.height))
        mine = found.slice(first, last - first)
        _sift_part(PartWriter(folder.path, part.name), frame, mine, start)
        samples = {**_samples(frame, mine, start), **samples}
        names.append(part.name)
        start += frame.height
    told = count_reasons(found.filter(~found["rejects"])["reason"])
    bench.finish_counted(folder, names, "sift", "conversation", read_account(converse), {"reported": told})
    for reason, number in told.items():
        kept = f'{counted(number, "conversation")} kept, because action = "report"'
        bench.progress.say(f"{subject}: {reason}: {kept}; {samples[reason]}")


def _samples(frame: pl.DataFrame, found: pl.DataFrame, start: int) -> dict[str, str]:
    """Describe the first row, with its twin, for each reason that is only reported."""
    samples: dict[str, str] = {}
    for row, reason, *twin in (
        found.filter(~found["rejects"])
        .unique("reason", keep="first", maintain_order=True)
        .select("row", "reason", "twin_collection", "twin_file", "twin_place")
        .iter_rows()
    ):
        file, place = frame.select("file", "place").row(row - start)
        samples[reason] = f"{_place(file, place)} is like {twin[0]}/{_place(*twin[1:])}"
    return samples


def _place(file: str | None, place: int) -> str:
    return f"item {place}" if file is None else f"{file}:{place}"


def _sift_part(writer: PartWriter, frame: pl.DataFrame, found: pl.DataFrame, start: int) -> None:
    import polars as pl

    lost = found.filter("rejects")
    rows = lost["row"].to_numpy() - start
    stays = np.ones(frame.height, dtype=np.bool_)
    stays[rows] = False
    rejected = frame.select("id_hi", "id_lo", "file", "place")[rows].hstack(
        lost.select("reason", pl.concat_str(pl.lit("filter "), "filter").alias("stage"), "twin_hi", "twin_lo")
    )
    write_frame(writer.path(".arrow"), frame.filter(pl.Series(stays)))
    write_frame(writer.path(".rejected.arrow"), rejected)
    report: dict[str, Any] = {
        "in": frame.height,
        "out": int(stays.sum()),
        "rejected": count_reasons(rejected["reason"]),
    }
    writer.keep([".arrow", ".rejected.arrow"], report)
