"""One shard of a build against the format's invariants, its records and its counts in the manifest.

Works on the columns of one shard at a time; of the shards before it only ids and counts are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from orca_recipes.counted import counted
from orca_recipes.errors import DamagedShard
from orca_recipes.objects.ranges import is_elsewhere
from orca_recipes.shards import manifest
from orca_recipes.shards.checks import invariants
from orca_recipes.shards.checks.file_checks import TableChecks
from orca_recipes.shards.checks.invariants import Breach
from orca_recipes.shards.checks.record_checks import record_breaches
from orca_recipes.shards.checks.sampling import ChosenRows, Sampler, choose_rows
from orca_recipes.shards.checks.verify_report import Finding, finding_of
from orca_recipes.shards.layout import guards_of, index_path, records_path, tokens_path
from orca_recipes.shards.manifest import Manifest, ShardCounts
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import BY_PART, Records, records_of
from orca_recipes.shards.segments import Segments


@dataclass
class ShardCheck:
    """Findings in one shard, and its share of its dataset's counts.

    rows, examples, tokens, trained_tokens, longest_example: as the index tells them; 0 where it could not be read.
    counts: (collection, task) to examples, tokens, trained tokens, as the records tell them, or None.
    ids: uint64 [examples, 2], turns and example_rows: int32 [examples]; empty where the records could not be read.
    """

    prefix: str
    findings: list[Finding] = field(default_factory=list)
    rows: int = 0
    examples: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    longest_example: int = 0
    counts: Mapping[tuple[str, str], tuple[int, int, int]] | None = None
    ids: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.uint64))
    turns: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    example_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))


@dataclass(frozen=True)
class OpenShard:
    """The readable files of a shard, for further checks.

    shard: None where the pair cannot be read, or its tokens do not lie as its rows do. records: None where they cannot
    be used whole. agree: the records are those promised, one for each example of the pair.
    """

    shard: Shard | None = None
    records: Records | None = None
    agree: bool = False


def check_shard(
    directory: Path, promised: Manifest, counts: ShardCounts, *, tables: TableChecks, sampler: Sampler | None = None
) -> tuple[ShardCheck, OpenShard]:
    """Check one pair and its records.

    Args:
        tables: by which records are read.
        sampler: the rows whose tokens are looked at; index and records are checked whole.
    A pair that is missing is for `file_checks` to tell.
    """
    check = ShardCheck(counts.prefix)
    file = records_path(Path(counts.prefix)).as_posix()
    records, whole = _records(directory, file, check, tables)
    shard = _shard(directory, check, tables.damaged, by_ranges=sampler is not None)
    if shard is None:
        return check, OpenShard(None, whole)
    _count(check, shard)
    check.findings.extend(_count_findings(check, counts))
    if records is not None and len(records.table) != check.examples:
        sentence = f"it has {len(records.table)} lines for {check.examples} examples"
        check.findings.append(Finding(file, sentence))
        records = None
    if records is not None and records.ids_column is None and promised.format > 1:
        check.findings.append(
            Finding(file, f"its columns are those of format 1, in a build of format {promised.format}")
        )
    if records is not None:
        check.counts = records.counts()
        check.turns = records.parts()
        check.ids, check.example_rows = records.ids, shard.segments.example_rows.astype(np.int32)
    check.findings.extend(_guard_findings(check, shard, promised))
    unordered = _unordered_tokens(shard, promised)
    check.findings.extend(_named(check.prefix, shard, promised, records, sampler, unordered))
    # Proofs of texts believe the records: only those that the manifest promised.
    agree = records is not None and tables.is_sound(file)
    return check, OpenShard(shard if unordered is None else None, whole, agree)


def _records(
    directory: Path, file: str, check: ShardCheck, tables: TableChecks
) -> tuple[Records | None, Records | None]:
    """Read the records as far as they are usable, and once more if nothing is wrong with them; else None."""
    try:
        stored = tables.read(file)
        records, faults = (None, []) if stored is None else records_of(directory / file, stored)
    except DamagedShard as error:
        check.findings.append(finding_of(error, directory, file))
        return None, None
    check.findings.extend(Finding(file, fault) for fault in faults)
    return records, None if faults else records


def _shard(directory: Path, check: ShardCheck, damaged: frozenset[str], *, by_ranges: bool) -> Shard | None:
    pair = [path(Path(check.prefix)).as_posix() for path in (index_path, tokens_path)]
    for file in pair:
        path = directory / file
        # A missing file was told by `file_checks`: once is enough.
        if not path.is_file() and (file in damaged or not is_elsewhere(path)):
            return None
    try:
        shard = Shard.open(directory / check.prefix, by_ranges=by_ranges)
    except DamagedShard as error:
        check.findings.append(finding_of(error, directory, *pair))
        return None
    if not shard.rows:
        check.findings.append(Finding(pair[0], "it holds no rows, and Megatron cannot open such a shard"))
        return None
    return shard


def _count(check: ShardCheck, shard: Shard) -> None:
    segments = shard.segments
    check.rows, check.examples = segments.rows, segments.examples
    check.tokens = int(segments.token_starts[-1])
    check.trained_tokens = int(segments.example_trained_tokens.sum())
    check.longest_example = int(segments.example_tokens.max())


def _count_findings(check: ShardCheck, counts: ShardCounts) -> Iterator[Finding]:
    for name in ("rows", "examples", "tokens", "trained_tokens"):
        held, said = getattr(check, name), getattr(counts, name)
        if held != said:
            words = name.replace("_", " ")
            yield Finding(manifest.NAME, f"it counts {said} {words} in {check.prefix}, which holds {held}")


def _guard_findings(check: ShardCheck, shard: Shard, promised: Manifest) -> Iterator[Finding]:
    """Check the guards: readers that take segments for documents fail on the pair, as on every one since format 2."""
    guards = guards_of(check.tokens) if promised.format > 1 else 0
    if shard.index.guards != guards:
        file = index_path(Path(check.prefix)).as_posix()
        held = f"it has {counted(shard.index.guards, 'guard')} behind its first segment, where {guards} belong"
        yield Finding(file, f"{held}: they fail readers that take segments for documents")


def _named(
    prefix: str,
    shard: Shard,
    promised: Manifest,
    records: Records | None,
    sampler: Sampler | None,
    unordered: str | None,
) -> Iterator[Finding]:
    """Yield the findings from index, tokens and records, each with the name of its file."""
    path = Path(prefix)
    yield from _findings(index_path(path), _index_breaches(shard, promised), records)
    if unordered is not None:
        yield Finding(index_path(path).as_posix(), f"{unordered}; its tokens were not checked")
    else:
        yield from _findings(
            tokens_path(path), _token_breaches(choose_rows(shard, sampler, prefix), promised, records), records
        )
    if records is not None:
        yield from _findings(records_path(path), record_breaches(shard.segments, records), records)


def _findings(file: Path, breaches: Iterator[Breach], records: Records | None) -> Iterator[Finding]:
    for breach in breaches:
        example = None if records is None or breach.example is None else records.example_id(breach.example)
        yield Finding(file.as_posix(), breach.sentence, breach.row, example)


def _unordered_tokens(shard: Shard, promised: Manifest) -> str | None:
    """Return why the tokens are not in the order of the rows, first byte to last; None where they are."""
    if shard.dtype.name != promised.dtype:
        return f"its tokens are {shard.dtype.name}, where {promised.dtype} is promised"
    if not shard.index.is_contiguous():
        return "its segments do not follow one another in .bin"
    if len(shard.tokens) != shard.segments.token_starts[-1]:
        return f".bin holds {len(shard.tokens)} tokens, and its segments {shard.segments.token_starts[-1]}"
    return None


def _index_breaches(shard: Shard, promised: Manifest) -> Iterator[Breach]:
    yield from invariants.segment_breaches(shard.segments)
    yield from invariants.room_breaches(shard.segments, row_tokens=promised.row_tokens, align=promised.align)


def _token_breaches(chosen: ChosenRows, promised: Manifest, records: Records | None) -> Iterator[Breach]:
    """Yield breaches in the tokens of chosen rows, with rows and examples numbered as in the shard."""
    # Where parts of answers are no targets, an answer may end on one that is none.
    is_told = records is not None and not any(name in records.table.column_names for name in BY_PART)
    cut = records.is_cut()[chosen.examples] if records is not None and is_told else None
    for breach in (*_ids_breaches(chosen, records), *_breaches_of(chosen.segments, chosen.tokens, promised, cut)):
        example = None if breach.example is None else int(chosen.examples[breach.example])
        yield Breach(int(chosen.rows[breach.row]), example, breach.sentence)


def _ids_breaches(chosen: ChosenRows, records: Records | None) -> Iterator[Breach]:
    if records is not None and records.ids_digests is not None and records.ids_column is not None:
        digests = records.ids_digests[chosen.examples]
        yield from invariants.ids_breaches(chosen.segments, chosen.tokens, digests=digests, column=records.ids_column)


def _breaches_of(
    segments: Segments, tokens: np.ndarray, promised: Manifest, cut: np.ndarray | None
) -> Iterator[Breach]:
    ends = promised.terminators
    yield from invariants.vocabulary_breaches(segments, tokens, vocabulary_size=promised.vocabulary_size)
    if promised.bos_id is not None:
        yield from invariants.bos_breaches(segments, tokens, bos_id=promised.bos_id, terminators=ends)
    if promised.unused_bos_id is not None and all(promised.unused_bos_id not in ids for ids in ends):
        yield from invariants.absence_breaches(segments, tokens, token_id=promised.unused_bos_id)
    if cut is not None:
        yield from invariants.terminator_breaches(segments, tokens, terminators=ends, cut=cut)
