"""Keys of messages and rows: those that are read, and the faults of the others.

Keys that templates may print are carried (thoughts, calls, names, tools). A key that is not carried is never dropped in
silence: its row is rejected, and the reason holds the recipe line that reads the row without it. Null and empty values
count as nothing.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from typing import Any

from pydantic_core import PydanticCustomError

from orca_plugins.sources.files.columns import Wanted, routes, shown
from orca_plugins.sources.files.json_rows.strict_json import Digits, Unlike

ROLE_KEYS, TEXT_KEYS = ("role", "from"), ("content", "value")
"""Under which names a message has its role and its text: OpenAI's and ShareGPT's, also mixed."""

PARTS = ROLE_KEYS + TEXT_KEYS
TOOL, ASSISTANT = "tool", "assistant"
CALL = "call"
"""What a role is called that is an assistant's turn whose text spells calls."""

ROLES_MEANT = ("system", "user", ASSISTANT, TOOL, CALL)
"""What a collection's `roles` may say of a role."""

PART_KEYS = ("type", "text")
"""What a part of a content is read from."""

SPACE = " \t\n\r\x0b\x0c"
EMPTY_TEXTS = ("[]", "{}")
"""Texts that spell nothing at all in JSON."""

SAYS_NO, SAYS_YES, SAYS_ELSE = 0, 1, 2
"""What a flag says of its turn: not to be trained, to be trained, something that is neither."""

_NAMES_SAID = 8
# `is_of_what_is_lost` knows such faults by these words.
_LOST = " would be lost; "
_ONLY_TEXT = ", and only text is read"


@dataclass(frozen=True)
class Known:
    """The contents of `message_keys_known.toml`."""

    flags: tuple[str, ...]
    names: tuple[str, ...]
    reasoning: tuple[str, ...]
    answers: tuple[str, ...]
    calls: tuple[str, ...]
    roles: Mapping[str, str]
    carried: Mapping[str, tuple[str, ...]]
    harmless: frozenset[str]
    seen: tuple[str, ...]
    with_messages: tuple[str, ...]


@cache
def known() -> Known:
    """Load `message_keys_known.toml`, once."""
    told = tomllib.loads((package_files(__package__) / "message_keys_known.toml").read_text(encoding="utf-8"))
    message, row = told["message"], told["row"]
    return Known(
        **{name: tuple(message[name]) for name in ("flags", "names", "reasoning", "answers", "calls")},
        roles=told["roles"],
        carried={ours: tuple(names) for ours, names in row["carried"].items()},
        harmless=frozenset(message["harmless"]),
        seen=tuple(row["seen"]),
        with_messages=tuple(row["with_messages"]),
    )


def require_ignorable(keys: Sequence[str]) -> None:
    """Refuse keys to ignore that are empty, given twice, or needed to read a message.

    Raises: PydanticCustomError.
    """
    if "" in keys or len(set(keys)) != len(keys):
        raise PydanticCustomError("ignore_keys", "name each key to ignore once")
    if needed := next((key for key in keys if key in PARTS), None):
        raise PydanticCustomError(
            "ignore_keys", "{sentence}", {"sentence": f'"{needed}" is what a message is read from'}
        )


def flags_of(wanted: Wanted) -> tuple[str, ...]:
    """List the keys that flag a turn as trained or not, less the ignored ones."""
    return tuple(flag for flag in known().flags if flag not in wanted.ignored)


def texts_of(wanted: Wanted) -> tuple[str, ...]:
    """List the keys beside content that are carried as texts (speaker, thoughts, the call answered), less the ignored
    ones."""
    named = known()
    return tuple(name for name in (*named.names, *named.reasoning, *named.answers) if name not in wanted.ignored)


def reasoning_of(wanted: Wanted) -> tuple[str, ...]:
    """List the keys of an assistant's thoughts, less the ignored ones."""
    return tuple(name for name in known().reasoning if name not in wanted.ignored)


def calls_of(wanted: Wanted) -> tuple[str, ...]:
    """List the keys of an assistant's calls, less the ignored ones."""
    return tuple(name for name in known().calls if name not in wanted.ignored)


def carried_of(wanted: Wanted) -> dict[str, tuple[str, ...]]:
    """Map our columns that rows bring beside messages unasked to the names they may have in a file."""
    free = watched(wanted, with_messages=True)
    found = {ours: tuple(name for name in names if name in free) for ours, names in known().carried.items()}
    return {ours: names for ours, names in found.items() if names and ours not in wanted.paths}


def plain_role(role: str | None, wanted: Wanted) -> str | None:
    """Translate a role to ours; an unknown one stays as it is."""
    if role is None or role in wanted.roles:
        return role and wanted.roles[role]
    return known().roles.get(role.casefold(), role)


def require_roles(roles: Mapping[str, str]) -> None:
    """Refuse roles that mean none of ours.

    Raises: PydanticCustomError.
    """
    for theirs, ours in roles.items():
        if ours not in ROLES_MEANT or not theirs:
            sentence = f"{_quoted(theirs)} is {_quoted(ours)}, which is none of {', '.join(ROLES_MEANT)}"
            raise PydanticCustomError("roles", "{sentence}", {"sentence": sentence})


def silent_keys(wanted: Wanted) -> frozenset[str]:
    """Return the keys of a message that are left out without a fault."""
    return known().harmless | wanted.ignored


def watched(wanted: Wanted, *, with_messages: bool) -> tuple[str, ...]:
    """List the columns that a row must leave empty, because they would be lost."""
    taken = {name for path in wanted.paths.values() for route in routes(path) for name in (path, route[0])}
    names = known().seen + (known().with_messages if with_messages else ())
    return tuple(name for name in names if name not in taken | wanted.ignored)


def holders(wanted: Wanted) -> list[tuple[str, ...]]:
    """Return routes to the objects in which watched columns are looked for: the row, and what holds its messages."""
    inner = routes(wanted.paths["messages"])[1:] if "messages" in wanted.paths else []
    return [(), *(route[:-1] for route in inner)]


def lost_of_message(names: Iterable[str], wanted: Wanted) -> str:
    """Return the reason to reject a message with keys that are not carried."""
    said = sorted(names)[:_NAMES_SAID]
    return f"messages: {_listed(said)}{_LOST}{_without(said, wanted)}"


def lost_of_row(names: Iterable[str], wanted: Wanted) -> str:
    """Return the reason to reject a row with columns it must leave empty, each with the object that holds it."""
    said = sorted(names)[:_NAMES_SAID]
    they = "it" if len(said) == 1 else "they"
    return f"{', '.join(said)}: {they}{_LOST}{_without([name.rpartition('.')[2] for name in said], wanted)}"


def is_of_what_is_lost(reason: str) -> bool:
    """Tell whether a fault is only that a sound row holds something not carried."""
    return _LOST in reason or reason.endswith(_ONLY_TEXT)


def given_twice(ours: str) -> str:
    """Return the reason to reject a row that brings one thing beside its messages under two names."""
    return f"{ours}: the row has them twice, and they differ"


def differing(names: Sequence[str]) -> str:
    """Return the reason to reject a message with two roles or two texts."""
    return f"messages: {_listed(names)} of a message differ"


def odd_flag(name: str, wanted: Wanted) -> str:
    """Return the reason to reject a flag that is neither yes nor no."""
    return f'messages: "{name}" of a turn is neither 0 nor 1, true nor false; {_without([name], wanted)}'


def flags_disagree(names: Sequence[str], wanted: Wanted) -> str:
    """Return the reason to reject a turn with flags that contradict each other."""
    return f"messages: {_listed(names)} of a turn disagree; {_without(names, wanted)}"


def flag_of_another(name: str, wanted: Wanted) -> str:
    """Return the reason to reject a flag that would train a turn other than an assistant's."""
    return f'messages: "{name}" would train a turn that is not the assistant\'s; {_without([name], wanted)}'


def odd_part(kind: str | None) -> str:
    """Return the reason to reject a content with a part that is no text."""
    return f"messages: content has a part {_quoted(kind)}{_ONLY_TEXT}" if kind else NOT_PARTS


NOT_PARTS = "messages: content is a list of something else than parts of text"


def holds(value: Any) -> bool:
    """Tell whether a JSON value holds anything; null, blank text, "[]" or "{}", and lists and objects of only these
    hold nothing."""
    if value is None:
        return False
    if isinstance(value, str):
        return value.strip(SPACE) not in ("", *EMPTY_TEXTS)
    if isinstance(value, Mapping):
        return any(holds(inner) for inner in value.values())
    return any(holds(inner) for inner in value) if isinstance(value, list) else True


def said_by(value: Any) -> int | None:
    """Read a flag of JSON: SAYS_YES, SAYS_NO or SAYS_ELSE; None for null."""
    if value is None:
        return None
    if isinstance(value, bool):
        return SAYS_YES if value else SAYS_NO
    if isinstance(value, Digits) or (isinstance(value, Unlike) and value.is_number):
        number = float(value if isinstance(value, Digits) else value.spelling)
        return {0.0: SAYS_NO, 1.0: SAYS_YES}.get(number, SAYS_ELSE)
    return SAYS_ELSE


def _listed(names: Sequence[str]) -> str:
    *first, last = (_quoted(name) for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def _without(names: Sequence[str], wanted: Wanted) -> str:
    """Return the recipe line that ignores these keys, along with those it ignores already."""
    keys = ", ".join(_quoted(name) for name in sorted({*(wanted.ignored - wanted.ignored_by_shape), *names}))
    return f"ignore_keys = [{keys}] reads such rows without {'it' if len(names) == 1 else 'them'}"


def _quoted(name: str | None) -> str:
    return f'"{shown(name or "")}"'
