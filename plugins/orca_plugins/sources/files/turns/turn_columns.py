"""Messages as files store them, brought to one plain type: role, text, what its flags say, what it holds beside, and
the fault of each.

Here for columns of Arrow, in `turn_values` for values of JSON; both say the same of the same message, so that a
row meets the same end whatever file it lies in.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from orca_plugins.sources.files.columns import Wanted
from orca_plugins.sources.files.json_rows.strict_json import BadRow
from orca_plugins.sources.files.turns.arrow_texts import first_text, is_list, is_text, plain_text, texts_at
from orca_plugins.sources.files.turns.message_flags import flags_of_turns
from orca_plugins.sources.files.turns.message_keys import (
    ASSISTANT,
    CALL,
    EMPTY_TEXTS,
    NOT_PARTS,
    PART_KEYS,
    PARTS,
    ROLE_KEYS,
    SPACE,
    TEXT_KEYS,
    TOOL,
    calls_of,
    differing,
    flags_of,
    known,
    lost_of_message,
    odd_part,
    plain_role,
    reasoning_of,
    silent_keys,
    texts_of,
)
from orca_plugins.sources.files.turns.tool_values import without_nulls
from orca_plugins.sources.files.turns.turn_values import called
from orca_recipes.contract.frames import BESIDE_CONTENT
from orca_recipes.shards.layout import ROLES

if TYPE_CHECKING:
    import pyarrow as pa


def turns_type() -> "pa.DataType":
    """Return the type of messages as they are read: `train` is what its flags say, `fault` why the message cannot be
    used."""
    import pyarrow as pa

    text = pa.large_string()
    beside = [(name, text) for name in BESIDE_CONTENT]
    turn = pa.struct([("role", text), ("content", text), ("train", pa.bool_()), ("fault", text), *beside])
    return pa.large_list(turn)


def plain_turns(flat: "pa.Array", wanted: Wanted) -> "pa.Array":
    """Convert messages of any stored type that fits (`is_turn`) to the type of `turns_type`'s items."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(flat.type):
        return pa.nulls(len(flat), turns_type().value_type)
    fields = {field.name: pc.struct_field(flat, [place]) for place, field in enumerate(flat.type.fields)}
    roles = [_plain_roles(plain_text(fields[name]), wanted) for name in ROLE_KEYS if name in fields]
    contents: list[pa.Array] = []
    odd: list[pa.Array] = []
    for name in TEXT_KEYS:
        if name in fields and is_list(fields[name].type):
            text, fault = _texts_of_parts(fields[name], wanted)
            contents, odd = [*contents, text], [*odd, fault]
        elif name in fields:
            contents.append(plain_text(fields[name]))
    role, content = first_text(roles, len(flat)), first_text(contents, len(flat))
    role, spelt = _without_calls(role)
    train, flagged = flags_of_turns(fields, role, wanted)
    differ = [_differing(pair, names) for pair, names in ((roles, ROLE_KEYS), (contents, TEXT_KEYS)) if len(pair) > 1]
    silent = silent_keys(wanted) | {*PARTS, *flags_of(wanted)}
    beside, left, misread = _beside(fields, role, content, spelt, wanted)
    if (calls := beside["tool_calls"]).null_count < len(flat):
        content = pc.if_else(calls.is_valid(), _without(content.fill_null(""), spelt), content)
    fault = first_text(
        [_lost({**fields, **left}, len(flat), silent, wanted), *differ, *odd, flagged, misread], len(flat)
    )
    return pa.StructArray.from_arrays(
        [role, content, train, fault, *beside.values()],
        ["role", "content", "train", "fault", *beside],
        mask=flat.is_null(),
    )


def is_turn(stored: "pa.DataType") -> bool:
    """Tell whether a stored type can be a message: a struct with a role, and a text or parts of text."""
    import pyarrow as pa

    if not pa.types.is_struct(stored):
        return bool(pa.types.is_null(stored))
    names = [field.name for field in stored.fields]
    if len(set(names)) != len(names) or not all(set(names) & set(keys) for keys in (ROLE_KEYS, TEXT_KEYS)):
        return False
    kinds = {field.name: field.type for field in stored.fields}
    are_texts = all(is_text(kinds[name]) for name in ROLE_KEYS if name in kinds)
    return are_texts and all(is_text(kinds[name]) or is_list(kinds[name]) for name in TEXT_KEYS if name in kinds)


def holding(array: "pa.Array") -> np.ndarray:
    """Mark the values that hold something, by the rule of `holds` for JSON: bool [values]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if array.null_count == len(array):
        return np.zeros(len(array), bool)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_dictionary(kind):
        return holding(array.dictionary_decode())
    if isinstance(array, pa.ExtensionArray):
        return holding(array.storage)
    if pa.types.is_string_view(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        bare = pc.ascii_trim(array.cast(pa.large_string()).fill_null(""), characters=SPACE)
        nothing = pc.is_in(bare, pa.array(["", *EMPTY_TEXTS], pa.large_string()))
        return np.asarray(valid & ~nothing.to_numpy(zero_copy_only=False))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return np.asarray(valid & (pc.binary_length(array).fill_null(0).to_numpy(zero_copy_only=False) > 0))
    if pa.types.is_map(kind):
        return np.asarray(valid & (np.diff(array.offsets.to_numpy()) > 0))
    if is_list(kind):
        found = np.zeros(len(array), bool)
        parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
        found[parents[holding(pc.list_flatten(array))]] = True
        return found
    if pa.types.is_struct(kind):
        inner = [holding(pc.struct_field(array, [place])) for place in range(kind.num_fields)]
        return np.asarray(valid & np.logical_or.reduce([np.zeros(len(array), bool), *inner]))
    return np.asarray(valid)


def list_offsets(array: "pa.Array") -> "pa.Array":
    """Compute where each row's items start among the flattened ones: int64 [rows + 1]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())


def is_answered(messages: "pa.Array") -> np.ndarray:
    """Tell of each conversation whether its last message is an assistant's: bool [rows]."""
    import pyarrow.compute as pc

    offsets = list_offsets(messages).to_numpy()
    roles = pc.struct_field(pc.list_flatten(messages), "role")
    is_answer = np.append(pc.equal(roles, ASSISTANT).fill_null(False).to_numpy(zero_copy_only=False), False)
    return np.asarray(is_answer[offsets[1:] - 1] & (offsets[1:] > offsets[:-1]))


def _texts_of_parts(array: "pa.Array", wanted: Wanted) -> "tuple[pa.Array, pa.Array]":
    """Join the parts of contents as `turn_values._content` does, for a column of lists; return texts and faults."""
    import pyarrow as pa
    import pyarrow.compute as pc

    nothing = pa.nulls(len(array), pa.large_string())
    counts = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    parts, parents = pc.list_flatten(array), pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    faults: dict[int, str] = {}
    kinds = {field.name: field.type for field in parts.type.fields} if pa.types.is_struct(parts.type) else {}
    if not all(name in kinds and is_text(kinds[name]) for name in PART_KEYS):
        return nothing, texts_at(len(array), dict.fromkeys(np.flatnonzero(counts).tolist(), NOT_PARTS))
    fields = {field.name: pc.struct_field(parts, [place]) for place, field in enumerate(parts.type.fields)}
    kind = plain_text(fields["type"])
    odd = ~pc.equal(kind, "text").fill_null(False).to_numpy(zero_copy_only=False)
    for place in np.flatnonzero(odd).tolist():  # parts of text are what nearly all parts are
        # As bytes, since text that is not UTF-8 cannot be given out as str.
        named = kind[place].cast(pa.large_binary()).as_py()
        faults.setdefault(int(parents[place]), odd_part(named and named.decode(errors="replace")))
    lost = _lost(fields, len(parts), silent_keys(wanted) | {*PART_KEYS}, wanted)
    for place in np.flatnonzero(lost.is_valid().to_numpy(zero_copy_only=False)).tolist():
        faults.setdefault(int(parents[place]), lost[place].as_py())
    texts = pa.LargeListArray.from_arrays(list_offsets(array), plain_text(fields["text"]))
    joined = pc.binary_join(texts, pa.scalar("", pa.large_string()))  # null where a part is
    unread = (counts == 0) | np.isin(np.arange(len(array)), list(faults))
    return pc.if_else(pa.array(unread), pa.scalar(None, pa.large_string()), joined), texts_at(len(array), faults)


def _without_calls(role: "pa.Array") -> "tuple[pa.Array, np.ndarray]":
    """Give texts that spell calls the assistant's role, and mark them: bool [messages]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    spelt = pc.equal(role, CALL).fill_null(False)
    if not pc.any(spelt).as_py():
        return role, np.zeros(len(role), bool)
    assistant = pa.scalar(ASSISTANT, pa.large_string())
    return pc.if_else(spelt, assistant, role), np.asarray(spelt.to_numpy(zero_copy_only=False))


def _beside(
    fields: "Mapping[str, pa.Array]", role: "pa.Array", content: "pa.Array", spelt: np.ndarray, wanted: Wanted
) -> "tuple[dict[str, pa.Array], dict[str, pa.Array], pa.Array]":
    """Read what messages hold beside content as `turn_values._beside` does, for columns; also return the fields left
    unread, and the faults."""
    import pyarrow as pa

    count = len(role)
    left: dict[str, pa.Array] = {}
    found: dict[str, list[pa.Array]] = {"reasoning": [], "tool_call_id": [], "name": []}
    thoughts = reasoning_of(wanted)
    for name in texts_of(wanted):
        if name not in fields or fields[name].null_count == count:
            continue
        ours = "reasoning" if name in thoughts else "name" if name in known().names else "tool_call_id"
        speaker = {"reasoning": ASSISTANT, "tool_call_id": TOOL, "name": None}[ours]
        if is_text(fields[name].type) or pa.types.is_integer(fields[name].type):
            text, left[name] = _parted(plain_text(fields[name]), role, speaker)
            found[ours].append(text)
        elif ours == "name":
            _, left[name] = _parted(fields[name], role, TOOL, is_of_others=False)
    columns = {name: first_text(found.get(name, []), count) for name in BESIDE_CONTENT}
    differ = _differing_any(found["reasoning"], [name for name in thoughts if name in left], count)
    held = {name: fields[name] for name in calls_of(wanted) if name in fields and fields[name].null_count < count}
    if not held and not spelt.any():
        return columns, left, differ
    masks = {}
    for name, array in held.items():
        mine = _is_role(role, ASSISTANT)
        masks[name] = holding(array) & mine
        left[name] = _where(array, ~mine)
    texts: dict[int, str | None] = {}
    faults: dict[int, str] = {}
    for place in np.flatnonzero(np.logical_or.reduce([spelt, *masks.values()])).tolist():
        calls = {name: without_nulls(held[name][place].as_py()) for name, mask in masks.items() if mask[place]}
        try:
            texts[place], odd = called(calls, content[place].as_py() if spelt[place] else None, wanted)
        except (BadRow, UnicodeDecodeError) as reason:
            odd = str(reason) if isinstance(reason, BadRow) else None
        if odd is not None:
            faults[place] = odd
    columns["tool_calls"] = texts_at(count, {place: text for place, text in texts.items() if text is not None})
    return columns, left, first_text([differ, texts_at(count, faults)], count)


def _parted(
    array: "pa.Array", role: "pa.Array", speaker: str | None, *, is_of_others: bool = True
) -> "tuple[pa.Array, pa.Array]":
    """Select the values that hold something and are the speaker's (None: anyone's), and those of all others, or again
    the speaker's if not is_of_others."""
    held = holding(array)
    mine = np.ones(len(array), bool) if speaker is None else _is_role(role, speaker)
    return _where(array, held & mine), _where(array, held & ~mine if is_of_others else held & mine)


def _is_role(role: "pa.Array", which: str) -> np.ndarray:
    import pyarrow.compute as pc

    return np.asarray(pc.equal(role, which).fill_null(False).to_numpy(zero_copy_only=False))


def _where(array: "pa.Array", kept: np.ndarray) -> "pa.Array":
    """Keep the marked values, null in place of the others."""
    import pyarrow as pa

    return array if kept.all() else array.take(pa.array(np.arange(len(array)), mask=~kept))


def _without(content: "pa.Array", spelt: np.ndarray) -> "pa.Array":
    """Empty the contents that were the texts of calls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pa.array(spelt), pa.scalar("", pa.large_string()), content) if spelt.any() else content


def _differing_any(texts: "Sequence[pa.Array]", names: Sequence[str], count: int) -> "pa.Array":
    """Build the reasons to reject messages with texts under several of the keys that differ."""
    import pyarrow as pa

    faults: dict[int, str] = {}
    texts = [array.cast(pa.large_binary()) for array in texts]  # which may be no UTF-8
    if len(texts) > 1:
        there = np.sum([~np.asarray(array.is_null()) for array in texts], axis=0)
        for place in np.flatnonzero(there > 1).tolist():
            said = {name: array[place].as_py() for name, array in zip(names, texts, strict=True)}
            told = {name: text for name, text in said.items() if text is not None}
            if len({*told.values()}) > 1:
                faults[place] = differing(list(told))
    return texts_at(count, faults)


def _lost(fields: "Mapping[str, pa.Array]", count: int, silent: frozenset[str], wanted: Wanted) -> "pa.Array":
    """Build the reason to reject each message or part with fields that are not carried: large_string [count]."""
    import pyarrow as pa

    held = {name: holding(array) for name, array in fields.items() if name not in silent}
    names = [name for name, found in held.items() if found.any()]
    if not names:
        return pa.nulls(count, pa.large_string())
    # Few combinations of lost fields occur: each sentence is made once.
    which, reason_of = np.unique(np.stack([held[name] for name in names]), axis=1, return_inverse=True)
    lost = [[name for name, flag in zip(names, column, strict=True) if flag] for column in which.T]
    reasons = pa.array([lost_of_message(keys, wanted) if keys else None for keys in lost], pa.large_string())
    return reasons.take(pa.array(reason_of.ravel()))


def _differing(pair: "Sequence[pa.Array]", names: Sequence[str]) -> "pa.Array":
    """Build the reasons to reject messages with two texts that differ."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if any(array.null_count == len(array) for array in pair):
        return pa.nulls(len(pair[0]), pa.large_string())
    differ = pc.not_equal(*pair).fill_null(False)
    return pc.if_else(differ, pa.scalar(differing(names), pa.large_string()), pa.scalar(None, pa.large_string()))


def _plain_roles(role: "pa.Array", wanted: Wanted) -> "pa.Array":
    """Translate roles to ours; nearly all are called so already."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ours = pa.array([name for name in ROLES[1:] if name not in wanted.roles], pa.large_string())
    if pc.all(pc.is_in(role, ours)).as_py():
        return role
    try:
        theirs = pc.unique(role)
        meant = [plain_role(name, wanted) for name in theirs.to_pylist()]
    except UnicodeDecodeError:
        return role  # the row's text is refused as a whole
    return pa.array(meant, pa.large_string()).take(pc.index_in(role, theirs))
