"""Proving a build from its directory alone: digests, the format's invariants, records, counts and conservation.

Every check goes on after what it finds, so one run tells everything that can be told; memory is bounded by one shard,
plus 20 bytes for each example of a dataset (and what an onlooker keeps).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from orca_recipes.counted import counted
from orca_recipes.errors import BuildError, DamagedShard
from orca_recipes.shards import manifest as manifests
from orca_recipes.shards.checks.count_checks import check_dataset, check_numbers, check_rejected, check_twins
from orca_recipes.shards.checks.curriculum_checks import check_curriculum
from orca_recipes.shards.checks.file_checks import TableChecks, check_files
from orca_recipes.shards.checks.sampling import Sampler
from orca_recipes.shards.checks.shard_checks import OpenShard, ShardCheck, check_shard
from orca_recipes.shards.checks.verify_report import Finding, Nobody, Report, Watcher, finding_of
from orca_recipes.shards.manifest import Manifest, ShardCounts, inspect_manifest
from orca_recipes.shards.records import REJECTED_NAME

_NOBODY = Nobody()


class Onlooker(Protocol):
    """Looks into every shard while it is open, so that nothing is read twice."""

    def begin(self, promised: Manifest, damaged: frozenset[str]) -> None:
        """Prepare for the shards; damaged: files that are missing or have other bytes than promised."""

    def look(self, dataset: str, counts: ShardCounts, opened: OpenShard) -> None:
        """Look at a shard, in the order of the manifest, and advance a watcher by `counts.tokens` tokens."""

    def summary(self) -> str:
        """Summarise the work after the last shard."""


def verify(
    directory: Path,
    *,
    sampler: Sampler | None = None,
    watcher: Watcher = _NOBODY,
    onlooker: Onlooker | None = None,
) -> Report:
    """Check the structure of a build directory; its text is for `run` to prove.

    Args:
        sampler: for very large builds: no digest of a file is taken, and tokens are looked at in these rows alone.
        watcher: is told how far the work is.
        onlooker: is shown every shard; never where there is no readable manifest.
    Returns: what was found; a directory without a readable manifest gives that one finding.
    Raises: BuildError where there is no such directory.
    """
    if not directory.is_dir():
        raise BuildError(f"{directory}: there is no such directory; name one that `orca-recipe build` made")
    try:
        promised, edit = inspect_manifest(directory)
    except (BuildError, DamagedShard) as error:
        told = finding_of(error, directory, manifests.NAME)
        return Report((replace(told, sentence=f"{told.sentence}; nothing else was checked"),), {})
    checked: Counter[str] = Counter()
    findings = [] if edit is None else [Finding(manifests.NAME, edit)]
    findings += _check(directory, promised, checked, sampler, watcher, onlooker)
    return Report(tuple(findings), dict(checked), tuple(_not_checked(promised, sampler)), promised.data_digest)


def _check(
    directory: Path,
    promised: Manifest,
    checked: Counter[str],
    sampler: Sampler | None,
    watcher: Watcher,
    onlooker: Onlooker | None,
) -> list[Finding]:
    of_files = _check_files(directory, promised, sampler, watcher)
    damaged = frozenset(finding.file for finding in of_files)
    checked["files"] = len(promised.files) + len(promised.tables)
    tables = TableChecks(directory, promised, damaged, digests=sampler is None)
    findings = [*check_numbers(promised), *check_curriculum(directory, promised)]
    longest = [0]
    total = sum(counts.tokens for counts in promised.datasets.values())
    watcher.begin("shards", total=total, unit="tokens")
    if onlooker is not None:
        onlooker.begin(promised, damaged)
    for dataset in promised.datasets:
        checks = []
        for counts in promised.datasets[dataset].shards:
            check, opened = check_shard(directory, promised, counts, tables=tables, sampler=sampler)
            checks.append(check)
            if onlooker is None:
                watcher.advance(counts.tokens)
            else:
                onlooker.look(dataset, counts, opened)
            del opened  # the next shard is opened when this one is let go
        findings += (finding for check in checks for finding in check.findings)
        findings += check_dataset(dataset, promised, checks)
        findings += check_twins(checks)
        findings += check_rejected(directory, f"{dataset}/{REJECTED_NAME}", promised.datasets[dataset], tables)
        longest += (check.longest_example for check in checks)
        _count(checked, checks)
    told = "" if onlooker is None else f", {onlooker.summary()}"
    watcher.end(f"{counted(checked['rows'], 'row')} in {counted(checked['shards'], 'shard')}{told}")
    return [*of_files, *tables.findings(), *findings, *_check_longest(promised, max(longest))]


def _check_files(directory: Path, promised: Manifest, sampler: Sampler | None, watcher: Watcher) -> list[Finding]:
    files = (*promised.files, *promised.made.table_files)
    watcher.begin("files", total=sum(file.bytes for file in files), unit="B")
    findings = list(check_files(directory, promised, watcher, digests=sampler is None))
    watcher.end(counted(len(files), "digest" if sampler is None else "size"))
    return findings


def _not_checked(promised: Manifest, sampler: Sampler | None) -> Iterator[str]:
    if sampler is None:
        return
    files = (*promised.files, *promised.made.table_files)
    size = counted(sum(file.bytes for file in files), "byte")
    yield f"the digests of {counted(len(files), 'file')} ({size}), of which only the sizes were compared"
    for name, counts in promised.datasets.items():
        chosen = sum(len(sampler(shard.prefix, shard.rows)) for shard in counts.shards)
        yield f"the tokens of {counts.rows - chosen:,} of the {counted(counts.rows, 'row')} of dataset {name}"


def _check_longest(promised: Manifest, longest: int) -> Iterator[Finding]:
    if longest and longest != promised.longest_example:
        words = f"it says that the longest example has {promised.longest_example} tokens"
        yield Finding(manifests.NAME, f"{words}, and the longest that could be read has {longest}")


def _count(checked: Counter[str], checks: list[ShardCheck]) -> None:
    checked["datasets"] += 1
    checked["shards"] += len(checks)
    for name in ("rows", "examples", "tokens", "trained_tokens"):
        checked[name] += sum(getattr(check, name) for check in checks)
