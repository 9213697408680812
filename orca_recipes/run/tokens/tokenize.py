"""Verb `tokenize`: conversations become tokens with their mask, in unpacked pairs of the shard's own format.

In an unpacked pair a document is an example, so that another packing costs no tokenizing. Beside it stand the records:
one line an example, in the same order. Conversations that an earlier stage tokenized are not tokenized again: its pairs
are taken over, and the stage's ledger says which of their examples count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from orca_recipes.contract.draws import draw_keys
from orca_recipes.contract.kinds import Encoder, Tokenizer
from orca_recipes.contract.markup import Markup
from orca_recipes.contract.rendering import EXPANSION_LIMIT
from orca_recipes.contract.trained_parts import TrainedParts
from orca_recipes.counted import counted
from orca_recipes.plan.compile import conversations_stage
from orca_recipes.recipe.train_on import TrainOn
from orca_recipes.run.renderers.last_exchange import finished_before, trained_as
from orca_recipes.run.renderers.prompt_trial import ahead, sampled
from orca_recipes.run.renderers.student_renderer import Made, StudentRenderer
from orca_recipes.run.segments.rendered_segments import Rendered
from orca_recipes.run.tokens.expansion import Expansion
from orca_recipes.run.tokens.fitting import Fitting
from orca_recipes.run.tokens.ledger import CHECKED, LEDGER, TAILED, Ledger, report_of
from orca_recipes.run.tokens.recall import UNIT, Known, Recalled, joined_recalled, known_parts, recalled, student_of
from orca_recipes.run.tokens.stored_examples import (
    ONE_A_TURN,
    counted_reasons,
    has_tail,
    rejected_lines,
    store_examples,
)
from orca_recipes.run.work.account import ACCOUNT, read_account
from orca_recipes.run.work.bench import Bench
from orca_recipes.run.work.loaded_tokenizer import opened
from orca_recipes.run.work.student import TOKENIZER_FILES
from orca_recipes.store.arrow_files import indices, read_table, write_table
from orca_recipes.store.made_conversations import MADE, passed_mask
from orca_recipes.store.narrow_tables import whole
from orca_recipes.store.stage_folder import Part, PartWriter, StageFolder

if TYPE_CHECKING:
    import pyarrow as pa

CHECKED_ONE_IN = 512
"""One example in so many is compared with the reference tokenizer, drawn by key: on any machine the same ones."""

GROUP_BYTES = 32 << 20
"""Parts of conversations up to so many bytes are tokenized at once. The fast tokenizer meets every word anew in each
call, so that calls of a fourth of this cost a third more."""

# Else a small stage would be one group, and all workers but one idle.
FEWEST_GROUPS = 8
"""Workers share the groups of a collection: a small one is cut finer."""


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `tokenize` of a dataset's collection."""
    dataset, _, collection = subject.partition("/")
    verdict = "fast"
    conversations = bench.folder(conversations_stage(bench.recipe, dataset, collection))
    unknown = bench.recipe.datasets[dataset].unknown
    tasks, results = _tokenized(bench, folder, conversations, subject, unknown, exact=False)
    wrong = sum(result.disagreeing for result in results)
    if wrong:
        verdict = "reference"
        bench.progress.end(f"the fast tokenizer disagrees with the reference on {counted(wrong, 'example')} checked")
        tasks, results = _tokenized(bench, folder, conversations, subject, unknown, exact=True)
    stage = bench.plan[f"tokenize {subject}"]
    bench.found[stage.name] += sum(result.recalled for result in results)
    before = read_account(conversations)
    names = [task.name for task in tasks]
    reports = [folder.part(name).report for name in names]
    facts = {
        "tokenizer": verdict,
        "prompts_checked": sum(report["prompts_checked"] for report in reports),
        **{
            name: {held: sum(report[name][held] for report in reports) for held in ("examples", "answers")}
            for name in ("unknown", "normalized")
        },
        **_rows_by_way(reports),
        **_made_to_fit(reports),
        **_expanded(reports),
        "student": student_of(bench.plan, stage),
        "conversations": conversations.path.name,
    }
    taken = dict.fromkeys(unit for report in reports for unit in report["units"] if unit not in names)
    bench.finish_counted(folder, names, "tokenize", "example", before, facts, list(taken))


def _rows_by_way(reports: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count conversations rendered by the table of joints and by the template itself; empty without the latter."""
    slow = sum(report.get("slow_rows", 0) for report in reports)
    fast = sum(report.get("fast_rows", report["in"]) for report in reports)
    return {"fast_rows": fast, "slow_rows": slow} if slow else {}


def _expanded(reports: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Sum conversations, examples and their tokens over the parts, where the template itself rendered some."""
    told = [report["expansion"] for report in reports if "expansion" in report]
    return {"expansion": {name: sum(one[name] for one in told) for name in told[0]}} if told else {}


def _made_to_fit(reports: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count examples with dropped exchanges, windows, and conversations with a trimmed tail; zeros are left out."""
    names = ("history_dropped", "windows", "tails_trimmed")
    counts = {name: sum(report.get(name, 0) for report in reports) for name in names}
    return {name: count for name, count in counts.items() if count}


def _fitting(bench: Bench) -> Fitting | None:
    """Return how to fit overlong examples under drop_history or window; None elsewhere, where packing decides."""
    packer, student = bench.recipe.packing, bench.student
    if packer.overlong not in ("drop_history", "window"):
        return None
    lead = student.control[student.bos] if student.begins_with_bos and student.bos is not None else None
    return Fitting(packer.overlong, packer.row_tokens, lead)


def _tokenized(
    bench: Bench,
    folder: StageFolder,
    conversations: StageFolder,
    subject: str,
    unknown: Literal["reject", "train"],
    *,
    exact: bool,
) -> tuple[list[TokenizeTask], list[Tokenized]]:
    parts = [part for part in conversations.parts() if part.name != ACCOUNT]
    of = sum(part.report["out"] for part in parts)
    groups, fitting = together(parts), _fitting(bench)
    train_on = bench.recipe.datasets[subject.partition("/")[0]].train_on
    stage = bench.plan[f"tokenize {subject}"]
    # Examples that were made to fit a row depend on more than their conversation.
    known = known_parts(bench, stage, conversations, parts, exact=exact) if fitting is None else {}
    tasks = [
        TokenizeTask(
            name=f"{group[0].name}-x{len(group)}-{'exact' if exact else 'fast'}",
            folder=folder.path,
            conversations=tuple(
                Conversations(part, conversations.digest(part.name, MADE), known.get(part.name, ())) for part in group
            ),
            tokenizer=bench.recipe.tokenizer,
            tokenizer_folder=bench.student.folder,
            markup=bench.student.markup,
            exact=exact,
            of=of,
            unknown=unknown,
            fitting=fitting,
            most_expansion=bench.recipe.template.most_expansion(),
            train_on=train_on,
        )
        for group in groups
    ]
    sizes = [sum(part.report["out"] for part in group) for group in groups]
    _forget_broken(folder, tasks)
    return tasks, bench.map_parts(folder, f"tokenize {subject}", tokenize_part, tasks, sizes, "examples")


def _forget_broken(folder: StageFolder, tasks: Sequence[TokenizeTask]) -> None:
    """Forget finished parts whose units, taken over from earlier stages, are no longer whole, to make them anew."""
    names = [task.name for task in tasks]
    there = [name for name, is_there in zip(names, folder.has_parts(names), strict=True) if is_there]
    # A part's examples may lie in a unit that was taken over: where that is damaged, the part is made again.
    units = {name: [unit for unit in folder.part(name).report.get("units", []) if unit != name] for name in there}
    wanted = sorted({unit for of_part in units.values() for unit in of_part})
    sound = dict(zip(wanted, folder.has_parts(wanted), strict=True))
    for name, of_part in units.items():
        if not all(sound[unit] for unit in of_part):
            folder.forget(name)


@dataclass(frozen=True)
class Conversations:
    """One part of conversations, the digest of its file, and what earlier stages made of it."""

    part: Part
    digest: str
    known: tuple[Known, ...]


@dataclass(frozen=True)
class TokenizeTask:
    """Some parts of conversations.

    exact: encode them with the reference tokenizer throughout. of: conversations of the whole stage. unknown: whether
    answers that the vocabulary cannot spell are trained or rejected. fitting: what becomes of those longer than a row
    here, None where packing decides. most_expansion: how many times a conversation's tokens its examples may have.
    train_on: which turns and parts are trained, None where all are.
    """

    name: str
    folder: Path
    conversations: tuple[Conversations, ...]
    tokenizer: Tokenizer
    tokenizer_folder: Path
    markup: Markup
    exact: bool
    of: int
    unknown: Literal["reject", "train"]
    fitting: Fitting | None = None
    most_expansion: float = EXPANSION_LIMIT
    train_on: TrainOn | None = None


@dataclass(frozen=True)
class Tokenized:
    """A worker's result for a part: number of examples the fast tokenizer got wrong, and number taken over."""

    disagreeing: int
    recalled: int


def together(parts: Sequence[Part]) -> list[list[Part]]:
    """Return neighbouring parts of conversations in groups that are tokenized at once, the same for any number of
    workers."""
    sizes = np.array([part.bytes(".arrow") for part in parts], dtype=np.int64)
    before = np.cumsum(sizes) - sizes
    group = before // max(min(GROUP_BYTES, int(sizes.sum()) // FEWEST_GROUPS), 1)
    bounds = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(parts)]
    return [list(parts[start:stop]) for start, stop in pairwise(bounds) if stop > start]


def tokenize_part(task: TokenizeTask) -> Tokenized:
    """Render, encode, check and store what of some parts is not tokenized yet, as one."""
    import pyarrow as pa

    tables = [whole(read_table(one.part.file(MADE))) for one in task.conversations]
    wanted = [_wanted(one.part, table.num_rows) for one, table in zip(task.conversations, tables, strict=True)]
    found = [
        recalled(table, mask, one.known, task.folder)
        for one, table, mask in zip(task.conversations, tables, wanted, strict=True)
    ]
    there, conversations = joined_recalled(found), pa.concat_tables(tables)
    ledger, drawn = there.ledger, sampled(conversations, task.of)
    before = int(ledger.examples.sum())
    fresh = np.flatnonzero(np.concatenate(wanted) & ~ledger.is_rendered)
    suffixes: tuple[str, ...] = ()
    told: dict[str, Any] = {}
    if len(fresh):
        # In one piece from here on: each look at a column in several would copy it.
        chosen = (conversations if len(fresh) == len(ledger) else conversations.take(indices(fresh))).combine_chunks()
        chosen = finished_before(chosen if task.train_on is None else trained_as(chosen, task.train_on))
        made, expansion = _made(task, chosen)
        # Nothing is stored: the whole stage is encoded anew by the reference.
        if made.disagreeing:
            return Tokenized(made.disagreeing, 0)
        reasons, kept = _lost(made, task)
        there.units.append(task.name)
        looked_at = sampled(chosen, ahead(task.of))
        lines = Ledger.of(made, kept, len(there.units) - 1, expansion=expansion, sampled=looked_at)
        lines.way[has_tail(chosen)] |= TAILED
        ledger.put(fresh, lines)
        there.reasons.update({int(fresh[position]): reason for position, reason in reasons.items()})
        told, suffixes = _stored(task, chosen, made, kept), UNIT
    _try(task, conversations, ledger, drawn)
    _finish(task, conversations, np.concatenate(wanted), there, drawn, suffixes, told)
    return Tokenized(0, before)


def _made(task: TokenizeTask, conversations: pa.Table) -> tuple[Made, Expansion]:
    """Render conversations to examples, fitted to a row where the recipe asks for it; with their expansion before.

    Raises: TemplateError, as `StudentRenderer.render` and `Expansion.check`.
    """
    student, check = _student_of(task), _sample(conversations)
    made = student.render(conversations, check=check, exact=task.exact, of=task.of)
    expansion = Expansion.of(made)
    if made.slow and not made.disagreeing:
        expansion.check(conversations, limit=task.most_expansion)
    if task.fitting is not None and not made.disagreeing:
        made = task.fitting.fitted(made, conversations, student, check=check, exact=task.exact, of=task.of)
    return made, expansion


def _wanted(part: Part, rows: int) -> np.ndarray:
    """Return bool [rows]: the conversations of a part that passed the filters."""
    mask = passed_mask(part)
    return np.ones(rows, dtype=bool) if mask is None else mask


def _student_of(task: TokenizeTask) -> StudentRenderer:
    return _student(task.tokenizer, task.tokenizer_folder, _Once(task.markup), _parts(task))


def _parts(task: TokenizeTask) -> TrainedParts | None:
    return None if task.train_on is None else task.train_on.parts()


def _lost(made: Made, task: TokenizeTask) -> tuple[dict[int, str], np.ndarray]:
    """Find reasons not to train on conversations, by position; and bool [conversations], those with kept examples."""
    reasons = dict(made.reasons)
    if task.unknown == "reject":
        unspelt = made.owner[_unspelt_answers(made.rendered)].tolist()
        reasons |= dict.fromkeys(unspelt, _unspelt(_student_of(task).encoder))
    there = made.rendered.trained_tokens > 0
    kept = np.zeros(len(made.way), dtype=bool)
    kept[made.owner[there]] = True
    # A conversation is kept whole or not at all: of some of its turns alone nobody could tell what became of the
    # others.
    kept[[*reasons, *made.owner[~there]]] = False
    return reasons, kept


def _try(task: TokenizeTask, conversations: pa.Table, ledger: Ledger, drawn: np.ndarray) -> None:
    """Compare rows taken over and never checked with inference, where this stage's sample draws them.

    Raises: TemplateError, as `PromptTrial.look`.
    """
    rows = np.flatnonzero(ledger.unchecked(drawn))
    if len(rows):
        chosen = conversations.take(indices(rows))
        _student_of(task).render(chosen, check=np.zeros(len(rows), dtype=bool), exact=task.exact, of=task.of)
        ledger.way[rows] |= CHECKED


def _stored(task: TokenizeTask, conversations: pa.Table, made: Made, kept: np.ndarray) -> dict[str, Any]:
    writer, encoder = PartWriter(task.folder, task.name), _student_of(task).encoder
    return store_examples(writer, conversations, made, kept, encoder, is_fitted=task.fitting is not None)


def _finish(
    task: TokenizeTask,
    conversations: pa.Table,
    wanted: np.ndarray,
    there: Recalled,
    drawn: np.ndarray,
    suffixes: Sequence[str],
    told: Mapping[str, Any],
) -> None:
    """Store the ledger of a part and the rows that are lost, and publish it."""
    writer, ledger = PartWriter(task.folder, task.name), there.ledger
    rejected = rejected_lines(conversations, there.reasons, np.flatnonzero(wanted & (ledger.examples == 0)))
    ledger.write(writer.path(LEDGER), there.reasons)
    write_table(writer.path(".rejected.arrow"), rejected)
    out, more = int(ledger.examples.sum()), int(np.maximum(ledger.examples - 1, 0).sum())
    report = {
        "in": int(wanted.sum()),
        "out": out,
        **({"created": {ONE_A_TURN: more}} if more else {}),
        "rejected": counted_reasons(rejected),
        **report_of(ledger, there.units, drawn),
        **told,
    }
    if task.fitting is None:
        # Windows and dropped exchanges are counted in no line, so that nobody takes over what was made to fit.
        report |= {"exact": task.exact, "of": [[one.part.name, *_extent(one)] for one in task.conversations]}
    writer.keep([*suffixes, LEDGER, ".rejected.arrow"], report)


def _extent(one: Conversations) -> tuple[int, str]:
    """Return the number of conversations in a part's file, and its digest."""
    return int(one.part.report.get("made", one.part.report["out"])), one.digest


@dataclass(frozen=True, eq=False)
class _Once:
    """Makes a markup, which holds a mapping, hashable by value, as a cache key."""

    markup: Markup

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Once) and self.markup == other.markup

    def __hash__(self) -> int:
        return hash(self.markup.chat_template)


@lru_cache(maxsize=2)
def _student(tokenizer: Tokenizer, folder: Path, markup: _Once, parts: TrainedParts | None) -> StudentRenderer:
    """Load it once a process: a tokenizer takes up to seconds to load."""
    return StudentRenderer(markup.markup, opened(tokenizer, folder), folder / TOKENIZER_FILES[0], parts)


def _sample(conversations: pa.Table) -> np.ndarray:
    hi, lo = (np.asarray(conversations[name]) for name in ("id_hi", "id_lo"))
    # Not the recipe's seed, so that another one checks the same conversations, and takes over what was checked.
    keys = draw_keys(id_hi=hi, id_lo=lo, seed=0, purpose="tokenizer check")
    return np.asarray(keys < np.uint64(2**64 // CHECKED_ONE_IN))


def _unspelt_answers(rendered: Rendered) -> list[int]:
    """Return positions of the examples with an answer that the vocabulary cannot spell."""
    return [int(position) for position in np.flatnonzero(rendered.unspelt.answers)]


def _unspelt(encoder: Encoder) -> str:
    """Word the rejection of an answer that would train as the unknown token, or lose its text without one."""
    unknown = encoder.vocabulary.unknown_id
    told = "nothing" if unknown is None else encoder.decode(ids=np.array([unknown]))
    return f"the vocabulary cannot spell a part of an answer, which would be trained as {told}"
