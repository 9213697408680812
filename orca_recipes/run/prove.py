"""Proving a build from its directory alone: structure, then text, then prompts.

`shards.verify` proves files, format and counts. Here the trained tokens of every example are decoded by the tokenizer
that the build ships and held against the digest of the text that went into them, so that a changed token, mask or order
is found though every digest of a file was made anew. A sample of prompts is held against the reference.
Every check goes on after what it finds; what could not be looked at is said.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from orca_recipes.contract.draws import binary_digests, draw_keys
from orca_recipes.contract.spelling import quoted
from orca_recipes.errors import BuildError, DamagedShard
from orca_recipes.recipe.choice import Kinds
from orca_recipes.run.apart import check_apart, pairs_apart
from orca_recipes.run.plan_counts import check_plan_counts
from orca_recipes.run.progress import Progress
from orca_recipes.run.prompts import PromptCheck, PromptChecker
from orca_recipes.run.proof import blocks, trained_texts
from orca_recipes.run.prove_erasing import check_erasing
from orca_recipes.run.shipped import ShippedStudent, Untold, open_shipped
from orca_recipes.shards.invariants import first_few
from orca_recipes.shards.layout import records_path, tokens_path
from orca_recipes.shards.manifest import DatasetCounts, Manifest, inspect_manifest
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import Records, read_records
from orca_recipes.shards.report import Finding, Report
from orca_recipes.shards.sampling import ChosenRows, Sampler, choose_rows
from orca_recipes.shards.shard_checks import unordered_tokens
from orca_recipes.shards.verify import verify

PROMPTS_CHECKED = 2048
"""About how many examples of a dataset have their prompts encoded again, drawn by key: the reference is slow."""

_BLOCK_TOKENS = 1 << 22
_SHOWN = 60


def prove(directory: Path, *, kinds: Kinds, sample: float | None = None, progress: Progress) -> Report:
    """Check a build directory whole, or a keyed sample of its rows.

    Args:
        kinds: the catalogue, for the kind of tokenizer that the build's recipe names.
        sample: the share of rows whose tokens and text are looked at, 0 to 1; then no digest of a file is taken.
    Raises: BuildError where there is no such directory.
    """
    sampler = None if sample is None else partial(sampled_rows, sample)
    structure = verify(directory, sampler=sampler, watcher=progress)
    try:
        promised, _ = inspect_manifest(directory)
    except (BuildError, DamagedShard):
        return structure
    damaged = {finding.file for finding in structure.findings if finding.row is None}
    proof = _Proof(directory, promised, sampler, progress, damaged)
    proof.findings += [*structure.findings, *check_plan_counts(promised), *check_apart(directory, promised)]
    if pairs := pairs_apart(promised):
        proof.checked["pairs_of_datasets_kept_apart"] = pairs
    proof.not_checked += structure.not_checked
    proof.run(kinds)
    return Report(tuple(proof.findings), {**structure.checked, **proof.checked}, tuple(proof.not_checked))


def sampled_rows(share: float, prefix: str, rows: int) -> np.ndarray:
    """The rows of a shard that a sample looks at, at least one: drawn by key, the same on every machine.

    Returns: int64 [chosen], rising.
    """
    numbers = np.arange(rows, dtype=np.uint64)
    keys = draw_keys(id_hi=np.zeros(rows, dtype=np.uint64), id_lo=numbers, seed=0, purpose=f"verify {prefix}")
    chosen = np.flatnonzero(_drawn(keys, share))
    return chosen if len(chosen) else np.array([np.argmin(keys)])


@dataclass
class _Proof:
    """The proof of text, as far as it is.

    damaged: files that are damaged as a whole, rather than at one row.
    """

    directory: Path
    promised: Manifest
    sampler: Sampler | None
    progress: Progress
    damaged: set[str]
    findings: list[Finding] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)

    def run(self, kinds: Kinds) -> None:
        student = open_shipped(self.directory, self.promised, kinds, self.damaged)
        if isinstance(student, Finding):
            self.findings.append(student)
            student = Untold("the tokenizer could not be used")
        if isinstance(student, Untold):
            self.not_checked.append(f"the text of all examples: {student.why}")
            return
        total = sum(counts.tokens for counts in self.promised.datasets.values())
        self.progress.begin("text", total=total, unit="tokens")
        for name, counts in self.promised.datasets.items():
            self._prove_dataset(name, counts, student)
        self.progress.end(f"{self.checked['texts']:,} texts and {self.checked['prompts']:,} prompts")

    def _prove_dataset(self, name: str, counts: DatasetCounts, student: ShippedStudent) -> None:
        prompts, looked_at, readable, texts = PromptCheck(), 0, 0, self.checked["texts"]
        checker = PromptChecker(student.encoder, student.inference)
        share = PROMPTS_CHECKED / max(counts.examples, 1)
        for shard_counts in counts.shards:
            opened = self._opened(shard_counts.prefix)
            self.progress.advance(0 if opened else shard_counts.tokens)
            if opened is None:
                self.not_checked.append(f"the text of {shard_counts.prefix}: its files are damaged")
                continue
            shard, records = opened
            chosen = choose_rows(shard, self.sampler, shard_counts.prefix)
            self._prove_texts(shard_counts.prefix, chosen, records, student)
            readable += shard.segments.examples
            looked_at += self._check_prompts(shard_counts.prefix, chosen, records, checker, share, prompts)
            self._check_erasing(shard_counts.prefix, chosen, records, checker, student)
            self.progress.advance(shard_counts.tokens - int(chosen.segments.token_starts[-1]))
        self.checked["prompts"] += prompts.checked
        self._tell_unchecked(name, readable, self.checked["texts"] - texts, looked_at, prompts)

    def _opened(self, prefix: str) -> tuple[Shard, Records] | None:
        """A shard whose index and records can be trusted to say which tokens are whose."""
        if records_path(Path(prefix)).as_posix() in self.damaged:
            return None
        try:
            shard = Shard.open(self.directory / prefix)
            records, faults = read_records(records_path(self.directory / prefix))
        except DamagedShard:
            return None
        if records is None or faults or len(records.table) != shard.segments.examples or not shard.rows:
            return None
        if unordered_tokens(shard, self.promised) is not None:
            return None
        return (shard, records) if int(shard.tokens.max()) < self.promised.vocabulary_size else None

    def _prove_texts(self, prefix: str, chosen: ChosenRows, records: Records, student: ShippedStudent) -> None:
        """Hold the decoded text of each example against the digest in its record."""
        promised = records.text_digests()
        segments, wrong, told = chosen.segments, [], {}
        for start, stop in blocks(segments.example_bounds, _BLOCK_TOKENS):
            first, last = segments.example_starts[[start, stop]]
            begin, end = segments.example_bounds[[start, stop]]
            texts = trained_texts(
                tokens=chosen.tokens[begin:end],
                lengths=segments.lengths[first:last],
                modes=segments.modes[first:last],
                example_starts=segments.example_bounds[start : stop + 1] - begin,
                encoder=student.encoder,
            )
            found = np.stack(binary_digests(texts), axis=1)
            for at in np.flatnonzero((found != promised[chosen.examples[start:stop]]).any(axis=1)).tolist():
                wrong.append(start + at)
                told[start + at] = (texts[at].as_py()[: 4 * _SHOWN].decode(errors="replace"), found[at])
            self.progress.advance(int(end - begin))
        self.checked["texts"] += segments.examples
        for at, sentence in first_few(np.array(wrong, dtype=np.int64), lambda at: _other_text(*told[at], records)):
            self._find(prefix, chosen, at, records, sentence)

    def _check_prompts(
        self,
        prefix: str,
        chosen: ChosenRows,
        records: Records,
        checker: PromptChecker,
        share: float,
        found: PromptCheck,
    ) -> int:
        """Check the prompts of a keyed sample; return how many examples were looked at."""
        if records.ids is None:
            return 0
        ids = records.ids[chosen.examples]
        keys = draw_keys(id_hi=ids[:, 0], id_lo=ids[:, 1], seed=0, purpose="verify prompts")
        looked_at, before = np.flatnonzero(_drawn(keys, share)), len(found.faults)
        for example in looked_at.tolist():
            checker.check(chosen.tokens, chosen.segments, example, found)
        sentences = dict(found.faults[before:])
        for at, sentence in first_few(np.array(list(sentences), dtype=np.int64), lambda at: sentences[at]):
            self._find(prefix, chosen, at, records, sentence)
        return len(looked_at)

    def _check_erasing(
        self, prefix: str, chosen: ChosenRows, records: Records, checker: PromptChecker, student: ShippedStudent
    ) -> None:
        """Nothing that was erased stands in what the student sees, and its question is what it was."""
        found = check_erasing(chosen, records, checker, student.encoder)
        self.checked["erased_prompts"] += found.checked
        for at, sentence in first_few(np.array(sorted(found.faults), dtype=np.int64), lambda at: found.faults[at]):
            self._find(prefix, chosen, at, records, sentence)
        for why, number in sorted(found.not_checked.items()):
            self.not_checked.append(f"{number:,} erased prompts of {prefix}: they {why}")

    def _find(self, prefix: str, chosen: ChosenRows, at: int, records: Records, sentence: str) -> None:
        row = int(chosen.rows[chosen.segments.example_rows[at]])
        file = tokens_path(Path(prefix)).as_posix()
        self.findings.append(Finding(file, sentence, row, records.example_id(int(chosen.examples[at]))))

    def _tell_unchecked(self, name: str, examples: int, texts: int, looked_at: int, prompts: PromptCheck) -> None:
        if self.sampler is not None:
            self.not_checked.append(f"the text of {examples - texts:,} of the {examples:,} examples of dataset {name}")
        if looked_at < examples:
            left = f"the prompts of {examples - looked_at:,} of the {examples:,} examples of dataset {name}"
            self.not_checked.append(f"{left}: a keyed sample was encoded again")
        for why, number in sorted(prompts.not_checked.items()):
            self.not_checked.append(f"the prompts of {number:,} sampled examples of dataset {name}: they {why}")


def _drawn(keys: np.ndarray, share: float) -> np.ndarray:
    """bool [keys]: about this share of them."""
    if share >= 1:
        return np.ones(len(keys), dtype=np.bool_)
    return np.asarray(keys < np.uint64(share * 2**64))


def _other_text(text: str, digest: np.ndarray, records: Records) -> str:
    shown = quoted(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
    owners = np.flatnonzero((records.text_digests() == digest).all(axis=1))
    if len(owners):
        other = f"example {records.example_id(int(owners[0]))} of the same shard"
        return f"its trained tokens say {shown}, which its record does not promise; {other} has that text"
    return f"its trained tokens say {shown}, and its record promises another text, by its digest"
