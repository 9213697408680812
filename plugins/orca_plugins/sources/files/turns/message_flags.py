"""Flags of messages as columns of Arrow: whether a turn is trained, or the fault of flags that contradict."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from orca_plugins.sources.files.columns import Wanted
from orca_plugins.sources.files.turns.arrow_texts import texts_at
from orca_plugins.sources.files.turns.message_keys import (
    SAYS_ELSE,
    SAYS_NO,
    SAYS_YES,
    flag_of_another,
    flags_disagree,
    flags_of,
    odd_flag,
)

if TYPE_CHECKING:
    import pyarrow as pa

# Apart from SAYS_NO: a flag that is missing leaves the turn to `train_on`.
_SAYS_NOTHING = -1


def flags_of_turns(fields: "Mapping[str, pa.Array]", role: "pa.Array", wanted: Wanted) -> "tuple[pa.Array, pa.Array]":
    """Read the flags of messages as `turn_values._flags` does, for columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    count = len(role)
    columns = {flag: fields[flag] for flag in flags_of(wanted) if flag in fields and fields[flag].null_count < count}
    if not columns:
        return pa.nulls(count, pa.bool_()), pa.nulls(count, pa.large_string())
    said = np.stack([_said_by_all(array) for array in columns.values()])
    names = list(columns)
    answers = pc.equal(role, "assistant").fill_null(False).to_numpy(zero_copy_only=False)
    yes, no = (said == SAYS_YES).any(axis=0), (said == SAYS_NO).any(axis=0)
    faults: dict[int, str] = {}
    for place in np.flatnonzero((said == SAYS_ELSE).any(axis=0)).tolist():
        faults[place] = odd_flag(names[int(np.argmax(said[:, place] == SAYS_ELSE))], wanted)
    for place in np.flatnonzero(yes & no).tolist():
        told = [name for name, says in zip(names, said[:, place], strict=True) if says != _SAYS_NOTHING]
        faults.setdefault(place, flags_disagree(told, wanted))
    # Training another's words is nothing that a recipe can mean; in silence it would teach the model to ask itself.
    for place in np.flatnonzero(yes & ~answers).tolist():
        faults.setdefault(place, flag_of_another(names[int(np.argmax(said[:, place] == SAYS_YES))], wanted))
    return pa.array(yes, mask=~(yes ^ no)), texts_at(count, faults)


def _said_by_all(array: "pa.Array") -> np.ndarray:
    """Read each value of a flag: int8 [messages], SAYS_NO, SAYS_YES or SAYS_ELSE, -1 for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(array.type):
        says = array.fill_null(False).to_numpy(zero_copy_only=False).astype(np.int8)
    elif any(is_one(array.type) for is_one in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)):
        number = pc.cast(array, pa.float64(), safe=False).fill_null(0).to_numpy(zero_copy_only=False)
        says = np.where(number == 0, SAYS_NO, np.where(number == 1, SAYS_YES, SAYS_ELSE)).astype(np.int8)
    else:
        says = np.full(len(array), SAYS_ELSE, np.int8)
    return np.asarray(np.where(valid, says, _SAYS_NOTHING))
