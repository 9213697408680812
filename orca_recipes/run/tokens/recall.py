"""Reuse of tokens that earlier stages made of the same conversations.

A conversation is known again by itself: tokenizer, template and options were the same, and every stored column of it is
equal. Parts of conversations whose digests are equal are not even read; of others the rows of the same id are compared.
Nothing of that can go stale, whatever made the text another: a seed, a rule, a teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.errors import StoreError
from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.plan.stages import REVISIONS, Plan, Stage
from orca_recipes.run.tokens.ledger import LEDGER, NOWHERE, Ledger, read_ledger
from orca_recipes.run.tokens.same_rows import places_by_id, same_rows
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import indices, read_table
from orca_recipes.store.made_conversations import MADE
from orca_recipes.store.narrow_tables import whole
from orca_recipes.store.sealed import is_promised
from orca_recipes.store.shared_stage import at_hand
from orca_recipes.store.stage_folder import Part, StageFolder
from orca_recipes.store.store import Store
from orca_recipes.store.taken_over import take_over

if TYPE_CHECKING:
    import pyarrow as pa

UNIT = (".bin", ".idx", ".records.arrow")
"""The files that hold a part's examples."""


@dataclass(frozen=True)
class Known:
    """One part of conversations, as tokenized by an earlier stage.

    folder: of the stage. part: its part that tells of these, from line `start` on. conversations: the file that they
    were made of, None where its digest is the digest of ours; digest: of that file.
    """

    folder: Path
    part: str
    start: int
    rows: int
    conversations: Path | None
    digest: str


@dataclass
class Recalled:
    """The lines of conversations that earlier stages tokenized; units: the parts taken over, as lines count them."""

    ledger: Ledger
    reasons: dict[int, str] = field(default_factory=dict)
    units: list[str] = field(default_factory=list)


def student_of(plan: Plan, stage: Stage) -> str:
    """Compute the digest of everything that decides the tokens of a stage, except its conversations."""
    student = [plan[name].fingerprint for name in stage.inputs if plan[name].verb in ("tokenizer", "template")]
    return digest_of({"revision": REVISIONS[stage.verb], "decisive": stage.decisive, "student": student})


def earlier_stages(store: Store, plan: Plan, stage: Stage) -> list[StageFolder]:
    """List the other finished stages that tokenized the same collection for the same student, the newest first."""
    earlier = store.earlier(stage)
    student = student_of(plan, stage) if earlier else ""
    return [folder for folder in earlier if _student_of(folder) == student]


def known_parts(
    bench: Bench, stage: Stage, conversations: StageFolder, parts: Sequence[Part], *, exact: bool
) -> Mapping[str, tuple[Known, ...]]:
    """Find, for each part of conversations, the results of earlier stages for the part of that name, the newest
    first."""
    ours = {part.name: conversations.digest(part.name, MADE) for part in parts}
    found: dict[str, list[Known]] = {name: [] for name in ours}
    stages = earlier_stages(bench.store, bench.plan, stage)
    # Else `clean` could remove the earlier stages between the look and the taking over.
    bench.store.hold(stages, bench.progress.say)
    for earlier in stages:
        for name, known in _told(earlier, bench.store.root / "stages", exact=exact):
            if name in ours:
                found[name].append(replace(known, conversations=None) if known.digest == ours[name] else known)
    # What need not be read comes first.
    return {name: tuple(sorted(known, key=lambda one: one.conversations is not None)) for name, known in found.items()}


def recalled(table: pa.Table, wanted: np.ndarray, known: Sequence[Known], target: Path) -> Recalled:
    """Find what earlier stages made of some conversations, and take their units over.

    Args:
        table: a part of conversations. wanted: bool [conversations]. target: the folder of the stage that is made.
    """
    out = Recalled(Ledger.empty(table.num_rows))
    for one in known:
        missing = wanted & ~out.ledger.is_rendered
        if not missing.any():
            break
        _recall(out, table, missing, one, target)
    return out


def joined_recalled(parts: Sequence[Recalled]) -> Recalled:
    """Join the results of several parts of conversations."""
    out = Recalled(Ledger.joined([part.ledger for part in parts]))
    start = 0
    for part in parts:
        rows = slice(start, start + len(part.ledger))
        # NOWHERE is -1, so it picks the last code: itself.
        codes = np.array([*(_numbered(out.units, name) for name in part.units), NOWHERE], dtype=np.int32)
        out.ledger.unit[rows] = codes[part.ledger.unit]
        out.reasons |= {start + row: reason for row, reason in part.reasons.items()}
        start += len(part.ledger)
    return out


def _recall(out: Recalled, table: pa.Table, missing: np.ndarray, known: Known, target: Path) -> None:
    import pyarrow as pa

    earlier = StageFolder(known.folder)
    try:
        if earlier.file_fault(known.part, LEDGER) is not None:
            return
        part = earlier.part(known.part)
        lines, reasons = read_ledger(part.file(LEDGER))
        lines = lines.at(np.arange(known.start, known.start + known.rows))
        places = _places(table, missing, lines, known)
    except (StoreError, OSError, pa.ArrowException):
        return  # what another command removed meanwhile is not known
    rows = np.flatnonzero(places >= 0)
    if not len(rows):
        return
    there, names = lines.at(places[rows]), part.report["units"]
    taken = {
        code: take_over(earlier, names[code], target, UNIT) for code in np.unique(there.unit).tolist() if code >= 0
    }
    sound = np.isin(there.unit, [code for code, name in taken.items() if name is not None] + [NOWHERE])
    rows, there = rows[sound], there.at(np.flatnonzero(sound))
    # A number that is given anew may be another part's old one.
    before = there.unit.copy()
    for code, name in taken.items():
        if name is not None:
            there.unit[before == code] = _numbered(out.units, name)
    out.ledger.put(rows, there)
    lost = {int(line) + known.start: int(row) for row, line in zip(rows, places[rows], strict=True)} if reasons else {}
    out.reasons |= {lost[line]: reason for line, reason in reasons.items() if line in lost}


def _student_of(folder: StageFolder) -> str | None:
    try:
        student = folder.receipt["report"].get("student")
    except StoreError:
        return None
    return None if student is None else str(student)


def _numbered(names: list[str], name: str) -> int:
    """Return the index of a name in a list; append the name if it is new."""
    if name not in names:
        names.append(name)
    return names.index(name)


def _told(earlier: StageFolder, stages: Path, *, exact: bool) -> Iterator[tuple[str, Known]]:
    """Yield an earlier stage's results for parts of conversations, by their names."""
    try:
        report, parts = earlier.receipt["report"], earlier.parts()
    except StoreError:
        return
    for part in parts:
        # Once one example disagrees, a whole stage is encoded by the reference: what the fast tokenizer made is no help
        # there.
        if part.report.get("exact") is not exact:
            continue
        start = 0
        for name, rows, digest in part.report["of"]:
            made = stages / report["conversations"] / f"{name}{MADE}"
            yield name, Known(earlier.path, part.name, start, rows, made, digest)
            start += rows


def _places(table: pa.Table, missing: np.ndarray, lines: Ledger, known: Known) -> np.ndarray:
    """Return int64 [conversations]: the line of each that is missing, and was rendered as the very same; -1 for
    others."""
    if known.conversations is None:
        # The digests of both files are equal, so line is line, and nothing is read.
        places = np.arange(len(missing)) if len(lines) == len(missing) else np.full(len(missing), -1)
    else:
        places = _places_of_same(table, missing, known.conversations, known.digest)
    is_there = missing & (places >= 0)
    is_there[is_there] = lines.is_rendered[places[is_there]]
    return np.where(is_there, places, -1)


def _places_of_same(table: pa.Table, missing: np.ndarray, path: Path, digest: str) -> np.ndarray:
    places = np.full(len(missing), -1)
    if not at_hand(path).is_file() or not is_promised(path, digest):
        return places
    # Files leave out columns that are null throughout: without them again, equal conversations would look different.
    theirs = whole(read_table(path))
    rows = np.flatnonzero(missing)
    ids = ["id_hi", "id_lo"]
    found = places_by_id(table.select(ids).take(indices(rows)), theirs.select(ids))
    rows, found = rows[found >= 0], found[found >= 0]
    same = same_rows(_chosen(table, rows), _chosen(theirs, found))
    places[rows[same]] = found[same]
    return places


def _chosen(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Return some rows; what is a run of rows is not copied."""
    if len(rows) and int(rows[-1]) - int(rows[0]) + 1 == len(rows) and (np.diff(rows) == 1).all():
        return table.slice(int(rows[0]), len(rows))
    return table.take(indices(rows))
