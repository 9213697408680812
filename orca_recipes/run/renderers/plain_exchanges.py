"""Single exchanges of plain text, by the columns, under templates that no table of joints stands for.

Such a template (Qwen3's prints an empty thought before the last answer) still prints the same around the contents of
one question and its answer, whatever they say, as long as they say nothing that it looks for. What it prints is found
by rendering words, and tried on odd contents; a conversation that holds more, or any words of the template's own, is
rendered by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import groupby, pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.markup import START, Joint, Markup
from orca_recipes.contract.templates.chat_template import literals
from orca_recipes.contract.templates.dialogues import Dialogue, Unfit
from orca_recipes.contract.templates.turn_texts import TurnWriter
from orca_recipes.run.renderers.turn_examples import TurnExample, spans_of
from orca_recipes.run.segments.flat_messages import PYTHON_SPACE
from orca_recipes.shards.layout import ROLES
from orca_recipes.shards.records import ALL_TURNS
from orca_recipes.store.arrow_files import one_piece

if TYPE_CHECKING:
    import pyarrow as pa

WORTH = 32
"""Fewer conversations are rendered one by one sooner than a template is tried."""

_SHAPES = (("user", "assistant"), ("system", "user", "assistant"))
_ASKING = ("system", "user")
"""Roles whose contents may keep the white space around them."""
AROUND = (("", " "), (" ", ""), ("\n", "\n\n"), ("", "\t\r\n"), (" \n ", " \n"))
_CUT_BEFORE, _CUT_BEHIND = ("", "\n", PYTHON_SPACE), (PYTHON_SPACE, "")
"""What templates cut off answers, the usual first."""
_SPELT = json.encoder.encode_basestring
_WORDS = {"system": "system_words", "user": "question_words", "assistant": "answer_words"}
LONGEST = 60
"""Longer strings of a template are texts that it prints."""
_MARKING = re.compile(r"[<>\[\]{}|\\]")
"""What a literal of a template holds for which contents are looked through; others are names of roles and such."""


@dataclass(frozen=True)
class PlainExchanges:
    """What a template prints around single exchanges, and what their contents must not hold.

    markup: its joints are of prompts as they are trained after, an empty thought in them. telling: a pattern of RE2.
    raw: roles whose contents are printed with the white space around them. cut: what is cut off an answer before and
    behind, None where that is not known.
    """

    markup: Markup
    telling: str
    raw: frozenset[str] = frozenset()
    cut: tuple[str, str] | None = None

    def fit(self, conversations: pa.Table) -> np.ndarray:
        """Return bool [conversations]: which are single exchanges of plain text.

        Args:
            conversations: `narrow_tables.whole`, of conversations that hold nothing beside plain messages.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        messages = one_piece(conversations["messages"])
        counts = np.asarray(pc.list_value_length(messages).fill_null(0))
        owners = np.repeat(np.arange(len(counts)), counts)
        flat = messages.flatten()
        content, role = flat.field("content"), flat.field("role")
        codes = np.asarray(pc.index_in(role, value_set=pa.array(ROLES, type=role.type)).fill_null(0))
        trained = np.asarray(flat.field("trained").fill_null(False).to_numpy(zero_copy_only=False))
        is_answer = codes == ROLES.index("assistant")
        words = pc.binary_length(pc.utf8_trim(content, characters=PYTHON_SPACE))
        roles = [*self.raw, *(["assistant"] if self.cut is not None else [])]
        bare = flags_of(pc.equal(words, pc.binary_length(content))) | np.isin(
            codes, [ROLES.index(one) for one in roles]
        )
        sound = bare & flags_of(pc.greater(words, 0)) & (trained == is_answer)
        sound[sound] = ~flags_of(pc.match_substring_regex(content.filter(pa.array(sound)), self.telling))
        starts = np.cumsum(counts) - counts
        found = np.zeros(len(counts), dtype=bool)
        for shape in _SHAPES:
            rows = np.flatnonzero(counts == len(shape))
            mine = codes[starts[rows][:, None] + np.arange(len(shape))]
            found[rows[(mine == [ROLES.index(role) for role in shape]).all(axis=1)]] = True
        found[owners[~sound]] = False
        finished = ~np.asarray(conversations["cut"].combine_chunks().fill_null(True).to_numpy(zero_copy_only=False))
        return np.asarray(found & finished)

    def printed(self, messages: pa.Array) -> pa.Array:
        """Return conversations that fit, their answers as they are printed."""
        import pyarrow as pa
        import pyarrow.compute as pc

        flat = messages.flatten()
        content, is_answer = flat.field("content"), pc.equal(flat.field("role"), "assistant")
        answers = content.filter(is_answer)
        before, behind = self.cut or ("", "")
        cut = pc.utf8_rtrim(pc.utf8_ltrim(answers, characters=before), characters=behind)
        if pc.all(pc.equal(pc.binary_length(cut), pc.binary_length(answers))).as_py() is not False:
            return messages
        contents = pc.replace_with_mask(content, is_answer, cut)
        names = [field.name for field in flat.type.fields]
        columns = [contents if name == "content" else flat.field(name) for name in names]
        offsets = pa.array(np.concatenate([[0], np.cumsum(np.asarray(messages.value_lengths()))]), pa.int64())
        return pa.LargeListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, names))


def plain_exchanges(writer: TurnWriter, template: str, control: Sequence[str]) -> PlainExchanges | None:
    """Find out what a template prints around single exchanges; None where that depends on more than their roles.

    Args:
        writer: renders turns. template: its text. control: the texts of control tokens.
    """
    marks = {text.strip() for text in literals(template) if _MARKING.search(text)}
    telling = "|".join(re.escape(text) for text in sorted({*control, *filter(None, marks)}))
    joints: dict[tuple[str, str], Joint] = {}
    ends = set()
    for shape in _SHAPES:
        found = taken_apart(writer, shape, [_WORDS[role] for role in shape])
        if found is None:
            return None
        pairs = dict(zip(pairwise((START, *shape)), found[0], strict=True))
        if any(joints.get(pair, joint) != joint for pair, joint in pairs.items()):
            return None
        joints |= pairs
        ends.add(found[1])
    if len(ends) != 1:
        return None
    prefix, end = ends.pop()
    exchanges = PlainExchanges(Markup(joints, end, template, answer_prefix=prefix), telling)
    if not _holds_forodd_contents(exchanges, writer):
        return None
    raw = frozenset(role for role in _ASKING if _prints_white_space(exchanges, writer, role))
    ways = product(_CUT_BEFORE, _CUT_BEHIND)
    cut = next((way for way in ways if _prints_white_space(exchanges, writer, "assistant", way)), None)
    exchanges = replace(exchanges, raw=raw, cut=cut)
    heeded = [re.escape(text) for text in _heeded(exchanges, writer, template)]
    return (
        replace(exchanges, telling="|".join([telling, *(f"(?i:{text})" for text in heeded)])) if heeded else exchanges
    )


def given_of_plain(conversations: pa.Table, owner: np.ndarray, place: np.ndarray) -> list[str]:
    """Encode the messages that inference is given of plain conversations, as `Dialogue.as_json` writes them.

    Args:
        owner, place: int64 [examples], the conversation of each and its message that is trained.
    """
    import pyarrow.compute as pc

    messages = one_piece(conversations["messages"])
    flat = messages.flatten()
    columns = (flat.field(name).to_pylist() for name in ("role", "content", "trained"))
    # Text by text, as `json.dumps` spells each: three times as fast as of objects that are made for it.
    told = [
        f'{{"role": {_SPELT(role)}, "content": {_SPELT(content)}, "trained": {"true" if trained else "false"}}}'
        for role, content, trained in zip(*columns, strict=True)
    ]
    counts = pc.list_value_length(messages).to_numpy()
    starts = (np.cumsum(counts) - counts)[owner]
    bounds = zip(starts.tolist(), (starts + place + 1).tolist(), strict=True)
    return [f'{{"messages": [{", ".join(told[start:end])}]}}' for start, end in bounds]


def taken_apart(
    writer: TurnWriter, shape: Sequence[str], words: Sequence[str]
) -> tuple[list[Joint], tuple[str, str]] | None:
    """Split a shape into the joint before each message and the texts before and after its last answer's content; None
    if the template prints it otherwise.

    Args:
        words: contents, none of which holds another.
    """
    messages = messages_of(shape, words)
    try:
        (turn,) = writer.turns(Dialogue(messages))
    except Unfit:
        return None
    whole = turn.prompt + turn.answer
    if any(whole.count(word) != 1 for word in words):
        return None
    between: dict[int, list[tuple[int, str]]] = {}
    place = 0
    for span in spans_of(TurnExample(0, ALL_TURNS, [turn]), messages, writer.control):
        if span.trained or span.text == words[min(place, len(shape) - 1)]:
            place += 1
        else:
            between.setdefault(place, []).append((span.role, span.text))
    if place != len(shape):
        return None
    joints = []
    for at, role in enumerate(shape):
        code = ROLES.index(shape[at - 1] if at else "system")
        told = between.get(at, [])
        header = "".join(text for owner, text in told if owner == ROLES.index(role))
        footer = "".join(text for owner, text in told if owner == code != ROLES.index(role))
        # Text of a third role stands between: it is nobody's to train or not.
        if footer + header != "".join(text for _, text in told):
            return None
        joints.append(Joint(footer, header))
    prefix, _, end = turn.answer.partition(words[-1])
    return joints, (prefix, end)


def _holds_forodd_contents(exchanges: PlainExchanges, writer: TurnWriter) -> bool:
    """Tell whether odd contents are printed as plain words are, in any place."""
    odd = odd_contents(exchanges)
    for shape in _SHAPES:
        for at, text in enumerate(odd):
            texts = {role: odd[(at + step) % len(odd)] for step, role in enumerate(shape)} | {"user": text}
            if not _holds(exchanges.markup, writer, shape, texts):
                return False
    return True


def _heeded(exchanges: PlainExchanges, writer: TurnWriter, template: str) -> Iterator[str]:
    """Yield the strings of a template without signs (a "/no_think", a word) that change how it prints a content."""
    telling = re.compile(exchanges.telling)
    for text in dict.fromkeys(map(str.strip, literals(template))):
        # What has signs in it is found in contents by its signs already.
        if not text or len(text) > LONGEST or telling.search(text):
            continue
        for shape, form in product(_SHAPES, ("{}", "{} words", "some {} words")):
            said = form.format(text)
            if not _holds(exchanges.markup, writer, shape, dict.fromkeys(shape, said)):
                yield text
                break


def _holds(markup: Markup, writer: TurnWriter, shape: Sequence[str], texts: Mapping[str, str]) -> bool:
    """Tell whether the template prints an exchange as the joints do."""
    wanted = ""
    for before, role in zip((START, *shape), shape, strict=False):
        joint = markup.joints[before, role]
        wanted += joint.footer + joint.header
        wanted += markup.answer_prefix + texts[role] + markup.terminator if role == "assistant" else texts[role]
    try:
        (turn,) = writer.turns(Dialogue(messages_of(shape, [texts[role] for role in shape])))
    except Unfit:
        return False
    return turn.prompt + turn.answer == wanted


def odd_contents(exchanges: PlainExchanges) -> list[str]:
    """List odd contents that hold nothing which the template looks for."""
    listed = json.loads(resources.files("orca_recipes.run.pinning").joinpath("odd_contents.json").read_bytes())
    telling = re.compile(exchanges.telling)
    return [text for text in listed if text and text == text.strip(PYTHON_SPACE) and not telling.search(text)]


def _prints_white_space(
    exchanges: PlainExchanges, writer: TurnWriter, role: str, cut: tuple[str, str] = ("", "")
) -> bool:
    """Tell whether contents of a role with white space around them are printed in their place, but for what is cut
    off."""
    shapes = [shape for shape in _SHAPES if role in shape]
    return all(
        _stands_in_place(exchanges.markup, writer, shape, _WORDS | {role: before + text + behind}, cut)
        for shape in shapes
        for text in (_WORDS[role], *odd_contents(exchanges))
        for before, behind in AROUND
    )


def _stands_in_place(
    markup: Markup, writer: TurnWriter, shape: Sequence[str], texts: Mapping[str, str], cut: tuple[str, str]
) -> bool:
    """Tell whether contents are printed as words are, white space with the role that said it."""
    before, behind = (f"[{re.escape(space)}]*" if space else "" for space in cut)
    answer = re.sub(rf"\A{before}|{behind}\Z", "", texts["assistant"])
    wanted: list[tuple[str, bool, str]] = []
    for earlier, role in zip((START, *shape), shape, strict=False):
        joint, trains = markup.joints[earlier, role], role == "assistant"
        content = markup.answer_prefix + answer + markup.terminator if trains else texts[role]
        wanted += [(earlier or "system", False, joint.footer), (role, False, joint.header), (role, trains, content)]
    messages = messages_of(shape, [texts[role] for role in shape])
    try:
        (turn,) = writer.turns(Dialogue(messages))
    except Unfit:
        return False
    spans = spans_of(TurnExample(0, ALL_TURNS, [turn]), messages, writer.control)
    return joined_spans((ROLES[span.role], span.trained, span.text) for span in spans) == joined_spans(wanted)


def joined_spans(spans: Iterable[tuple[str, bool, str]]) -> list[tuple[str, bool, str]]:
    """Return texts with their roles, those that follow one of the same role joined to it."""
    groups = groupby((span for span in spans if span[2]), key=lambda span: span[:2])
    return [(role, trained, "".join(text for _, _, text in group)) for (role, trained), group in groups]


def messages_of(shape: Sequence[str], texts: Sequence[str]) -> list[dict[str, Any]]:
    """Make a conversation that trains its last message alone."""
    return [
        {"role": role, "content": text, "trained": at == len(shape) - 1}
        for at, (role, text) in enumerate(zip(shape, texts, strict=True))
    ]


def flags_of(column: Any) -> np.ndarray:
    """Return bool [n]: a column of Arrow's, null for no."""
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False))
