"""Prove that an erased prompt is erased: compare the student's tokens with the teacher's prompt in the records.

The text of every context is searched for what was erased: all of it, or eight words of it in a row. Few examples hold
any, and these are looked at closely: a question may well say what an instruction says, and the student's own words at
other places may not. That a question is what it was is shown by its digest, on these examples and on a keyed sample.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.draws import draw_keys, id_text
from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.quotes import quoted_runs, quoting
from orca_recipes.contract.spelling import quoted
from orca_recipes.run.conversations.views import erased_texts
from orca_recipes.run.renderers.prompts import CANNOT_BE_PARTED, PromptChecker
from orca_recipes.run.segments.trained_text import blocks, context_texts
from orca_recipes.run.tokens.erased_question import given_before, kept_question, kept_question_digest
from orca_recipes.shards.checks.sampling import ChosenRows
from orca_recipes.shards.records import GIVEN, Records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

QUESTIONS_CHECKED = 2048
"""About how many questions of a shard are held against their digests, drawn by key."""

# Texts of a block are decoded and held at once: this bounds the memory for any size of shard.
_BLOCK_TOKENS = 1 << 22
_SHOWN = 60


@dataclass
class ErasingCheck:
    """Result of the check: sentences by example, erased prompts that were searched, and those left open by reason."""

    faults: dict[int, str] = field(default_factory=dict)
    checked: int = 0
    not_checked: Counter[str] = field(default_factory=Counter)


def check_erasing(chosen: ChosenRows, records: Records, checker: PromptChecker, encoder: Encoder) -> ErasingCheck:
    """Check every example of the rows whose record tells another view of its teacher."""
    found = ErasingCheck()
    views_told = records.table["teacher_view"]
    if views_told.null_count == len(views_told):
        return found
    told = views_told.take(chosen.examples).to_pylist()
    erased = np.flatnonzero([view is not None for view in told])
    if not len(erased):
        return found
    views, unreadable = _views({told[at] for at in erased.tolist()})
    for at in erased.tolist():
        if told[at] in unreadable:
            found.faults[at] = "its record tells what its teacher was asked in words that are none of ours"
            told[at] = None
    erased = np.array([at for at in erased.tolist() if at not in found.faults], dtype=np.int64)
    if not len(erased):
        return found
    suspects = sorted({*_suspects(chosen, told, views, encoder), *_sample(erased, chosen, records)})
    for at in suspects:
        _look_closely(chosen, records, at, views[told[at]], checker, encoder, found)
    found.checked = len(erased)
    return found


def _views(told: set[str]) -> tuple[dict[str, tuple[str, ...]], set[str]]:
    """Read the erased texts of each view of a teacher, and find the views that cannot be read."""
    views, unreadable = {}, set()
    for view in told:
        try:
            views[view] = erased_texts(view)
        # The column may be written by anybody: JSON of other types, or lists nested past the end of the stack.
        except (ValueError, TypeError, RecursionError):
            unreadable.add(view)
    return views, unreadable


def _suspects(
    chosen: ChosenRows, told: list[str | None], views: Mapping[str, tuple[str, ...]], encoder: Encoder
) -> Iterator[int]:
    """Find the examples with a piece of the erased text anywhere in their context."""
    import polars as pl

    segments = chosen.segments
    most = max(len(pieces) for pieces in views.values())
    for start, stop in blocks(segments.example_bounds, _BLOCK_TOKENS):
        first, last = segments.example_starts[[start, stop]]
        begin, end = segments.example_bounds[[start, stop]]
        contexts = context_texts(
            tokens=chosen.tokens[begin:end],
            lengths=segments.lengths[first:last],
            modes=segments.modes[first:last],
            example_starts=segments.example_bounds[start : stop + 1] - begin,
            encoder=encoder,
        )
        for place in range(most):
            pieces = [_piece(views, view, place) for view in told[start:stop]]
            held = quoting(pl.Series(contexts), pl.Series(pieces, dtype=pl.String), fewest_words=1)
            yield from (start + held.arg_true()).to_list()


def _piece(views: Mapping[str, tuple[str, ...]], view: str | None, place: int) -> str | None:
    pieces = views[view] if view is not None else ()
    return pieces[place] if place < len(pieces) else None


def _sample(erased: np.ndarray, chosen: ChosenRows, records: Records) -> list[int]:
    ids = records.ids[chosen.examples[erased]]
    keys = draw_keys(id_hi=ids[:, 0], id_lo=ids[:, 1], seed=0, purpose="verify erased questions")
    share = QUESTIONS_CHECKED / max(len(records.table), 1)
    # 2**64 itself does not fit into a uint64.
    drawn = keys < np.uint64(min(share, 1 - 1e-9) * 2**64)
    return [int(at) for at in erased[drawn]]


def _look_closely(
    chosen: ChosenRows,
    records: Records,
    at: int,
    erased: tuple[str, ...],
    checker: PromptChecker,
    encoder: Encoder,
    found: ErasingCheck,
) -> None:
    given = records.table[GIVEN][int(chosen.examples[at])].as_py() if GIVEN in records.table.column_names else None
    messages = _messages(chosen, at, checker) if given is None else given_before(given)
    if messages is None:
        found.not_checked[CANNOT_BE_PARTED] += 1
        return
    asked = [message["content"] for message in messages if message["role"] == "user"]
    question = asked[-1] if asked else ""
    if given is not None:
        question = kept_question(given, encoder)
    promised = records.table["kept_question_digest"][int(chosen.examples[at])].as_py()
    if promised is not None and id_text(*kept_question_digest(question)) != promised.hex():
        found.faults[at] = f"its question is {_shown(question)}, and its record promises another, by its digest"
        return
    for message in messages:
        if message["role"] != "system":
            continue
        runs = [run for text in erased for run in quoted_runs(message["content"], text, fewest_words=1)]
        if runs:
            found.faults[at] = f"its system message holds {_shown(runs[0])}, which only the teacher was told"
            return


def _messages(chosen: ChosenRows, at: int, checker: PromptChecker) -> list[Mapping[str, str]] | None:
    segments = chosen.segments
    first, last = (int(bound) for bound in segments.example_starts[at : at + 2])
    start = int(segments.example_bounds[at])
    ends = (segments.token_starts[first + 1 : last + 1] - start).tolist()
    ids = np.asarray(chosen.tokens[start : start + ends[-1]], dtype=np.int64)
    return checker.parted(ids, ends, segments.modes[first:last])


def _shown(text: str) -> str:
    return quoted(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
