"""Verb `tokenize`: conversations become tokens with their mask, in unpacked pairs of the shard's own format.

In an unpacked pair a document is an example, so that another packing costs no tokenizing. Beside it stand the records:
one line an example, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from orca_recipes.contract.draws import binary_digests, draw_keys
from orca_recipes.contract.kinds import Encoder, Tokenizer
from orca_recipes.contract.markup import Markup
from orca_recipes.contract.rendering import EXPANSION_LIMIT
from orca_recipes.counted import counted
from orca_recipes.plan.compile import has_reserve
from orca_recipes.run.tokens.erased_question import kept_question_digests, kept_questions_of_turns
from orca_recipes.run.tokens.expansion import Expansion
from orca_recipes.run.tokens.fitting import Fitting
from orca_recipes.run.tokens.rendered_segments import Rendered
from orca_recipes.run.tokens.student_renderer import Made, StudentRenderer
from orca_recipes.run.work.account import ACCOUNT, count_reasons, read_account
from orca_recipes.run.work.bench import Bench
from orca_recipes.run.work.loaded_tokenizer import opened
from orca_recipes.run.work.student import TOKENIZER_FILES
from orca_recipes.shards.ids_digest import ids_digests
from orca_recipes.shards.records import CUT, GIVEN, HISTORY_DROPPED, TAIL_TRIMMED, WINDOW
from orca_recipes.shards.writer import write_pair
from orca_recipes.store.arrow_files import indices, read_table, write_table
from orca_recipes.store.narrow_tables import whole
from orca_recipes.store.store import Part, PartWriter, StageFolder

if TYPE_CHECKING:
    import pyarrow as pa

CHECKED_ONE_IN = 512
"""One example in so many is compared with the reference tokenizer, drawn by key: on any machine the same ones."""

GROUP_BYTES = 32 << 20
"""Parts of conversations up to so many bytes are tokenized at once. The fast tokenizer meets every word anew in each
call, so that calls of a fourth of this cost a third more."""

FEWEST_GROUPS = 8
"""Workers share the groups of a collection: a small one is cut finer."""


ONE_A_TURN = "one example a turn"
WINDOWS = "further windows of long examples"
"""Why a stage gives more examples than it was given conversations."""


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `tokenize` of a dataset's collection."""
    dataset, _, collection = subject.partition("/")
    verdict = "fast"
    conversations = _conversations(bench, dataset, collection)
    unknown = bench.recipe.datasets[dataset].unknown
    tasks, results = _tokenized(bench, folder, conversations, subject, unknown, exact=False)
    wrong = sum(result.disagreeing for result in results)
    if wrong:
        verdict = "reference"
        bench.progress.end(f"the fast tokenizer disagrees with the reference on {counted(wrong, 'example')} checked")
        tasks, _ = _tokenized(bench, folder, conversations, subject, unknown, exact=True)
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
    }
    bench.finish_counted(folder, names, "tokenize", "example", before, facts)


def _rows_by_way(reports: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many conversations the table of joints rendered, and how many the template itself, where it did any."""
    slow = sum(report.get("slow_rows", 0) for report in reports)
    fast = sum(report.get("fast_rows", report["in"]) for report in reports)
    return {"fast_rows": fast, "slow_rows": slow} if slow else {}


def _expanded(reports: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """What conversations were and became, where the template itself rendered some."""
    told = [report["expansion"] for report in reports if "expansion" in report]
    return {"expansion": {name: sum(one[name] for one in told) for name in told[0]}} if told else {}


def _made_to_fit(reports: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many examples lost old exchanges or are windows, and conversations their unfinished tail, where any did."""
    names = ("history_dropped", "windows", "tails_trimmed")
    counts = {name: sum(report.get(name, 0) for report in reports) for name in names}
    return {name: count for name, count in counts.items() if count}


def _fitting(bench: Bench) -> Fitting | None:
    """How examples are made to fit, where the recipe wants more than packing can do."""
    packer, student = bench.recipe.packing, bench.student
    if packer.overlong not in ("drop_history", "window"):
        return None
    lead = student.control[student.bos] if student.begins_with_bos and student.bos is not None else None
    return Fitting(packer.overlong, packer.row_tokens, lead)


def _conversations(bench: Bench, dataset: str, collection: str) -> StageFolder:
    """The stage whose conversations are tokenized."""
    verb = "keep" if has_reserve(bench.recipe, dataset, collection) else "converse"
    return bench.folder(f"{verb} {dataset}/{collection}")


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
    tasks = [
        TokenizeTask(
            name=f"{group[0].name}-x{len(group)}-{'exact' if exact else 'fast'}",
            folder=folder.path,
            conversations=tuple(part.file(".arrow") for part in group),
            tokenizer=bench.recipe.tokenizer,
            tokenizer_folder=bench.student.folder,
            markup=bench.student.markup,
            exact=exact,
            of=of,
            unknown=unknown,
            fitting=fitting,
            most_expansion=bench.recipe.template.most_expansion(),
        )
        for group in groups
    ]
    sizes = [sum(part.report["out"] for part in group) for group in groups]
    return tasks, bench.map_parts(folder, f"tokenize {subject}", tokenize_part, tasks, sizes, "examples")


@dataclass(frozen=True)
class TokenizeTask:
    """Some parts of conversations.

    exact: encode them with the reference tokenizer throughout. of: conversations of the whole stage. unknown: whether
    answers that the vocabulary cannot spell are trained or rejected. fitting: what becomes of those longer than a row
    here, None where packing decides. most_expansion: how many times a conversation's tokens its examples may have.
    """

    name: str
    folder: Path
    conversations: tuple[Path, ...]
    tokenizer: Tokenizer
    tokenizer_folder: Path
    markup: Markup
    exact: bool
    of: int
    unknown: Literal["reject", "train"]
    fitting: Fitting | None = None
    most_expansion: float = EXPANSION_LIMIT


@dataclass(frozen=True)
class Tokenized:
    """What a worker says of a part: examples looked at, and how many the fast tokenizer got wrong."""

    examples: int
    disagreeing: int


def together(parts: Sequence[Part]) -> list[list[Part]]:
    """Neighbouring parts of conversations in groups that are tokenized at once, the same for any number of workers."""
    sizes = np.array([part.file(".arrow").stat().st_size for part in parts], dtype=np.int64)
    before = np.cumsum(sizes) - sizes
    group = before // max(min(GROUP_BYTES, int(sizes.sum()) // FEWEST_GROUPS), 1)
    bounds = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(parts)]
    return [list(parts[start:stop]) for start, stop in pairwise(bounds) if stop > start]


def tokenize_part(task: TokenizeTask) -> Tokenized:
    """Render, encode, check and store parts as one."""
    import pyarrow as pa

    conversations = pa.concat_tables([whole(read_table(path)) for path in task.conversations])
    student = _student(task.tokenizer, task.tokenizer_folder, _Once(task.markup))
    check = _sample(conversations)
    made = student.render(conversations, check=check, exact=task.exact, of=task.of)
    expansion = Expansion.of(made) if made.slow and not made.disagreeing else None
    if expansion is not None:
        expansion.check(conversations, limit=task.most_expansion)
    if task.fitting is not None and not made.disagreeing:
        made = task.fitting.fitted(made, conversations, student, check=check, exact=task.exact, of=task.of)
    if made.disagreeing:
        return Tokenized(conversations.num_rows, made.disagreeing)
    reasons = dict(made.reasons)
    if task.unknown == "reject":
        unspelt = made.owner[_unspelt_answers(made.rendered)].tolist()
        reasons |= dict.fromkeys(unspelt, _unspelt(student.encoder))
    there = made.rendered.trained_tokens > 0
    kept = np.zeros(conversations.num_rows, dtype=bool)
    kept[made.owner[there]] = True
    kept[[*reasons, *made.owner[~there]]] = False
    rejected = _rejected(conversations, reasons, kept)
    report = _store(task, conversations, made, kept, rejected, student.encoder)
    report |= {
        "prompts_checked": made.checked,
        "unknown": made.rendered.unspelt.counts(),
        "normalized": made.rendered.changed.counts(),
        **({"fast_rows": made.fast, "slow_rows": made.slow} if made.slow else {}),
        **({} if expansion is None else {"expansion": expansion.counts()}),
    }
    PartWriter(task.folder, task.name).keep([".bin", ".idx", ".records.arrow", ".rejected.arrow"], report)
    return Tokenized(conversations.num_rows, 0)


@dataclass(frozen=True, eq=False)
class _Once:
    """Lets a markup, which holds a mapping, be the key of a cache by what it says."""

    markup: Markup

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Once) and self.markup == other.markup

    def __hash__(self) -> int:
        return hash(self.markup.chat_template)


@lru_cache(maxsize=2)
def _student(tokenizer: Tokenizer, folder: Path, markup: _Once) -> StudentRenderer:
    """Loaded once a process: a tokenizer takes up to seconds to load."""
    return StudentRenderer(markup.markup, opened(tokenizer, folder), folder / TOKENIZER_FILES[0])


def _sample(conversations: pa.Table) -> np.ndarray:
    hi, lo = (np.asarray(conversations[name]) for name in ("id_hi", "id_lo"))
    keys = draw_keys(id_hi=hi, id_lo=lo, seed=0, purpose="tokenizer check")
    return np.asarray(keys < np.uint64(2**64 // CHECKED_ONE_IN))


def _unspelt_answers(rendered: Rendered) -> list[int]:
    """Positions of the examples with an answer that the vocabulary cannot spell."""
    return [int(position) for position in np.flatnonzero(rendered.unspelt.answers)]


def _unspelt(encoder: Encoder) -> str:
    """Why an example is rejected whose answer becomes the unknown token, or loses what has none."""
    unknown = encoder.vocabulary.unknown_id
    told = "nothing" if unknown is None else encoder.decode(ids=np.array([unknown]))
    return f"the vocabulary cannot spell a part of an answer, which would be trained as {told}"


def _rejected(conversations: pa.Table, reasons: Mapping[int, str], keep: np.ndarray) -> pa.Table:
    import pyarrow as pa

    dropped = np.flatnonzero(~keep)
    told = [reasons.get(position, "no token is trained") for position in dropped.tolist()]
    table = conversations.select(["id_hi", "id_lo", "file", "place"]).take(indices(dropped))
    text = pa.large_string()
    table = table.append_column("reason", pa.array(told, type=text))
    return table.append_column("stage", pa.array(["tokenize"] * len(told), type=text))


def _store(
    task: TokenizeTask,
    conversations: pa.Table,
    made: Made,
    kept: np.ndarray,
    rejected: pa.Table,
    encoder: Encoder,
) -> dict[str, Any]:
    """Store the examples of the conversations that are kept, and the rows that are not."""
    writer = PartWriter(task.folder, task.name)
    rendered, keep = made.rendered, kept[made.owner]
    counts = np.diff(rendered.example_starts)
    segments = np.diff(rendered.segment_starts)
    kept_segments = np.repeat(keep, segments)
    # Most rejected examples have no tokens at all.
    tokens = rendered.tokens[np.repeat(keep, counts)] if counts[~keep].any() else rendered.tokens
    write_pair(
        prefix=writer.path(""),
        vocabulary_size=encoder.vocabulary.size,
        blocks=iter([tokens]),
        segment_lengths=rendered.segment_lengths[kept_segments],
        segment_modes=rendered.segment_modes[kept_segments],
        row_starts=np.concatenate([[0], np.cumsum(segments[keep])]).astype(np.int64),
    )
    write_table(writer.path(".records.arrow"), _records(task, conversations, made, keep, counts, encoder))
    write_table(writer.path(".rejected.arrow"), rejected)
    return {
        "in": conversations.num_rows,
        "out": int(keep.sum()),
        **_created(made, kept, keep),
        "rejected": _reasons(rejected),
        "tokens": len(tokens),
        "tails_trimmed": int((has_tail(conversations) & kept).sum()),
        **_counts_of_fitting(made, keep),
    }


def _created(made: Made, kept: np.ndarray, keep: np.ndarray) -> dict[str, dict[str, int]]:
    """How many examples there are more than conversations, and why.

    Args:
        kept: bool [conversations]. keep: bool [examples].
    """
    later = 0 if made.window is None else int((keep & (made.window > 1)).sum())
    turns = int(keep.sum()) - int(kept.sum()) - later
    created = {name: count for name, count in ((ONE_A_TURN, turns), (WINDOWS, later)) if count}
    return {"created": created} if created else {}


def _counts_of_fitting(made: Made, keep: np.ndarray) -> dict[str, int]:
    if made.window is None or made.flags is None:
        return {}
    dropped = int((keep & (made.flags & HISTORY_DROPPED > 0)).sum())
    return {"windows": int((keep & (made.window > 0)).sum()), "history_dropped": dropped}


def has_tail(conversations: pa.Table) -> np.ndarray:
    """bool [conversations]: which go on behind their last answer, with turns that nobody answers."""
    import polars as pl

    messages: Any = pl.from_arrow(conversations["messages"].combine_chunks())
    last = messages.list.last().struct.field("role")
    return np.asarray((last != "assistant").fill_null(value=False).to_numpy())


def _reasons(rejected: pa.Table) -> dict[str, int]:
    import polars as pl

    if not rejected.num_rows:
        return {}
    reasons: Any = pl.from_arrow(rejected["reason"])
    return count_reasons(reasons.alias("reason"))


def _records(
    task: TokenizeTask, conversations: pa.Table, made: Made, keep: np.ndarray, counts: np.ndarray, encoder: Encoder
) -> pa.Table:
    import pyarrow as pa

    rendered, is_own = made.rendered, len(made.owner) == conversations.num_rows
    if not (is_own and (made.owner == np.arange(len(made.owner))).all()):
        conversations = conversations.take(indices(made.owner))
    text_hi, text_lo = binary_digests(rendered.trained_texts)
    ids = ids_digests(rendered.tokens, rendered.example_starts)
    kept_hi, kept_lo = kept_question_digests(conversations, encoder)
    cut = np.array(conversations["cut"])
    if made.given is not None:
        kept_questions_of_turns(made.given, made.turn, kept_hi, kept_lo, encoder)
        cut[:-1] &= made.owner[:-1] != made.owner[1:]  # turns before the last are finished
    names = [
        "id_hi",
        "id_lo",
        "question_hi",
        "question_lo",
        "task",
        "file",
        "place",
        "strategy",
        "system_message",
        "teacher",
        "teacher_view",
    ]
    if task.fitting is not None:
        flags = _flags(made, has_tail(conversations), cut)
    else:
        flags = cut.astype(np.int8) * np.int8(CUT)
    columns = {
        "tokens": counts.astype(np.int32),
        "trained_tokens": rendered.trained_tokens,
        "flags": flags,
        "text_hi": text_hi,
        "text_lo": text_lo,
        "ids_hi": np.ascontiguousarray(ids[:, 0]),
        "ids_lo": np.ascontiguousarray(ids[:, 1]),
        "kept_question_hi": kept_hi,
        "kept_question_lo": kept_lo,
    }
    table = conversations.select(names).combine_chunks()
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column))
    if made.given is not None:
        table = table.append_column("turn", pa.array(made.turn))
        table = table.append_column(GIVEN, pa.array(made.given, type=pa.large_string()))
    if made.window is not None and made.window.any():
        table = table.append_column(WINDOW, pa.array(made.window, mask=made.window == 0))
    return table if keep.all() else table.take(indices(np.flatnonzero(keep)))


def _flags(made: Made, has_tail: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """int8 [examples]: the flags of examples that are made to fit; has_tail, cut: bool [examples]."""
    is_last = np.append(made.owner[1:] != made.owner[:-1], True) if len(made.owner) else has_tail
    flags = np.zeros(len(cut), dtype=np.int8) if made.flags is None else made.flags
    trimmed = (has_tail & is_last).astype(np.int8) * np.int8(TAIL_TRIMMED)
    return np.asarray(flags | cut.astype(np.int8) * np.int8(CUT) | trimmed, dtype=np.int8)
