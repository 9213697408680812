"""Sketches of conversations and examples, part by part: by what keys they may meet others."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.comparison import Comparison
from orca_recipes.contract.draws import splitmix64
from orca_recipes.run.comparisons.compared_texts import CONVERSATION, EXAMPLE, compared_texts, own_systems
from orca_recipes.run.comparisons.meeting import Known, Met, rising, rising_order, widely_shared
from orca_recipes.store.arrow_files import read_frame, write_frame
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Pool:
    """Some rows of one file, of a dataset's conversations or of examples that they are compared with.

    of: the collection. source: what the rows belong to, for people: a collection or a mixture. count: of its rows.
    rows: bool [rows of the file], which of them take part, None for all. ids_of: the file that holds the ids of
    examples, from `start` on; None for conversations, which hold their own. is_asked: whether they are the dataset's,
    and nobody answered yet. asked: of conversations, the file beside theirs that tells what their rows ask.
    """

    name: str
    path: Path
    of: str
    source: str
    count: int
    rows: np.ndarray | None = None
    ids_of: Path | None = None
    start: int = 0
    is_asked: bool = False
    asked: Path | None = None

    @property
    def is_example(self) -> bool:
        return self.ids_of is not None

    @property
    def is_other(self) -> bool:
        """Tell whether its rows are not the dataset's own."""
        return self.is_example and not self.is_asked

    def ids(self) -> pl.DataFrame:
        """Return id_hi and id_lo of its rows, with their collection, file and place."""
        import polars as pl

        frame = self.frame(["file", "place"] if self.is_example else ["id_hi", "id_lo", "file", "place"])
        if self.ids_of is not None:
            ids = read_frame(self.ids_of, columns=["id_hi", "id_lo"])
            ids = ids.slice(self.start, len(self.rows) if self.rows is not None else frame.height)
            frame = frame.hstack(ids if self.rows is None else ids.filter(pl.Series(self.rows)))
        return frame.select("id_hi", "id_lo", pl.lit(self.of).alias("of"), "file", "place")

    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read its rows. columns: by default the ones that make up texts."""
        import polars as pl

        frame = read_frame(self.path, columns=list(columns or (EXAMPLE if self.is_example else CONVERSATION)))
        if columns is None and self.asked is not None:
            frame = frame.hstack(read_frame(self.asked))
        return frame if self.rows is None else frame.filter(pl.Series(self.rows))

    def texts(self, shared: str | None, places: np.ndarray | None = None, *, whole: bool = False) -> pl.DataFrame:
        """Return question and answer of its rows, or of those at some places."""
        import polars as pl

        frame = self.frame() if places is None else self.frame()[places]
        texts = compared_texts(frame, shared=shared, whole=whole)
        return texts.with_columns(answer=pl.lit("")) if self.is_asked else texts


@dataclass(frozen=True)
class HeadTask:
    """Look for the system messages that a pool's rows bring."""

    name: str
    folder: Path
    pool: Pool


@dataclass(frozen=True)
class SketchTask:
    """Sketch a pool for some comparisons.

    shared: the system message that all of its collection brings. known: for each comparison the file of the keys that
    others have, where only those matter.
    """

    name: str
    folder: Path
    pool: Pool
    kinds: tuple[Comparison, ...]
    shared: str | None
    known: tuple[Path | None, ...]


def head_part(task: HeadTask) -> int:
    """Store the system messages that a pool's rows bring, two at most: more than one is all that matters."""
    frame = task.pool.frame()
    found = own_systems(frame).alias("system").drop_nulls()
    writer = PartWriter(task.folder, task.name)
    # Two different ones are enough to know that the collection shares none.
    write_frame(writer.path(".arrow"), found.filter(found != "").unique().sort().head(2).to_frame())
    writer.keep([".arrow"], {})
    return frame.height


def shared_system(folder: StageFolder, names: Sequence[str]) -> str | None:
    """Return the one system message of a source's rows, None if they bring several or none."""
    import polars as pl

    found = pl.concat([read_frame(folder.file(f"{name}.arrow")) for name in names])["system"].unique()
    # A text that all rows share would make all of them alike.
    return found[0] if len(found) == 1 else None


def sketch_part(task: SketchTask) -> int:
    """Store a pool's keys, rising, each with its row, the signatures, and a number for each signature."""
    texts_of = {
        whole: task.pool.texts(task.shared, whole=whole) for whole in {kind.reads_prompts() for kind in task.kinds}
    }
    writer, suffixes = PartWriter(task.folder, task.name), []
    for number, (kind, known) in enumerate(zip(task.kinds, task.known, strict=True)):
        texts = texts_of[kind.reads_prompts()]
        if known is not None:
            # Keys that nobody else has meet nobody: of a large collection against a small benchmark nearly all are left
            # out.
            sketch = kind.sketch_near(texts=texts, known=_known(known))
        else:
            sketch = kind.sketch_others(texts=texts) if task.pool.is_other else kind.sketch(texts=texts)
        keys, rows = sketch.keys, sketch.rows
        order = rising_order(keys)
        arrays = {"keys": keys[order], "rows": rows[order].astype(np.uint32)}
        if sketch.signature is not None:
            arrays |= {"signatures": sketch.signature, "alike": _numbers(sketch.signature)}
        for name, array in arrays.items():
            suffixes.append(f"-{number}-{name}.npy")
            keep_array(writer.path(suffixes[-1]), array)
    writer.keep(suffixes, {"rows": task.pool.count})
    return task.pool.count


@lru_cache(maxsize=2)
def _known(path: Path) -> Known:
    """Load the keys of others once for the parts that a process sketches; a finished part's file never changes."""
    return Known(np.load(path, mmap_mode="r"))


def keep_known(folder: StageFolder, name: str, keys: np.ndarray, shared: np.ndarray) -> str:
    """Store the keys of others, and those that too many of them share, as a part; return its name."""
    writer = PartWriter(folder.path, name)
    keep_array(writer.path(".npy"), rising(keys))
    keep_array(writer.path("-shared.npy"), shared)
    writer.keep([".npy", "-shared.npy"], {})
    return name


def keep_array(path: Path, array: np.ndarray) -> None:
    """Write an array; numpy, writing to a file by itself, forgets why a disk refuses it."""
    # np.save into a file of a full disk raises an error without a number, which could not be told in a sentence.
    data = io.BytesIO()
    np.save(data, array)
    path.write_bytes(data.getbuffer())


def read_array(folder: StageFolder, name: str) -> np.ndarray:
    """Map a stored array from its file."""
    return np.asarray(np.load(folder.file(f"{name}.npy"), mmap_mode="r"))


def met(folder: StageFolder, names: Sequence[str], starts: Sequence[int], number: int) -> list[Met]:
    """Read the sketches of one comparison. starts: the number of each part's first row."""
    found = []
    for name, start in zip(names, starts, strict=True):
        keys, rows = (read_array(folder, f"{name}-{number}-{what}") for what in ("keys", "rows"))
        signatures = folder.file(f"{name}-{number}-signatures.npy")
        found.append(Met(keys, rows, start, signatures if signatures.exists() else None))
    return found


def without_widely_shared(parts: Sequence[Met], most: int | None) -> tuple[list[Met], np.ndarray]:
    """Drop the keys shared by more than `most` rows, which identify none of them; return the parts without them, and
    those keys."""
    if most is None or not parts:
        return list(parts), np.empty(0, dtype=np.uint64)
    keys = np.concatenate([part.keys for part in parts])
    rows = np.concatenate([part.rows.astype(np.int64) + part.start for part in parts])
    first = int(rows.min(initial=0))
    shared, keep = widely_shared(keys, rows - first, most)
    bounds = np.cumsum([0, *(len(part.keys) for part in parts)])
    kept = [
        Met(part.keys[keep[start:stop]], part.rows[keep[start:stop]], part.start, part.signatures)
        for part, start, stop in zip(parts, bounds[:-1], bounds[1:], strict=True)
    ]
    return kept, shared


def _numbers(signatures: np.ndarray) -> np.ndarray:
    """Return uint64 [rows]: one number for each signature, equal for equal ones; 0 for none."""
    wide = np.ascontiguousarray(signatures).view(np.uint64)
    made = np.zeros(len(wide), dtype=np.uint64)
    for column in range(wide.shape[1]):
        made = splitmix64(made ^ wide[:, column])
    return np.where(wide.any(axis=1), made, np.uint64(0))
