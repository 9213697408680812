"""The options of every source that takes its columns from files: which of theirs are ours, and what is done with them.

Declared once, as types, so that each such source has them under one name, with one check and one sentence for people.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from orca_plugins.sources.files.columns import require_known
from orca_plugins.sources.files.message_keys import require_ignorable


def _known(columns: dict[str, str] | None) -> dict[str, str] | None:
    require_known(columns or {})
    return columns


def _named_once(extra: tuple[str, ...]) -> tuple[str, ...]:
    if "" in extra or len(set(extra)) != len(extra):
        raise PydanticCustomError("extra", "name each extra column of the file once")
    return extra


def _ignorable(keys: tuple[str, ...]) -> tuple[str, ...]:
    require_ignorable(keys)
    return keys


Columns = Annotated[
    dict[str, str] | None,
    AfterValidator(_known),
    Field(
        description="our columns to the file's: question, reference, task, id, system, answer, category, messages, "
        "options, language, reasoning; a.b is b inside of a; unset: the first eight, where the file has them"
    ),
]
Extra = Annotated[
    tuple[str, ...],
    AfterValidator(_named_once),
    Field(description="columns of the file that are kept as they are, for strategies that name them"),
]
Task = Annotated[str | None, Field(min_length=1, description="one task for all rows, in place of a column")]
TrainOn = Annotated[
    Literal["all", "last"] | None,
    Field(
        description="which assistant messages of `messages` are trained, where their flags do not say otherwise; "
        "unset: all, or where a new answer ends the conversation, that one alone"
    ),
]
IgnoreKeys = Annotated[
    tuple[str, ...],
    AfterValidator(_ignorable),
    Field(description="keys of messages, and columns beside them, that are left out on purpose; others reject the row"),
]

_NEW = ("where",)
"""Options that came later: where a recipe does not use them, it means what it meant before them."""


def identity_of(options: dict[str, Any]) -> dict[str, Any]:
    """What decides the rows that are read, of all options; unset or "all", `train_on` means the same."""
    said = {name: value for name, value in options.items() if name not in _NEW or value}
    return {**said, "train_on": options["train_on"] or "all"}
