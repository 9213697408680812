"""Storing what conversations became: an unpacked pair, in which a document is an example, with a record of each.

Conversations that are lost have a line each, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import binary_digests
from orca_recipes.contract.kinds import Encoder
from orca_recipes.run.renderers.student_renderer import Made
from orca_recipes.run.tokens.erased_question import kept_question_digests, kept_questions_of_turns
from orca_recipes.run.work.account import count_reasons
from orca_recipes.shards.ids_digest import ids_digests
from orca_recipes.shards.records import BY_PART, CUT, GIVEN, HISTORY_DROPPED, TAIL_TRIMMED, TRAIN_ON, UNTRAINED, WINDOW
from orca_recipes.shards.text_columns import numbers
from orca_recipes.shards.writer import write_pair
from orca_recipes.store.arrow_files import indices, write_table
from orca_recipes.store.stage_folder import PartWriter

if TYPE_CHECKING:
    import pyarrow as pa

ONE_A_TURN = "one example a turn"
WINDOWS = "further windows of long examples"
"""Why a stage gives more examples than it was given conversations."""


def store_examples(
    writer: PartWriter, conversations: pa.Table, made: Made, kept: np.ndarray, encoder: Encoder, *, is_fitted: bool
) -> dict[str, Any]:
    """Write the examples of the conversations that are kept; return what the part reports of them.

    Args:
        kept: bool [conversations]. is_fitted: whether examples longer than a row were made to fit.
    """
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
    write_table(
        writer.path(".records.arrow"), _records(conversations, made, keep, counts, encoder, is_fitted=is_fitted)
    )
    return {
        "tokens": len(tokens),
        **({"prompts_checked": made.checked, **_created(made, kept, keep)} if is_fitted else {}),
        **_counts_of_fitting(made, keep),
    }


def _created(made: Made, kept: np.ndarray, keep: np.ndarray) -> dict[str, dict[str, int]]:
    """Count the examples beyond one a conversation, by reason.

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
    """Return bool [conversations]: which go on behind their last answer, with turns that nobody answers."""
    pieces = [_ends_unanswered(messages) for messages in conversations["messages"].chunks]
    return np.concatenate([np.zeros(0, dtype=bool), *pieces])


def _ends_unanswered(messages: Any) -> np.ndarray:
    """Compute `has_tail` for conversations in one piece, from the role of each last message alone."""
    import pyarrow.compute as pc

    found = np.asarray(pc.list_value_length(messages).fill_null(0)) > 0
    last = numbers(messages.offsets)[1:][found] - 1
    role = messages.values.field("role").take(indices(last))
    found[found] = np.asarray(pc.not_equal(role, "assistant").fill_null(False))
    return found


def _records(
    conversations: pa.Table,
    made: Made,
    keep: np.ndarray,
    counts: np.ndarray,
    encoder: Encoder,
    *,
    is_fitted: bool,
) -> pa.Table:
    """Make the lines of records. keep: bool [examples]. counts: int64 [examples], tokens of each."""
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
        # Only the last answer of a conversation can be unfinished.
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
    flags = cut.astype(np.int8) * np.int8(CUT)
    if is_fitted:
        flags = _flags(made, has_tail(conversations), cut)
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
    for at, name in enumerate(BY_PART if made.by_part is not None else ()):
        counts_of = [None if one is None else one[at] for one in made.by_part or ()]
        table = table.append_column(name, pa.array(counts_of, type=pa.int32()))
    # Columns that no row has are left out: older readers know nothing of them.
    for name in (TRAIN_ON, UNTRAINED):
        if conversations[name].null_count < len(conversations):
            table = table.append_column(name, conversations[name])
    if made.window is not None and made.window.any():
        table = table.append_column(WINDOW, pa.array(made.window, mask=made.window == 0))
    return table if keep.all() else table.take(indices(np.flatnonzero(keep)))


def _flags(made: Made, has_tail: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Return int8 [examples]: the flags of examples that are made to fit; has_tail, cut: bool [examples]."""
    is_last = np.append(made.owner[1:] != made.owner[:-1], True) if len(made.owner) else has_tail
    flags = np.zeros(len(cut), dtype=np.int8) if made.flags is None else made.flags
    trimmed = (has_tail & is_last).astype(np.int8) * np.int8(TAIL_TRIMMED)
    return np.asarray(flags | cut.astype(np.int8) * np.int8(CUT) | trimmed, dtype=np.int8)


def rejected_lines(conversations: pa.Table, reasons: Mapping[int, str], dropped: np.ndarray) -> pa.Table:
    """Make the lines of lost conversations. dropped: int64, their positions."""
    import pyarrow as pa

    told = [reasons.get(position, "no token is trained") for position in dropped.tolist()]
    table = conversations.select(["id_hi", "id_lo", "file", "place"]).take(indices(dropped))
    text = pa.large_string()
    table = table.append_column("reason", pa.array(told, type=text))
    return table.append_column("stage", pa.array(["tokenize"] * len(told), type=text))


def counted_reasons(rejected: pa.Table) -> dict[str, int]:
    """Count the lost lines by reason."""
    import polars as pl

    if not rejected.num_rows:
        return {}
    reasons: Any = pl.from_arrow(rejected["reason"])
    return count_reasons(reasons.alias("reason"))
