"""Shortening of examples longer than a row before they are stored, if the recipe says so.

`drop_history` leaves out the oldest exchanges, as few as may be, and renders anew what is left: so it is what inference
is given of a conversation that begins later. `window` cuts examples into several. What cannot be made to fit stays as
it is, and packing rejects it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from orca_recipes.contract.templates.dialogues import Dialogue
from orca_recipes.run.renderers.last_exchange import with_cut
from orca_recipes.run.renderers.student_renderer import Made, StudentRenderer, given_of
from orca_recipes.run.renderers.turn_renderer import dialogues_of
from orca_recipes.run.segments.joined_examples import joined
from orca_recipes.run.tokens.exchanges import beginnings, without_oldest
from orca_recipes.run.tokens.windows import Cutting, Window, cut
from orca_recipes.shards.records import ALL_TURNS, HISTORY_DROPPED, TRUNCATED
from orca_recipes.store.arrow_files import indices

if TYPE_CHECKING:
    import pyarrow as pa

Overlong = Literal["drop_history", "window"]


@dataclass(frozen=True)
class Fitting:
    """Settings that make examples fit into a row. lead: BOS, if it begins every example."""

    overlong: Overlong
    row_tokens: int
    lead: int | None

    def fitted(
        self, made: Made, conversations: pa.Table, student: StudentRenderer, *, check: np.ndarray, exact: bool, of: int
    ) -> Made:
        """Shorten the examples that are too long, and keep all others.

        Args:
            conversations, check, exact, of: as `StudentRenderer.render` was given them.
        """
        sizes = np.diff(made.rendered.example_starts)
        # What is rejected anyway, and what trains nothing, need not fit.
        is_sound = ~np.isin(made.owner, list(made.reasons)) & (made.rendered.trained_tokens > 0)
        over = np.flatnonzero((sizes > self.row_tokens) & is_sound)
        if not len(over):
            return made
        if self.overlong == "window":
            return self._in_windows(made, conversations, student, over)
        return self._without_history(made, conversations, student, over, check=check, exact=exact, of=of)

    def _in_windows(self, made: Made, conversations: pa.Table, student: StudentRenderer, over: np.ndarray) -> Made:
        cutting, rendered = Cutting(self.row_tokens, self.lead), made.rendered
        found: list[tuple[int, Window]] = []
        for example in over.tolist():
            first, last = rendered.segment_starts[example : example + 2]
            windows = cutting.windows(rendered.segment_lengths[first:last], rendered.segment_modes[first:last])
            found += [(example, window) for window in windows]
        if not found:
            return made
        source = np.array([example for example, _ in found], dtype=np.int64)
        number = np.concatenate([np.arange(1, count + 1) for count in np.unique(source, return_counts=True)[1]])
        dialogues = dialogues_of(conversations, np.unique(made.owner[source]).tolist())
        given = [None if made.given is None else made.given[example] for example in source.tolist()]
        told = [text or given_of(dialogues[int(made.owner[at])]) for text, at in zip(given, source, strict=True)]
        part = replace(
            made,
            rendered=cut(rendered, found, cutting, student.encoder),
            owner=made.owner[source],
            turn=made.turn[source],
            given=told,
            by_part=None,
            window=number.astype(np.int32),
            flags=np.array([TRUNCATED if window.is_open else 0 for _, window in found], dtype=np.int8),
        )
        return _put_together(made, part, np.unique(source))

    def _without_history(
        self,
        made: Made,
        conversations: pa.Table,
        student: StudentRenderer,
        over: np.ndarray,
        *,
        check: np.ndarray,
        exact: bool,
        of: int,
    ) -> Made:
        owners = made.owner[over]
        dialogues = dialogues_of(conversations, np.unique(owners).tolist())
        views = conversations["teacher_view"].is_valid().to_numpy()
        messages = {
            int(example): _alone(made, int(example), dialogues[int(owner)])
            for example, owner in zip(over, owners, strict=True)
            if not views[owner]  # a view of the teacher's counts messages
        }
        is_last = {
            example: not any(
                one["role"] == "assistant" for one in dialogues[int(made.owner[example])].messages[len(told) :]
            )
            for example, told in messages.items()
        }
        most = {example: len(beginnings(told)) - 1 for example, told in messages.items()}

        def render(counts: Mapping[int, int], *, tried: bool) -> tuple[list[int], Made]:
            examples = list(counts)
            rows = made.owner[examples]
            shorter = [without_oldest(messages[example], counts[example]) for example in examples]
            table = _with_messages(conversations.take(indices(rows)), shorter)
            cut = np.asarray(table["cut"]) & np.array([is_last[example] for example in examples], dtype=bool)
            table = with_cut(table, cut)
            return examples, student.render(table, check=check[rows], exact=exact, of=of, tried=tried)

        def fits(counts: Mapping[int, int]) -> dict[int, bool]:
            # Trying a prompt is the dear part, and only the last of several renderings is kept.
            examples, found = render(counts, tried=False)
            longest = np.zeros(len(examples), dtype=np.int64)
            # A template may make an example of each turn: all of them must fit.
            np.maximum.at(longest, found.owner, np.diff(found.rendered.example_starts))
            return {
                example: 0 < size <= self.row_tokens and at not in found.reasons
                for at, (example, size) in enumerate(zip(examples, longest.tolist(), strict=True))
            }

        chosen = _fewest({example: count for example, count in most.items() if count}, fits)
        if not chosen:
            return made
        examples, found = render(chosen, tried=True)
        kept = np.flatnonzero(~np.isin(found.owner, list(found.reasons)))
        source = np.array(examples, dtype=np.int64)[found.owner[kept]]
        gone = [
            sum(message["role"] == "assistant" for message in messages[example])
            - sum(message["role"] == "assistant" for message in without_oldest(messages[example], chosen[example]))
            for example in source.tolist()
        ]
        turn = found.turn[kept]
        part = replace(
            found,
            rendered=joined([(found.rendered, kept)], np.arange(len(kept))),
            owner=made.owner[source],
            # Turns were counted in what is left: records number them as the whole conversation does.
            turn=np.where(turn == ALL_TURNS, made.turn[source], turn + np.array(gone, dtype=np.int32)),
            given=None if found.given is None else [found.given[at] for at in kept.tolist()],
            by_part=None if found.by_part is None else [found.by_part[at] for at in kept.tolist()],
            flags=np.full(len(kept), HISTORY_DROPPED, dtype=np.int8),
        )
        together = _put_together(made, part, np.unique(source))
        return replace(together, checked=made.checked + found.checked, disagreeing=found.disagreeing)


def _fewest(most: Mapping[int, int], fits: Any) -> dict[int, int]:
    """Search the fewest exchanges to leave out of each example that fits with one left; all are tried together."""
    # What does not fit with all of its history gone fits in no way: it is left for packing to reject.
    can = fits(most) if most else {}
    low = {example: 1 for example, is_fit in can.items() if is_fit}
    high = {example: most[example] for example in low}
    # By halving, all examples side by side: rendering is by columns, and one call for many costs little more than for
    # one.
    while open_ones := {
        example: (low[example] + high[example]) // 2 for example in low if low[example] < high[example]
    }:
        for example, is_fit in fits(open_ones).items():
            if is_fit:
                high[example] = open_ones[example]
            else:
                low[example] = open_ones[example] + 1
    return high


def _alone(made: Made, example: int, dialogue: Dialogue) -> list[Mapping[str, Any]]:
    """Return the messages of an example through its last trained one, with only its own answers marked as trained."""
    told = list(dialogue.messages)
    places = None if made.places is None else made.places[example]
    if places is None:
        places = [at for at, one in enumerate(told) if one["role"] == "assistant" and one.get("trained")]
    return [{**message, "trained": at in places} for at, message in enumerate(told[: places[-1] + 1])]


def _with_messages(conversations: pa.Table, messages: Sequence[Sequence[Mapping[str, Any]]]) -> pa.Table:
    import pyarrow as pa

    place = conversations.column_names.index("messages")
    column = pa.array([list(map(dict, told)) for told in messages], type=conversations.schema.field(place).type)
    return conversations.set_column(place, "messages", column)


def _put_together(made: Made, part: Made, replaced: np.ndarray) -> Made:
    """Replace some examples by those of a part, in the order of conversations."""
    kept = np.setdiff1d(np.arange(len(made.owner)), replaced)
    rows = np.arange(len(part.owner))
    owner = np.concatenate([made.owner[kept], part.owner])
    turn = np.concatenate([made.turn[kept], part.turn])
    # No example is made to fit twice, so those that are kept have neither window nor flags.
    window = np.concatenate([np.zeros(len(kept), np.int32), _or_zeros(part.window, len(rows), np.int32)])
    flags = np.concatenate([np.zeros(len(kept), np.int8), _or_zeros(part.flags, len(rows), np.int8)])
    order = np.lexsort((window, turn, owner))
    given: list[str | None] | None = None
    if made.given is not None or part.given is not None:
        both = [*_picked(made.given, kept), *_picked(part.given, rows)]
        given = [both[at] for at in order.tolist()]
    by_part: list[Sequence[int] | None] | None = None
    if made.by_part is not None:
        counts = [*(made.by_part[at] for at in kept.tolist()), *(part.by_part or [None] * len(rows))]
        by_part = [counts[at] for at in order.tolist()]
    return replace(
        made,
        rendered=joined([(made.rendered, kept), (part.rendered, rows)], order),
        owner=owner[order],
        turn=turn[order],
        given=given,
        places=None,
        by_part=by_part,
        window=window[order],
        flags=flags[order],
    )


def _or_zeros(column: np.ndarray | None, count: int, dtype: Any) -> np.ndarray:
    return np.zeros(count, dtype=dtype) if column is None else column


def _picked(given: Sequence[str | None] | None, rows: np.ndarray) -> list[str | None]:
    return [None if given is None else given[at] for at in rows.tolist()]
