"""Cut examples longer than a row into windows; each trains the answers not yet trained by earlier ones.

A window is a stretch of an example's tokens. It begins about half a row before the first token that it trains, with a
message where one begins there, and ends with the last answer that it holds whole: only an answer that is longer than
what is left of a row is trained in pieces. So each trained token is trained once, behind at least half a row of context
or all that there is, and an answer's end stands in its last window. Where examples begin with BOS, windows do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from orca_recipes.contract.kinds import Encoder
from orca_recipes.run.segments.rendered_segments import Held, Rendered
from orca_recipes.run.segments.trained_text import trained_texts
from orca_recipes.shards.layout import is_trained, role_codes, segment_modes


@dataclass(frozen=True)
class Window:
    """Tokens [begin, stop) of an example, of which those from `fresh` on are trained as the example says.

    is_open: whether its last answer goes on in the next window.
    """

    begin: int
    stop: int
    fresh: int
    is_open: bool


@dataclass(frozen=True)
class Cutting:
    """Into what windows are cut: row_tokens of a row, lead: the BOS that begins every example, None where none does."""

    row_tokens: int
    lead: int | None

    def windows(self, lengths: np.ndarray, modes: np.ndarray) -> list[Window]:
        """Cut an example into windows; an empty list where a row is too short for any.

        Args:
            lengths, modes: [segments] of the example.
        """
        ends = np.cumsum(lengths, dtype=np.int64).tolist()
        trained = is_trained(modes).tolist()
        spans = list(pairwise([0, *ends]))
        answers = [span for span, is_answer in zip(spans, trained, strict=True) if is_answer]
        begins = _beginnings(spans, role_codes(modes).tolist())
        found: list[Window] = []
        done, last = 0, answers[-1][1] if answers else 0
        while done < last:
            fresh, whole = next((max(begin, done), stop) for begin, stop in answers if stop > done)
            begin = self._begin(fresh, last, begins) if found or whole > self.row_tokens else 0
            stop = min(last, begin + self._room(begin))
            # The context before the answer fills the row: a window that trains nothing would follow itself for ever.
            if stop <= fresh:
                return []
            stop = max((end for _, end in answers if fresh < end <= stop), default=stop)
            found.append(Window(begin, stop, fresh, is_open=not any(end == stop for _, end in answers)))
            done = stop
        return found

    def tokens(self, window: Window, tokens: np.ndarray) -> np.ndarray:
        """Return a window's tokens from the tokens of its example, with the lead token unless it begins at 0."""
        held = tokens[window.begin : window.stop]
        if self.lead is None or not window.begin:
            return held
        # Models that were trained with BOS at the start of each sequence answer worse where it is missing.
        return np.concatenate([np.array([self.lead], dtype=held.dtype), held])

    def _room(self, begin: int) -> int:
        return self.row_tokens - (1 if begin and self.lead is not None else 0)

    def _begin(self, fresh: int, last: int, begins: Sequence[int]) -> int:
        """Choose the first token of a window whose first trained token is `fresh`."""
        room = self.row_tokens // 2
        if fresh <= room:
            return 0
        begin = fresh - room
        if last - begin <= self._room(begin):
            # The last window would leave room in its row: it begins earlier instead, for more context, but not at 0,
            # which is the example's own beginning.
            begin = max(last - self._room(begin), 1)
        # With a message, where that leaves at least half of the context.
        latest = fresh - (fresh - begin) // 2
        return next((at for at in begins if begin <= at <= latest), begin)


def cut(rendered: Rendered, windows: Sequence[tuple[int, Window]], cutting: Cutting, encoder: Encoder) -> Rendered:
    """Return windows of examples as examples of their own.

    Args:
        windows: each with the position of its example.
    """
    pieces = [_piece(rendered, example, window, cutting) for example, window in windows]
    tokens = np.concatenate([piece.tokens for piece in pieces])
    lengths = np.concatenate([piece.lengths for piece in pieces]).astype(np.int32)
    modes = np.concatenate([piece.modes for piece in pieces])
    starts = _starts([len(piece.tokens) for piece in pieces])
    source = np.array([example for example, _ in windows], dtype=np.int64)
    is_first = np.array([not at or source[at - 1] != source[at] for at in range(len(source))])
    return Rendered(
        tokens=tokens,
        example_starts=starts,
        segment_lengths=lengths,
        segment_modes=modes,
        segment_starts=_starts([len(piece.lengths) for piece in pieces]),
        trained_tokens=np.array([piece.trained for piece in pieces], dtype=np.int32),
        trained_texts=trained_texts(
            tokens=tokens, lengths=lengths, modes=modes, example_starts=starts, encoder=encoder
        ),
        reasons={},
        disagreeing=np.empty(0, dtype=np.int64),
        unspelt=_of_first(rendered.unspelt, source, is_first),
        changed=_of_first(rendered.changed, source, is_first),
        marked=rendered.marked[source],
    )


def masked(window: Window, trained: np.ndarray) -> np.ndarray:
    """Return bool [tokens of the window without its lead]: which it trains; trained: bool [tokens of the example]."""
    places = np.arange(window.begin, window.stop)
    return np.asarray(trained[window.begin : window.stop] & (places >= window.fresh))


@dataclass(frozen=True)
class _Piece:
    tokens: np.ndarray
    lengths: np.ndarray
    modes: np.ndarray
    trained: int


def _piece(rendered: Rendered, example: int, window: Window, cutting: Cutting) -> _Piece:
    start, end = rendered.example_starts[example : example + 2]
    first, last = rendered.segment_starts[example : example + 2]
    lengths, modes = rendered.segment_lengths[first:last], rendered.segment_modes[first:last]
    tokens = cutting.tokens(window, rendered.tokens[start:end])
    roles = np.repeat(role_codes(modes), lengths)[window.begin : window.stop]
    trained = masked(window, np.repeat(is_trained(modes), lengths))
    lead = len(tokens) - len(roles)
    # The lead takes the role of the token behind it, so that it makes no segment of its own.
    roles, trained = np.pad(roles, (lead, 0), mode="edge"), np.pad(trained, (lead, 0))
    changes = np.flatnonzero((roles[1:] != roles[:-1]) | (trained[1:] != trained[:-1])) + 1
    bounds = np.concatenate([[0], changes])
    is_first = np.arange(len(bounds)) == 0
    made = segment_modes(trained=trained[bounds], starts=is_first, roles=roles[bounds])
    # A window's first token is no target: no token before it predicts it.
    return _Piece(tokens, np.diff(np.append(bounds, len(tokens))), made, int(trained.sum()) - int(trained[0]))


def _beginnings(spans: Sequence[tuple[int, int]], roles: Sequence[int]) -> list[int]:
    """Return the begins of segments whose role differs from the segment before."""
    return [begin for (begin, _), before, role in zip(spans[1:], roles, roles[1:], strict=False) if role != before]


def _of_first(held: Held, source: np.ndarray, is_first: np.ndarray) -> Held:
    """Count an example's held texts with its first window only."""
    return Held(held.anywhere[source] & is_first, held.answers[source] * is_first)


def _starts(counts: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
