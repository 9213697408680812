"""Rows that earlier stages read of files still unchanged.

A slice is known again by its file's name and digest and by its bounds; collection, kind, options and the files that no
slice names were the same. Its rows lie one behind the other in a part of that stage: so they are taken over as columns,
a part that stays whole as a link, and only files that are new or changed are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orca_recipes.contract.kinds import Slice
from orca_recipes.errors import StoreError
from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.plan.stages import REVISIONS, Stage
from orca_recipes.store.arrow_files import read_frame, read_table, write_frame
from orca_recipes.store.sealed import promise
from orca_recipes.store.source_digests import Pinned
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

FILES = ".files.arrow"
"""Of a part: its slices in their order, and what each gave."""
REJECTED = ".rejected.arrow"

_KEY = ["file", "digest", "start", "stop", "first_place"]


@dataclass(frozen=True)
class Given:
    """The result of a slice. passed_over: rows that are none of the collection, by reason."""

    rows: int
    rejected: int
    passed_over: Mapping[str, int]


@dataclass(frozen=True)
class Known:
    """The rows of one part of an earlier stage, for some slices in a row.

    at, start, rejected_at: the first of its slices, rows and rejected rows. given: of each slice.
    """

    folder: Path
    part: str
    at: int
    start: int
    rejected_at: int
    given: tuple[Given, ...]

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.given)

    @property
    def rejected(self) -> int:
        return sum(one.rejected for one in self.given)

    def is_followed_by(self, other: Known) -> bool:
        """Tell whether the other's rows follow these in the same part."""
        here = (self.folder, self.part, self.at + len(self.given))
        return here == (other.folder, other.part, other.at)

    def is_sound(self) -> bool:
        """Tell whether the part still matches its receipt; every byte is read."""
        try:
            return not StageFolder(self.folder).part_faults(self.part)
        except OSError:
            return False

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows as they were stored."""
        part, start, stop = StageFolder(self.folder).part(self.part), self.start, self.start + self.rows
        for batch in part.report["batches"]:
            if start < batch["rows"] and stop > 0:
                first = max(start, 0)
                yield read_table(part.file(batch["suffix"])).slice(first, min(stop, batch["rows"]) - first)
            start, stop = start - batch["rows"], stop - batch["rows"]

    def rejections(self) -> pl.DataFrame:
        """Return the rejected rows as they were stored."""
        found = read_frame(StageFolder(self.folder).part(self.part).file(REJECTED))
        return found.slice(self.rejected_at, self.rejected)

    def linked(self, writer: PartWriter) -> bool:
        """Link the whole earlier part as a part of this stage, if it holds nothing more, and tell whether that was
        done."""
        earlier = StageFolder(self.folder)
        part = earlier.part(self.part)
        if self.at or len(self.given) != part.report["slices"]:
            return False
        suffixes = [*(batch["suffix"] for batch in part.report["batches"]), REJECTED, FILES]
        promised = {suffix: earlier.digest(self.part, suffix) for suffix in suffixes}
        for suffix, digest in promised.items():
            writer.take(suffix, part.file(suffix))
            # The link was made after the look: what changed between the two must not become this stage's.
            if promise(writer.path(suffix)) != digest:
                writer.path(suffix).unlink()
                return False
        writer.keep(suffixes, part.report, promised)
        return True


def reader_of(stage: Stage, everywhere: Sequence[Pinned]) -> str:
    """Digest everything that decides a stage `read`, except the files named by its slices.

    Args:
        everywhere: the files that no slice names, which decide every row.
    """
    # A list of splits or an index decides every row and stands in no slice: where it changed, nothing is known.
    pin = {**stage.decisive["pin"], "files": sorted([one.pin.name, one.pin.digest] for one in everywhere)}
    return digest_of({"revision": REVISIONS["read"], "decisive": {**stage.decisive, "pin": pin}})


def earlier_readers(earlier: Sequence[StageFolder], reader: str) -> list[StageFolder]:
    """Return those of some stages that read other files in the same way."""
    return [folder for folder in earlier if _reader_of(folder) == reader]


def known_slices(
    slices: Sequence[Slice], pinned: Mapping[str, Pinned], earlier: Sequence[StageFolder]
) -> list[Known | None]:
    """Find the newest stage's rows for each slice, None for a slice without any.

    Args:
        pinned: files by name.
    """
    import polars as pl

    held = [frame for place, folder in enumerate(earlier) for frame in _held(folder, place)]
    if not held:
        return [None] * len(slices)
    # Earlier stages come newest first, and the newest is the likeliest to stay.
    first = pl.concat(held).unique(subset=_KEY, keep="first", maintain_order=True)
    found = _keys(slices, pinned).join(first, on=_KEY, how="left", maintain_order="left")
    columns = ("stage", "part", "at", "row", "rejected_row", "rows", "rejected", "passed_over")
    return [
        None
        if stage is None
        else Known(earlier[stage].path, part, at, row, bad, (Given(rows, rejected, json.loads(passed_over)),))
        for stage, part, at, row, bad, rows, rejected, passed_over in found.select(columns).iter_rows()
    ]


def runs_of(slices: Sequence[Slice], known: Sequence[Known | None]) -> Iterator[tuple[Sequence[Slice], Known | None]]:
    """Yield slices that are taken over together or read, in their order.

    A part that is damaged by now is not taken over.
    """
    runs: list[tuple[list[Slice], list[Known] | None]] = []
    sound: dict[tuple[Path, str], bool] = {}
    for piece, one in zip(slices, known, strict=True):
        if one is not None and (one.folder, one.part) not in sound:
            # Every byte is read for it, so each part is looked at once, however many slices stand in it.
            sound[one.folder, one.part] = one.is_sound()
        found = one if one is not None and sound[one.folder, one.part] else None
        pieces, before = runs[-1] if runs else ([], [])
        if found is None and before is None:
            pieces.append(piece)
        elif found is not None and before and before[-1].is_followed_by(found):
            pieces.append(piece)
            before.append(found)
        else:
            runs.append(([piece], None if found is None else [found]))
    for pieces, run in runs:
        yield pieces, None if run is None else replace(run[0], given=tuple(given for one in run for given in one.given))


def write_given(path: Path, slices: Sequence[Slice], pinned: Mapping[str, Pinned], given: Sequence[Given]) -> None:
    """Write what each slice of a part gave."""
    import polars as pl

    told = {
        "rows": pl.Series([one.rows for one in given], dtype=pl.Int64),
        "rejected": pl.Series([one.rejected for one in given], dtype=pl.Int64),
        "passed_over": pl.Series([json.dumps(dict(one.passed_over)) for one in given], dtype=pl.String),
    }
    write_frame(path, _keys(slices, pinned).with_columns(**told))


def _keys(slices: Sequence[Slice], pinned: Mapping[str, Pinned]) -> pl.DataFrame:
    import polars as pl

    names = [piece.file.name if piece.file else None for piece in slices]
    digests = [pinned[name].pin.digest if name is not None and name in pinned else None for name in names]
    numbers = {name: [getattr(piece, name) for piece in slices] for name in ("start", "stop", "first_place")}
    columns = {"file": pl.Series(names, dtype=pl.String), "digest": pl.Series(digests, dtype=pl.String)}
    return pl.DataFrame({**columns, **{name: pl.Series(found, dtype=pl.Int64) for name, found in numbers.items()}})


def _held(folder: StageFolder, place: int) -> Iterator[pl.DataFrame]:
    """Yield the slices of a stage, part by part, with the place of each slice's first row and rejected row."""
    import polars as pl

    try:
        for part in folder.parts():
            if "slices" not in part.report or folder.file_fault(part.name, FILES) is not None:
                continue
            rows, rejected = pl.col("rows"), pl.col("rejected")
            yield (
                read_frame(part.file(FILES))
                .with_row_index("at")
                .with_columns(
                    pl.col("at").cast(pl.Int64),
                    pl.lit(place).alias("stage"),
                    pl.lit(part.name).alias("part"),
                    (rows.cum_sum() - rows).alias("row"),
                    (rejected.cum_sum() - rejected).alias("rejected_row"),
                )
            )
    except StoreError:
        return  # what another command removed meanwhile is not known


def _reader_of(folder: StageFolder) -> str | None:
    try:
        reader = folder.receipt["report"].get("reader")
    except StoreError:
        return None
    return None if reader is None else str(reader)
