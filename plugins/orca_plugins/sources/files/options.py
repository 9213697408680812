"""The options of every source that takes its columns from files: which of theirs are ours, and what is done with them.

Declared once, as types, so that each such source has them under one name, with one check and one sentence for people.
"""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from orca_plugins.sources.files.columns import Theirs, require_known
from orca_plugins.sources.files.shapes import AUTO, shape_named, shapes
from orca_plugins.sources.files.turns.message_keys import require_ignorable, require_roles
from orca_recipes.contract.spelling import hint, quoted


def _known(columns: dict[str, Theirs] | None) -> dict[str, Theirs] | None:
    require_known(columns or {})
    return columns


def _as_tuples(columns: Any) -> Any:
    if not isinstance(columns, dict):
        return columns
    return {ours: tuple(theirs) if isinstance(theirs, list) else theirs for ours, theirs in columns.items()}


def _known_shape(name: str | None) -> str | None:
    if name is not None and name != AUTO and name not in shapes():
        sentence = f"there is no shape {quoted(name)}{hint(name, [*shapes(), AUTO])}"
        raise PydanticCustomError("shape", "{sentence}", {"sentence": sentence})
    return name


def _named_once(extra: tuple[str, ...]) -> tuple[str, ...]:
    if "" in extra or len(set(extra)) != len(extra):
        raise PydanticCustomError("extra", "name each extra column of the file once")
    return extra


def _ignorable(keys: tuple[str, ...]) -> tuple[str, ...]:
    require_ignorable(keys)
    return keys


def _meant(roles: dict[str, str]) -> dict[str, str]:
    require_roles(roles)
    return roles


Columns = Annotated[
    dict[str, Theirs] | None,
    BeforeValidator(_as_tuples, json_schema_input_type=dict[str, str | tuple[str, ...]]),
    AfterValidator(_known),
    Field(
        description="our columns to the file's: question, reference, task, id, system, answer, category, messages, "
        "options, language, reasoning, tools, template_kwargs; a.b is b inside of a, a.0 the first of a list; "
        "question, system and answer may be lists of columns, joined by a blank line, empty ones left out; unset: the "
        "first eight, where the file has them; tools (or functions) and chat_template_kwargs beside messages are read "
        "without being named"
    ),
]
ShapeName = Annotated[
    str | None,
    AfterValidator(_known_shape),
    Field(
        description='a well-known layout by name, which says the columns (those of `columns` win), or "auto": known '
        "by columns and first rows, told by `plan` and kept in the lock; `orca-recipe init` lists what fits a file"
    ),
]
Paths = Annotated[
    Literal["all", "best"] | None,
    Field(
        description='shapes of trees: "all": each path to a last answer is a conversation; "best": of each tree the '
        "one whose answers rank first; unset: all"
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

Roles = Annotated[
    dict[str, str],
    AfterValidator(_meant),
    Field(
        description="the file's roles to system, user, assistant, tool, or \"call\" (an assistant's turn whose text "
        "spells calls of tools); known without it, whatever their case: developer, human, gpt, model, observation, "
        "ipython, environment, function, function_call, function_response and the like"
    ),
]

SecondSystem = Annotated[
    Literal["merge", "keep"] | None,
    Field(
        description="a row with a system message behind its first message: merge puts the texts of all of them first, "
        "with empty lines between; keep leaves each where it stands, if the template prints it; unset: it is rejected"
    ),
]

_NEW = ("roles", "where", "shape", "paths", "delimiter", "second_system")
"""Options that came later: where a recipe does not use them, it means what it meant before them."""
_NEW_OF_SHAPES = ("items", "calls_after", "system_says", "shows", "tags", "history")


def identity_of(options: dict[str, Any]) -> dict[str, Any]:
    """Select the options that decide the rows read; an unset `train_on` is the same as "all", and newer options count
    only where set."""
    said = {name: value for name, value in options.items() if name not in _NEW or value}
    meant = {"shape": _meant_by(said["shape"])} if said.get("shape") not in (None, AUTO) else {}
    return {**said, **meant, "train_on": options["train_on"] or "all"}


def _meant_by(name: str) -> dict[str, Any]:
    """Return all fields of a shape; newer ones only where they are set."""
    return {key: value for key, value in asdict(shape_named(name)).items() if key not in _NEW_OF_SHAPES or value}
