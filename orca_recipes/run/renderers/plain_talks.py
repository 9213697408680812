"""Several exchanges of plain text, by the columns, under templates that no table of joints stands for.

Such a template prints an earlier answer otherwise than the one that inference is to give (Qwen3's prints no thought
before it), so that each trained answer has an example of its own. What stands around earlier answers is found by
rendering words and tried on odd contents, as what stands around single exchanges is (`plain_exchanges`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.markup import START, Joint, Markup
from orca_recipes.contract.templates.chat_template import literals
from orca_recipes.contract.templates.dialogues import Dialogue, Unfit
from orca_recipes.contract.templates.turn_texts import TurnWriter
from orca_recipes.run.renderers.plain_exchanges import (
    AROUND,
    LONGEST,
    PlainExchanges,
    flags_of,
    joined_spans,
    messages_of,
    odd_contents,
    taken_apart,
)
from orca_recipes.run.renderers.turn_examples import TurnExample, spans_of
from orca_recipes.run.segments.flat_messages import PYTHON_SPACE
from orca_recipes.run.segments.ragged import ragged
from orca_recipes.shards.layout import ROLES
from orca_recipes.shards.records import ALL_TURNS
from orca_recipes.store.arrow_files import indices, one_piece

if TYPE_CHECKING:
    import pyarrow as pa

_SYSTEM, _USER, _ASSISTANT = (ROLES.index(role) for role in ("system", "user", "assistant"))
_WORDS = ("system_words", "asked_before", "said_before", "asked_between", "said_between", "asked_last", "said_last")
_FEW = 6
"""Odd contents that are tried with white space around them: in single exchanges all are."""


@dataclass(frozen=True)
class Turns:
    """Examples of conversations, one for each trained answer.

    messages: what each holds, its last one alone trained. owner: int64 [examples], its conversation. turn: int32
    [examples], which of the assistant's messages it trains, ALL_TURNS where its conversation trains no other. place:
    int64 [examples], of the trained message.
    """

    messages: pa.Array
    owner: np.ndarray
    turn: np.ndarray
    place: np.ndarray


@dataclass(frozen=True)
class PlainTalks:
    """What a template prints around earlier answers, and what contents must not hold.

    earlier: joints to and from them. telling: a pattern of RE2. raw: roles whose contents are printed with the white
    space around them.
    """

    exchanges: PlainExchanges
    earlier: Markup
    telling: str
    raw: frozenset[str]

    def fit(self, conversations: pa.Table) -> np.ndarray:
        """Return bool [conversations]: which are several exchanges of plain text, the last of them trained.

        Args:
            conversations: as for `PlainExchanges.fit`.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        messages = one_piece(conversations["messages"])
        counts = np.asarray(pc.list_value_length(messages).fill_null(0))
        owners, starts = np.repeat(np.arange(len(counts)), counts), np.cumsum(counts) - counts
        flat = messages.flatten()
        codes = np.asarray(pc.index_in(flat.field("role"), value_set=pa.array(ROLES)).fill_null(0))
        has_system = np.zeros(len(counts), dtype=bool)
        has_system[counts > 0] = codes[starts[counts > 0]] == _SYSTEM
        at = np.arange(len(codes)) - np.repeat(starts + has_system, counts)
        is_last = np.arange(len(codes)) == np.repeat(starts + counts - 1, counts)
        wanted = np.where(at < 0, _SYSTEM, np.where(at % 2 == 0, _USER, _ASSISTANT))
        trained = flags_of(flat.field("trained"))
        sound = (codes == wanted) & (~trained | (codes == _ASSISTANT)) & (~is_last | (trained & (at > 1)))
        content = flat.field("content")
        words = pc.binary_length(pc.utf8_trim(content, characters=PYTHON_SPACE))
        free = np.isin(codes, [ROLES.index(role) for role in self.raw])
        free |= is_last & (self.exchanges.cut is not None)
        sound &= flags_of(pc.greater(words, 0)) & (flags_of(pc.equal(words, pc.binary_length(content))) | free)
        sound[sound] = ~flags_of(pc.match_substring_regex(content.filter(pa.array(sound)), self.telling))
        found = (counts > 0) & ~np.asarray(conversations["cut"].combine_chunks().fill_null(True))
        found[owners[~sound]] = False
        return np.asarray(found)


def single_turns(conversations: pa.Table) -> Turns:
    """Return single exchanges as examples, one each."""
    messages = one_piece(conversations["messages"])
    place = np.asarray(messages.value_lengths()).astype(np.int64) - 1
    count = len(place)
    return Turns(messages, np.arange(count), np.full(count, ALL_TURNS, dtype=np.int32), place)


def turns_of(conversations: pa.Table) -> Turns:
    """Make an example for each trained answer of conversations that fit, single exchanges among them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    messages = one_piece(conversations["messages"])
    counts = np.asarray(pc.list_value_length(messages)).astype(np.int64)
    starts = np.cumsum(counts) - counts
    flat = messages.flatten()
    is_answer = flags_of(pc.equal(flat.field("role"), "assistant"))
    last = np.flatnonzero(is_answer & flags_of(flat.field("trained")))
    owner = np.searchsorted(starts, last, side="right") - 1
    place = last - starts[owner]
    answers = np.cumsum(is_answer)
    before = answers[starts[owner]] - is_answer[starts[owner]]
    turn = np.where(np.bincount(owner, minlength=len(counts))[owner] == 1, ALL_TURNS, answers[last] - before)
    taken = flat.take(indices(ragged(starts[owner], place + 1)))
    trained = np.zeros(len(taken), dtype=bool)
    ends = np.cumsum(place + 1)
    trained[ends - 1] = True
    names = [field.name for field in taken.type.fields]
    columns = [pa.array(trained) if name == "trained" else taken.field(name) for name in names]
    offsets = pa.array(np.concatenate([[0], ends]), pa.int64())
    listed = pa.LargeListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, names))
    return Turns(listed, owner, turn.astype(np.int32), place)


def plain_talks(exchanges: PlainExchanges, writer: TurnWriter, template: str) -> PlainTalks | None:
    """Find out what a template prints around earlier answers; None where that depends on more than roles, or where
    several answers stand in one example.

    Args:
        as for `plain_exchanges`, which found `exchanges`.
    """
    found = _earlier(exchanges, writer)
    if found is None:
        return None
    earlier, told = found
    talks = PlainTalks(exchanges, earlier, exchanges.telling, frozenset())
    telling = re.compile(exchanges.telling)
    if not _begin_apart(told, exchanges, telling):
        return None
    odd = odd_contents(exchanges)
    for shape in _shapes(2):
        for at in range(len(odd)):
            if not _holds(talks, writer, shape, [odd[(at + step) % len(odd)] for step in range(len(shape))]):
                return None
    raw = frozenset(role for role in ("system", "user") if role in exchanges.raw and _is_raw(talks, writer, role, odd))
    texts = dict.fromkeys(map(str.strip, literals(template)))
    heeded = (_heeded(talks, writer, text, telling) for text in texts)
    joined = "|".join([exchanges.telling, *filter(None, heeded)])
    return PlainTalks(exchanges, earlier, joined, raw)


def _shapes(exchanges: int) -> tuple[tuple[str, ...], ...]:
    talk = ("user", "assistant") * exchanges
    return talk, ("system", *talk)


def _earlier(exchanges: PlainExchanges, writer: TurnWriter) -> tuple[Markup, Joint] | None:
    """Find the joints around earlier answers, the same at any place; return them and the one that leads to one."""
    joints: dict[tuple[str, str], Joint] = {}
    known = exchanges.markup
    for count, system in product((2, 3), (False, True)):
        shape = _shapes(count)[system]
        words = [*_WORDS[: int(system)], *_WORDS[len(_WORDS) - 2 * count :]]
        told = taken_apart(writer, shape, words)
        if told is None or told[1] != (known.answer_prefix, known.terminator):
            return None
        last = len(shape) - 1
        for at, (pair, joint) in enumerate(zip(pairwise((START, *shape)), told[0], strict=True)):
            is_earlier = at < last and "assistant" in pair
            if (joints.setdefault(pair, joint) if is_earlier else known.joints.get(pair)) != joint:
                return None
    return Markup(joints, "", known.chat_template), joints["user", "assistant"]


def _begin_apart(earlier: Joint, exchanges: PlainExchanges, telling: re.Pattern[str]) -> bool:
    """Tell whether an earlier answer never begins as the one that inference is to give: no example then holds two."""
    joint = exchanges.markup.joints["user", "assistant"]
    one = joint.footer + joint.header + exchanges.markup.answer_prefix
    other = earlier.footer + earlier.header
    shorter, longer = sorted((one, other), key=len)
    # Where one goes on from the other, only a content that begins with the rest would make them the same.
    return not longer.startswith(shorter) or telling.search(longer[len(shorter) :]) is not None


def _spans(talks: PlainTalks, shape: Sequence[str], texts: Sequence[str]) -> list[tuple[str, bool, str]]:
    """List what joints print of a conversation that trains its last answer, with role and mark."""
    told: list[tuple[str, bool, str]] = []
    markup, last = talks.exchanges.markup, len(shape) - 1
    for at, (before, role) in enumerate(pairwise((START, *shape))):
        is_earlier = at < last and "assistant" in (before, role)
        joint = (talks.earlier if is_earlier else markup).joints[before, role]
        content = markup.answer_prefix + texts[at] + markup.terminator if at == last else texts[at]
        told += [(before or "system", False, joint.footer), (role, False, joint.header), (role, at == last, content)]
    return told


def _holds(talks: PlainTalks, writer: TurnWriter, shape: Sequence[str], texts: Sequence[str]) -> bool:
    """Tell whether the template prints a conversation as the joints do, each piece with the role that they say."""
    messages = messages_of(shape, texts)
    try:
        (turn,) = writer.turns(Dialogue(messages))
    except Unfit:
        return False
    spans = spans_of(TurnExample(0, ALL_TURNS, [turn]), messages, writer.control)
    printed = joined_spans((ROLES[span.role], span.trained, span.text) for span in spans)
    return printed == joined_spans(_spans(talks, shape, texts))


def _is_raw(talks: PlainTalks, writer: TurnWriter, role: str, odd: Sequence[str]) -> bool:
    """Tell whether contents of a role are printed with the white space around them, in any exchange."""
    return all(
        _holds(talks, writer, shape, list(_spaced(shape, role, before, text, behind)))
        for shape in _shapes(2)
        if role in shape
        for text in ("words", *odd[:_FEW])
        for before, behind in AROUND
    )


def _spaced(shape: Sequence[str], role: str, before: str, text: str, behind: str) -> Iterator[str]:
    for at, one in enumerate(shape):
        yield before + text + behind if one == role else _WORDS[at]


def _heeded(talks: PlainTalks, writer: TurnWriter, text: str, telling: re.Pattern[str]) -> str:
    """Return a pattern of the contents that are printed otherwise for a string of the template; "" for none."""
    if not text or len(text) > LONGEST or telling.search(text):
        return ""
    shape = _shapes(2)[1]
    # At both ends, too: a template may look at how a content begins or ends.
    forms = ("{} words", "some {} words", "some {}")
    if not all(_holds(talks, writer, shape, [form.format(text)] * len(shape)) for form in forms):
        return f"(?i:{re.escape(text)})"
    # The name of a role is found in its header where it is all of a content, and nowhere else.
    return "" if _holds(talks, writer, shape, [text] * len(shape)) else rf"(?i:\A\s*{re.escape(text)}\s*\z)"
