"""Proving a build from its directory alone: structure, then text, then prompts.

`shards.verify` proves files, format and counts. Here the trained tokens of every example are decoded by the tokenizer
that the build ships and held against the digest of the text that went into them, so that a changed token, mask or order
is found though every digest of a file was made anew. A sample of prompts is held against the reference.
Every check goes on after what it finds; what could not be looked at is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from orca_recipes.contract.draws import binary_digests, draw_keys
from orca_recipes.contract.spelling import quoted
from orca_recipes.contract.trained_parts import PARTS, TrainedParts, parts_told
from orca_recipes.counted import counted
from orca_recipes.progress import Progress
from orca_recipes.prove.asked_counts import check_plan_counts
from orca_recipes.prove.asked_curriculum import check_curriculum
from orca_recipes.prove.erasing import check_erasing
from orca_recipes.prove.given_check import GivenChecker
from orca_recipes.prove.kept_apart import check_apart, pairs_apart
from orca_recipes.prove.named_parts import check_names, check_views
from orca_recipes.prove.recipe_words import check_words
from orca_recipes.prove.shipped_settings import check_settings
from orca_recipes.prove.shipped_student import ShippedStudent, Untold, open_shipped
from orca_recipes.recipe.choice import Kinds
from orca_recipes.run.renderers.prompts import PromptCheck, PromptChecker
from orca_recipes.run.segments.trained_text import blocks, trained_texts
from orca_recipes.run.tokens.windows import Cutting
from orca_recipes.shards.checks.invariants import first_few
from orca_recipes.shards.checks.sampling import ChosenRows, Sampler, choose_rows
from orca_recipes.shards.checks.shard_checks import OpenShard
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.checks.verify_report import Finding, Report
from orca_recipes.shards.layout import is_trained, tokens_path
from orca_recipes.shards.manifest import NAME, Manifest, ShardCounts
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import CUT, GIVEN, TRAIN_ON, TRUNCATED, TURNS_DROPPED, WINDOW, Records
from orca_recipes.store.arrow_files import indices, keep_pandas_out

PROMPTS_CHECKED = 2048
"""About how many examples of a dataset have their prompts encoded again, drawn by key: the reference is slow."""

# Texts of a block are decoded and held at once: this bounds the memory for any size of shard.
_BLOCK_TOKENS = 1 << 20
_SHOWN = 60


def prove(directory: Path, *, kinds: Kinds, sample: float | None = None, progress: Progress) -> Report:
    """Check a build directory whole, or a keyed sample of its rows.

    Args:
        kinds: the catalogue, for the kind of tokenizer that the build's recipe names.
        sample: the share of rows whose tokens and text are looked at, 0 to 1; then no digest of a file is taken.
    Raises: BuildError where there is no such directory.
    """
    keep_pandas_out()
    sampler = None if sample is None else partial(sampled_rows, sample)
    proof = _Proof(directory, kinds, sampler, progress)
    structure = verify(directory, sampler=sampler, watcher=progress, onlooker=proof)
    promised = proof.promised
    if promised is None:
        return structure
    proof.tell_unchecked()
    checked: dict[str, int] = {**structure.checked}
    if pairs := pairs_apart(promised):
        checked["pairs_of_datasets_kept_apart"] = pairs
    others = [
        *check_words(promised),
        *check_curriculum(directory, promised),
        *check_plan_counts(promised),
        *check_apart(directory, promised, proof.halves),
    ]
    return Report(
        (*structure.findings, *others, *proof.findings),
        {**checked, **proof.checked},
        (*structure.not_checked, *proof.not_checked),
        structure.data_digest,
        tuple(field for field in structure.unknowable if field not in proof.proven),
    )


def sampled_rows(share: float, prefix: str, rows: int) -> np.ndarray:
    """Choose a sample of a shard's rows, at least one: drawn by key, the same on every machine.

    Returns: int64 [chosen], rising.
    """
    numbers = np.arange(rows, dtype=np.uint64)
    keys = draw_keys(id_hi=np.zeros(rows, dtype=np.uint64), id_lo=numbers, seed=0, purpose=f"verify {prefix}")
    chosen = np.flatnonzero(_drawn(keys, share))
    return chosen if len(chosen) else np.array([np.argmin(keys)])


@dataclass
class _DatasetProof:
    """The state of one dataset's proof.

    readable: examples of shards that could be read; texts, looked_at: those whose text was proven, and those whose
    prompts were looked at.
    """

    prompts: PromptCheck = field(default_factory=PromptCheck)
    readable: int = 0
    texts: int = 0
    looked_at: int = 0
    not_checked: list[str] = field(default_factory=list)


@dataclass
class _Proof:
    """The proof of text, as far as it is: an onlooker of `verify`.

    halves: prefix to uint64 [examples], the high halves of the ids of shards whose records could be read.
    proven: fields of the manifest that elsewhere nothing proves.
    """

    directory: Path
    kinds: Kinds
    sampler: Sampler | None
    progress: Progress
    promised: Manifest | None = None
    student: ShippedStudent | Untold = field(init=False)
    checker: PromptChecker = field(init=False)
    given: GivenChecker = field(init=False)
    findings: list[Finding] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    halves: dict[str, np.ndarray] = field(default_factory=dict)
    datasets: dict[str, _DatasetProof] = field(default_factory=dict)
    proven: set[str] = field(default_factory=set)

    def begin(self, promised: Manifest, damaged: frozenset[str]) -> None:
        self.promised = promised
        student = open_shipped(self.directory, promised, self.kinds, damaged)
        if isinstance(student, Finding):
            self.findings.append(student)
            student = Untold("the tokenizer could not be used")
        if isinstance(student, Untold):
            self.not_checked.append(f"the text of all examples: {student.why}")
        self.student = student
        self.datasets = {name: _DatasetProof() for name in promised.datasets}
        if isinstance(student, ShippedStudent):
            self.checker = PromptChecker(student.encoder, student.inference)
            cutting = Cutting(promised.row_tokens, promised.bos_id)
            self.given = GivenChecker(student.encoder, student.inference, promised.recipe.get("template"), cutting)
            self._prove_all_is_spelt(promised, student)
            self.findings += check_settings(self.directory, promised, student.encoder.vocabulary, student.template)

    def look(self, dataset: str, counts: ShardCounts, opened: OpenShard) -> None:
        records, done = opened.records, 0
        if records is not None:
            # No copy: the checks of structure hold all ids anyway.
            self.halves[counts.prefix] = records.ids[:, 0]
            assert self.promised is not None
            self.findings += check_names(self.promised, dataset, counts.prefix, records)
            self.findings += check_views(self.promised, dataset, counts.prefix, records)
        if isinstance(self.student, ShippedStudent):
            if opened.shard is None or records is None or not self._is_provable(opened, opened.shard):
                told = f"the text of {counts.prefix}: its files are damaged"
                self.datasets[dataset].not_checked.append(told)
            else:
                done = self._prove_shard(dataset, counts.prefix, opened.shard, records, self.student)
        self.progress.advance(counts.tokens - done)

    def summary(self) -> str:
        prompts = sum(dataset.prompts.checked for dataset in self.datasets.values())
        return f"{counted(self.checked['texts'], 'text')} and {counted(prompts, 'prompt')}"

    def tell_unchecked(self) -> None:
        """Record the number of checked prompts for every dataset, and all that was not checked."""
        if not isinstance(self.student, ShippedStudent):
            return
        for name, dataset in self.datasets.items():
            self.checked["prompts"] += dataset.prompts.checked
            self.not_checked += dataset.not_checked
            self._tell_unchecked(name, dataset)

    def _is_provable(self, opened: OpenShard, shard: Shard) -> bool:
        """Tell whether index and records can be trusted to assign tokens to examples."""
        assert self.promised is not None
        return opened.agree and int(shard.tokens.max(initial=0)) < self.promised.vocabulary_size

    def _prove_shard(self, dataset: str, prefix: str, shard: Shard, records: Records, student: ShippedStudent) -> int:
        """Prove a shard, or a sample of its rows; returns how many tokens the watcher was told of."""
        proof = self.datasets[dataset]
        chosen = choose_rows(shard, self.sampler, prefix)
        self._prove_texts(prefix, chosen, records, student)
        self._count_unknown(dataset, prefix, chosen, records, student)
        proof.readable += shard.segments.examples
        proof.texts += chosen.segments.examples
        proof.looked_at += self._check_prompts(dataset, prefix, chosen, records)
        self._check_erasing(prefix, chosen, records, student, proof)
        return int(chosen.segments.token_starts[-1])

    def _prove_all_is_spelt(self, promised: Manifest, student: ShippedStudent) -> None:
        """Hold the counts of text that the vocabulary cannot spell against one that spells everything."""
        if student.encoder.vocabulary.unknown_id is not None or student.encoder.drops:
            return
        self.proven.add("datasets.unknown")
        for name, dataset in promised.datasets.items():
            if dataset.unknown is not None and (dataset.unknown.examples or dataset.unknown.answers):
                told = counted(max(dataset.unknown.examples, dataset.unknown.answers), "example")
                sentence = (
                    f"dataset {name}: it counts {told} with text that cannot be spelt, and its tokenizer spells all"
                )
                self.findings.append(Finding(NAME, sentence))

    def _prove_texts(self, prefix: str, chosen: ChosenRows, records: Records, student: ShippedStudent) -> None:
        """Hold the decoded text of each example against the digest in its record."""
        promised = records.text_digests
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
                # A character takes at most four bytes of UTF-8.
                told[start + at] = (texts[at].as_py()[: 4 * _SHOWN].decode(errors="replace"), found[at])
            self.progress.advance(int(end - begin))
        self.checked["texts"] += segments.examples
        for at, sentence in first_few(np.array(wrong, dtype=np.int64), lambda at: _other_text(*told[at], records)):
            self._find(prefix, chosen, at, records, sentence)

    def _count_unknown(
        self, dataset: str, prefix: str, chosen: ChosenRows, records: Records, student: ShippedStudent
    ) -> None:
        """Count text that the vocabulary could not spell: no answer holds any, unless the recipe trains it."""
        unknown = student.encoder.vocabulary.unknown_id
        if unknown is None:
            return
        segments = chosen.segments
        passes = range(0, len(chosen.tokens), _BLOCK_TOKENS)
        found = [begin + np.flatnonzero(chosen.tokens[begin : begin + _BLOCK_TOKENS] == unknown) for begin in passes]
        places = np.concatenate([np.zeros(0, dtype=np.int64), *found])
        held = np.unique(np.searchsorted(segments.token_starts, places, side="right") - 1)
        answers = held[is_trained(segments.modes[held])]
        examples = np.unique(np.searchsorted(segments.example_starts, held, side="right") - 1)
        self.checked["examples_with_unknown_text"] += len(examples)
        self.checked["answers_with_unknown_text"] += len(answers)
        if not _rejects_unknown(self.promised, dataset):
            return
        taught = np.unique(np.searchsorted(segments.example_starts, answers, side="right") - 1)
        text = student.encoder.decode(ids=np.array([unknown]))
        for at, sentence in first_few(taught, lambda _: f"{text} is trained, which the recipe rejects"):
            self._find(prefix, chosen, at, records, sentence)

    def _check_prompts(self, dataset: str, prefix: str, chosen: ChosenRows, records: Records) -> int:
        """Check the prompts of a keyed sample; return how many examples were looked at."""
        if self.promised is None:
            return 0
        found = self.datasets[dataset].prompts
        share = PROMPTS_CHECKED / max(self.promised.datasets[dataset].examples, 1)
        ids = records.ids[chosen.examples]
        keys = draw_keys(id_hi=ids[:, 0], id_lo=ids[:, 1], seed=0, purpose="verify prompts")
        looked_at, before = np.flatnonzero(_drawn(keys, share)), len(found.faults)
        told = self._given(chosen, records, looked_at)
        parts = _trained_parts(self.promised, dataset)
        for example, given in zip(looked_at.tolist(), told, strict=True):
            if given is None:
                self.checker.check(chosen.tokens, chosen.segments, example, found)
            else:
                self._check_given(chosen, example, given, records, found, parts)
        sentences = dict(found.faults[before:])
        for at, sentence in first_few(np.array(list(sentences), dtype=np.int64), lambda at: sentences[at]):
            self._find(prefix, chosen, at, records, sentence)
        return len(looked_at)

    def _given(self, chosen: ChosenRows, records: Records, examples: np.ndarray) -> list[str | None]:
        """Read the conversations before some examples' answers; None for an example whose record keeps none."""
        if GIVEN not in records.table.column_names:
            return [None] * len(examples)
        told: list[str | None] = records.table[GIVEN].take(indices(chosen.examples[examples])).to_pylist()
        return told

    def _check_given(
        self,
        chosen: ChosenRows,
        example: int,
        given: str,
        records: Records,
        found: PromptCheck,
        parts: TrainedParts | None,
    ) -> None:
        """Hold an example against its conversation, rendered anew."""
        at = int(chosen.examples[example])
        flags = int(records.column("flags")[at])
        window = records.table[WINDOW][at].as_py() if WINDOW in records.table.column_names else None
        of_rule = records.table[TRAIN_ON][at].as_py() if TRAIN_ON in records.table.column_names else None
        segments = chosen.segments
        first, last = segments.example_starts[example : example + 2]
        start, stop = segments.example_bounds[example : example + 2]
        fault = self.given.fault(
            given,
            np.asarray(chosen.tokens[start:stop], dtype=np.int64),
            np.repeat(is_trained(segments.modes[first:last]), segments.lengths[first:last]),
            is_cut=bool(flags & CUT),
            is_shortened=bool(flags & (TRUNCATED | TURNS_DROPPED)),
            window=window,
            parts=parts if of_rule is None else parts_told(of_rule),
        )
        if fault is None:
            found.checked += 1
        else:
            found.faults.append((example, fault))

    def _check_erasing(
        self, prefix: str, chosen: ChosenRows, records: Records, student: ShippedStudent, proof: _DatasetProof
    ) -> None:
        """Check prompt erasing: no erased text is left in the student's tokens, and the question is unchanged."""
        found = check_erasing(chosen, records, self.checker, student.encoder)
        self.checked["erased_prompts"] += found.checked
        for at, sentence in first_few(np.array(sorted(found.faults), dtype=np.int64), lambda at: found.faults[at]):
            self._find(prefix, chosen, at, records, sentence)
        for why, number in sorted(found.not_checked.items()):
            proof.not_checked.append(f"{counted(number, 'erased prompt')} of {prefix}: they {why}")

    def _find(self, prefix: str, chosen: ChosenRows, at: int, records: Records, sentence: str) -> None:
        row = int(chosen.rows[chosen.segments.example_rows[at]])
        file = tokens_path(Path(prefix)).as_posix()
        self.findings.append(Finding(file, sentence, row, records.example_id(int(chosen.examples[at]))))

    def _tell_unchecked(self, name: str, dataset: _DatasetProof) -> None:
        examples = dataset.readable
        whole = f"{counted(examples, 'example')} of dataset {name}"
        if self.sampler is not None:
            left = examples - dataset.texts
            self.not_checked.append(f"the text of {left:,} of the {whole}")
        if dataset.looked_at < examples:
            left = examples - dataset.looked_at
            self.not_checked.append(f"the prompts of {left:,} of the {whole}: a keyed sample was encoded again")
        for why, number in sorted(dataset.prompts.not_checked.items()):
            self.not_checked.append(
                f"the prompts of {counted(number, 'sampled example')} of dataset {name}: they {why}"
            )


def _trained_parts(promised: Manifest, dataset: str) -> TrainedParts | None:
    """Return the parts of answers that a dataset trains; None where its recipe says nothing."""
    datasets = promised.recipe.get("datasets")
    table = datasets.get(dataset) if isinstance(datasets, Mapping) else None
    said = table.get("train_on") if isinstance(table, Mapping) else None
    if not isinstance(said, Mapping):
        return None
    return TrainedParts(**{part: bool(said.get(part, True)) for part in PARTS})


def _rejects_unknown(promised: Manifest | None, dataset: str) -> bool:
    """Tell whether a build promises to train no answer on the unknown token; builds that count none do not."""
    if promised is None or promised.datasets[dataset].unknown is None:
        return False
    datasets = promised.recipe.get("datasets")
    table = datasets.get(dataset) if isinstance(datasets, Mapping) else None
    return not isinstance(table, Mapping) or table.get("unknown", "reject") == "reject"


def _drawn(keys: np.ndarray, share: float) -> np.ndarray:
    """Return bool [keys]: about this share of them."""
    # 2**64 itself does not fit into a uint64.
    if share >= 1:
        return np.ones(len(keys), dtype=np.bool_)
    return np.asarray(keys < np.uint64(share * 2**64))


def _other_text(text: str, digest: np.ndarray, records: Records) -> str:
    shown = quoted(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
    owners = np.flatnonzero((records.text_digests == digest).all(axis=1))
    if len(owners):
        other = f"example {records.example_id(int(owners[0]))} of the same shard"
        return f"its trained tokens say {shown}, which its record does not promise; {other} has that text"
    return f"its trained tokens say {shown}, and its record promises another text, by its digest"
