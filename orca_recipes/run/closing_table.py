"""The table at the end of a build: for each collection the amount asked for, the examples it gave, and the losses.

It is told from the manifest alone, so a build that stood already ends with the same one. Names are the user's: they are
shown as text, and a long one is cut in the table alone.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orca_recipes.counted import counted
from orca_recipes.prove.asked_counts import mixture_of, mixtures_of
from orca_recipes.recipe.mixtures import Mixture
from orca_recipes.run.examples.selection import SPARE
from orca_recipes.shards.checks.verify_report import Finding
from orca_recipes.shards.manifest import DatasetCounts, Manifest, StageCounts
from orca_recipes.shards.records import DUPLICATE, ELSEWHERE, EXCLUDED, HELD_OUT, NOT_DRAWN, OTHER_TASK, RESERVED
from orca_recipes.shards.show.visible import visible
from orca_recipes.text_table import in_columns

_LEFT_OUT = (DUPLICATE, ELSEWHERE, EXCLUDED, RESERVED, HELD_OUT, OTHER_TASK)
_TOKENS = {"question": "question tokens", "conversation": "tokens", "trained": "trained tokens"}
# A screen: of more collections the table shows those that lost most and the largest, and the manifest has all.
_MOST_LINES = 40
_MOST_NOTES = 20
# On a narrow terminal columns of counts go first, then names shrink to the least; shares and losses always stay.
_NAME_CHARS = 40
_LEAST_NAME_CHARS = 12
_ASKED_CHARS = 24
_REASONS_SHOWN = 3
_COLUMNS_SHOWN = 8


@dataclass(frozen=True)
class CollectionLine:
    """Counts of one collection in a dataset.

    asked: in words. rows, tokens, trained_tokens: of the dataset's examples. passed_over, rejected: rows by reason.
    untrained: answers that filters left as context, by filter and reason. unused: columns of its files that none reads.
    """

    dataset: str
    collection: str
    asked: str
    examples: int
    tokens: int
    trained_tokens: int
    passed_over: Mapping[str, int]
    rejected: Mapping[str, int]
    unused: tuple[str, ...] = ()
    untrained: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.collection}"


def collection_lines(manifest: Manifest) -> list[CollectionLine]:
    """Make one line for each collection of each dataset, also for one that gave nothing."""
    return [line for name in manifest.datasets for line in _of_dataset(manifest, name)]


def closing_table(manifest: Manifest, *, width: int | None = None) -> str:
    """Write the closing table, followed by the reasons for lost rows, one a line.

    Args:
        width: characters of a line; None: of the terminal, or as many as it takes where there is none.
    """
    lines = collection_lines(manifest)
    room = width if width is not None else _terminal_width()
    shown, more = _chosen(lines)
    totals = manifest.datasets
    several = len(totals) > 1
    wide = _table(shown, totals, several=several, with_counts=True, name_chars=_NAME_CHARS)
    if room is not None and max(map(len, wide)) > room:
        least = _table(shown, totals, several=several, with_counts=False, name_chars=_LEAST_NAME_CHARS)
        more_chars = max(0, room - max(map(len, least)))
        wide = _table(shown, totals, several=several, with_counts=False, name_chars=_LEAST_NAME_CHARS + more_chars)
    told = [f"and {counted(more, 'more collection')}: the manifest has all"] if more else []
    return "\n".join([*wide, *told, *_notes(lines, several=several), *_pack_notes(manifest), *_text_notes(manifest)])


def _of_dataset(manifest: Manifest, dataset: str) -> Iterator[CollectionLine]:
    mixtures = mixtures_of(manifest)
    counts = manifest.datasets[dataset]
    stages = {stage.name: stage for stage in counts.stages}
    known = {} if isinstance(mixtures, Finding) else mixtures
    mixture = mixture_of(manifest, dataset, known) if known else ""
    for draw in (stage for name, stage in stages.items() if name.startswith("mix ")):
        collection = draw.name.partition("/")[2]
        told = counts.collections.get(collection)
        subject = f"{dataset}/{collection}"
        line = [
            f"read {collection}",
            *(f"{verb} {subject}" for verb in ("ask", "answer", "converse", "sift", "tokenize")),
        ]
        passed = [stage for name in line if (stage := stages.get(name)) is not None]
        keep = stages.get(f"keep {subject}")
        left_out = {reason: number for reason, number in draw.rejected.items() if reason in _LEFT_OUT}
        yield CollectionLine(
            dataset,
            collection,
            _asked(known[mixture], collection) if mixture in known else "",
            0 if told is None else told.examples,
            0 if told is None else told.tokens,
            0 if told is None else told.trained_tokens,
            _added([passed[0].passed_over if passed else {}, left_out]),
            _added([*(_told(stage) for stage in passed), {} if keep is None else _told(keep)]),
            passed[0].unused_columns if passed else (),
            _added([stage.untrained for stage in passed]),
        )


def _told(stage: StageCounts) -> dict[str, int]:
    return {reason: n for reason, n in stage.rejected.items() if reason not in (NOT_DRAWN, SPARE, *_LEFT_OUT)}


def _added(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for reason, number in part.items():
            total[reason] = total.get(reason, 0) + number
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def _asked(mixture: Mixture, collection: str) -> str:
    """Word a mixture's amount of a collection."""
    take = mixture.take.get(collection)
    if take is None:
        return f"of {mixture.from_}" if mixture.from_ is not None else f"held out of {mixture.holdout_of}"
    if take.share is not None:
        return f"{float(take.share):.1%} of {'rows' if mixture.tokens is None else _TOKENS[mixture.tokens_of]}"
    for number, words in ((take.rows, "rows"), (take.per_task, "a task"), (take.per_category, "a category")):
        if number is not None:
            return f"{number:,} {words}"
    return "all" if take.all else "by its rate"


def _chosen(lines: Sequence[CollectionLine]) -> tuple[list[CollectionLine], int]:
    """Choose the lines to show, in their order, and count the others; of too many, those with most tokens or most
    rejected rows."""
    if len(lines) <= _MOST_LINES:
        return list(lines), 0
    # Half of the lines for losses, which large collections would crowd out.
    half = _MOST_LINES // 2
    by_tokens = sorted(range(len(lines)), key=lambda place: -lines[place].tokens)
    by_loss = sorted(range(len(lines)), key=lambda place: -sum(lines[place].rejected.values()))
    chosen = list(dict.fromkeys([*by_loss[:half], *by_tokens]))[:_MOST_LINES]
    return [lines[place] for place in sorted(chosen)], len(lines) - len(chosen)


def _table(
    lines: Sequence[CollectionLine],
    totals: Mapping[str, DatasetCounts],
    *,
    several: bool,
    with_counts: bool,
    name_chars: int,
) -> list[str]:
    heads = ["collection", "asked", "examples", "tokens", "trained", "passed over", "rejected"]
    if not with_counts:
        heads = ["collection", "asked", "ex.", "tokens", "trained", "over", "rej."]
    rows = [heads]
    for line in lines:
        total = totals[line.dataset]
        shares = [
            _share(mine, whole, with_counts=with_counts)
            for mine, whole in (
                (line.examples, total.examples),
                (line.tokens, total.tokens),
                (line.trained_tokens, total.trained_tokens),
            )
        ]
        lost = [f"{sum(reasons.values()):,}" for reasons in (line.passed_over, line.rejected)]
        name = _cut(line.name if several else line.collection, name_chars)
        rows.append([name, _cut(line.asked, _ASKED_CHARS), *shares, *lost])
    return in_columns(rows, right=range(2, len(heads)))


def _share(mine: int, whole: int, *, with_counts: bool) -> str:
    share = f"{mine / whole if whole else 0:.1%}"
    return f"{mine:,} {share:>6}" if with_counts else share


def _cut(text: str, chars: int) -> str:
    """Cut a text to so many characters from its start: the end of a long name tells more."""
    text = visible(text)
    return text if len(text) <= chars else f"…{text[1 - chars :]}"


def _notes(lines: Sequence[CollectionLine], *, several: bool) -> list[str]:
    """Write the notes of each collection: reasons for passed-over and rejected rows, and columns not used."""
    notes = []
    for line in lines:
        name = visible(line.name if several else line.collection)
        for what, reasons in (("passed over", line.passed_over), ("rejected", line.rejected)):
            if reasons:
                notes.append(f"  {name}: {sum(reasons.values()):,} {what}: {_reasons(reasons)}")
        if line.untrained:
            answers = counted(sum(line.untrained.values()), "answer")
            notes.append(f"  {name}: {answers} untrained: {_reasons(line.untrained)}")
        if line.unused:
            told = ", ".join(visible(column) for column in line.unused[:_COLUMNS_SHOWN])
            more = len(line.unused) - _COLUMNS_SHOWN
            notes.append(f"  {name}: columns not used: {told}" + (f" and {more:,} more" if more > 0 else ""))
    left = len(notes) - _MOST_NOTES
    return notes if left <= 0 else [*notes[:_MOST_NOTES], f"  and {left:,} more such lines"]


def _pack_notes(manifest: Manifest) -> list[str]:
    """Write the notes on packing, which looks at a dataset whole."""
    packs = [(name, stage) for name, counts in manifest.datasets.items() for stage in counts.stages]
    return [
        f"  packing {visible(name)}: {sum(stage.rejected.values()):,} rejected: {_reasons(stage.rejected)}"
        for name, stage in packs
        if stage.name == f"pack {name}" and stage.rejected
    ]


def _text_notes(manifest: Manifest) -> list[str]:
    """Write the notes on text trained otherwise than written, dataset by dataset, for kept and rejected examples
    alike."""
    notes = []
    for name, counts in manifest.datasets.items():
        for held, what in (
            (counts.unknown, "the vocabulary cannot spell"),
            (counts.normalized, "the normalizer changes"),
        ):
            if held is not None and held.examples:
                told = f"{counted(held.examples, 'example')}, {counted(held.answers, 'answer')}"
                notes.append(f"  {visible(name)}: text that {what}: {told}")
    return notes


def _reasons(reasons: Mapping[str, int]) -> str:
    first = [f"{number:,} {visible(reason)}" for reason, number in list(reasons.items())[:_REASONS_SHOWN]]
    more = len(reasons) - len(first)
    return "; ".join([*first, *([f"and {counted(more, 'other reason')}"] if more > 0 else [])])


def _terminal_width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def shares_json(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return the table for programs: dataset to collection to amounts asked, given and lost."""
    found: dict[str, dict[str, Any]] = {name: {} for name in manifest.datasets}
    for line in collection_lines(manifest):
        found[line.dataset][line.collection] = {
            "asked": line.asked,
            "examples": line.examples,
            "tokens": line.tokens,
            "trained_tokens": line.trained_tokens,
            "passed_over": dict(line.passed_over),
            "rejected": dict(line.rejected),
            "columns_not_used": list(line.unused),
            **({"untrained": dict(line.untrained)} if line.untrained else {}),
        }
    return found
