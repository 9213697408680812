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
from orca_recipes.counted import counted
from orca_recipes.plan.compile import has_reserve
from orca_recipes.run.tokens.erased_question import kept_question_digests
from orca_recipes.run.tokens.prompt_trial import PromptTrial
from orca_recipes.run.tokens.render import Renderer
from orca_recipes.run.tokens.rendered_segments import Rendered
from orca_recipes.run.tokens.unprinted import unprinted
from orca_recipes.run.work.account import ACCOUNT, count_reasons, read_account
from orca_recipes.run.work.bench import Bench
from orca_recipes.run.work.loaded_tokenizer import opened
from orca_recipes.run.work.student import TOKENIZER_FILES
from orca_recipes.shards.ids_digest import ids_digests
from orca_recipes.shards.records import CUT
from orca_recipes.shards.writer import write_pair
from orca_recipes.store.arrow_files import indices, one_piece, read_table, write_table
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
    }
    bench.finish_counted(folder, names, "tokenize", "example", before, facts)


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
    groups = together(parts)
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
        )
        for group in groups
    ]
    sizes = [sum(part.report["out"] for part in group) for group in groups]
    return tasks, bench.map_parts(folder, f"tokenize {subject}", tokenize_part, tasks, sizes, "examples")


@dataclass(frozen=True)
class TokenizeTask:
    """Some parts of conversations.

    exact: encode them with the reference tokenizer throughout. of: conversations of the whole stage. unknown: whether
    answers that the vocabulary cannot spell are trained or rejected.
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
    rendered = student.renderer.render(
        messages=one_piece(conversations["messages"]),
        cut=np.asarray(conversations["cut"]),
        check=_sample(conversations),
        exact=task.exact,
    )
    if len(rendered.disagreeing):
        return Tokenized(conversations.num_rows, len(rendered.disagreeing))
    tried = student.trial.look(conversations, rendered, of=task.of)
    reasons = {**rendered.reasons, **tried.reasons, **unprinted(conversations)}
    if task.unknown == "reject":
        reasons |= dict.fromkeys(_unspelt_answers(rendered), _unspelt(student.renderer.encoder))
    keep = rendered.trained_tokens > 0
    keep[list(reasons)] = False
    rejected = _rejected(conversations, reasons, keep)
    report = _store(task, conversations, rendered, keep, rejected, student.renderer.encoder)
    report |= {
        "prompts_checked": tried.checked,
        "unknown": rendered.unspelt.counts(),
        "normalized": rendered.changed.counts(),
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


@dataclass(frozen=True)
class _Student:
    """What a process needs for all of its parts."""

    renderer: Renderer
    trial: PromptTrial


@lru_cache(maxsize=2)
def _student(tokenizer: Tokenizer, folder: Path, markup: _Once) -> _Student:
    """Loaded once a process: a tokenizer takes up to seconds to load."""
    encoder = opened(tokenizer, folder)
    trial = PromptTrial(markup.markup, encoder, folder / TOKENIZER_FILES[0])
    return _Student(Renderer(markup=markup.markup, encoder=encoder), trial)


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
    rendered: Rendered,
    keep: np.ndarray,
    rejected: pa.Table,
    encoder: Encoder,
) -> dict[str, Any]:
    writer = PartWriter(task.folder, task.name)
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
    write_table(writer.path(".records.arrow"), _records(conversations, rendered, keep, counts, encoder))
    write_table(writer.path(".rejected.arrow"), rejected)
    return {
        "in": conversations.num_rows,
        "out": int(keep.sum()),
        "rejected": _reasons(rejected),
        "tokens": len(tokens),
    }


def _reasons(rejected: pa.Table) -> dict[str, int]:
    import polars as pl

    if not rejected.num_rows:
        return {}
    reasons: Any = pl.from_arrow(rejected["reason"])
    return count_reasons(reasons.alias("reason"))


def _records(
    conversations: pa.Table, rendered: Rendered, keep: np.ndarray, counts: np.ndarray, encoder: Encoder
) -> pa.Table:
    import pyarrow as pa

    text_hi, text_lo = binary_digests(rendered.trained_texts)
    ids = ids_digests(rendered.tokens, rendered.example_starts)
    kept_hi, kept_lo = kept_question_digests(conversations, encoder)
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
    made = {
        "tokens": counts.astype(np.int32),
        "trained_tokens": rendered.trained_tokens,
        "flags": np.asarray(conversations["cut"]).astype(np.int8) * np.int8(CUT),
        "text_hi": text_hi,
        "text_lo": text_lo,
        "ids_hi": np.ascontiguousarray(ids[:, 0]),
        "ids_lo": np.ascontiguousarray(ids[:, 1]),
        "kept_question_hi": kept_hi,
        "kept_question_lo": kept_lo,
    }
    table = conversations.select(names).combine_chunks()
    for name, column in made.items():
        table = table.append_column(name, pa.array(column))
    return table if keep.all() else table.take(indices(np.flatnonzero(keep)))
