"""Which keys of messages and rows are read, and what is said of the others.

What templates may print is carried (thoughts, calls, names, tools). A key that is not carried to the model is never
dropped in silence: the row is rejected, and the sentence holds the line that reads it without the key. Null and empty
values are nothing, so they are lost without loss.
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
_LOST = " would be lost; "
_ONLY_TEXT = ", and only text is read"


@dataclass(frozen=True)
class Known:
    """What `message_keys_known.toml` says."""

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
    """The keys that are known."""
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
    """Refuse keys to ignore that are given twice, or without which nothing is read.

    Raises: PydanticCustomError.
    """
    if "" in keys or len(set(keys)) != len(keys):
        raise PydanticCustomError("ignore_keys", "name each key to ignore once")
    if needed := next((key for key in keys if key in PARTS), None):
        raise PydanticCustomError(
            "ignore_keys", "{sentence}", {"sentence": f'"{needed}" is what a message is read from'}
        )


def flags_of(wanted: Wanted) -> tuple[str, ...]:
    """The keys that say whether a turn is trained."""
    return tuple(flag for flag in known().flags if flag not in wanted.ignored)


def texts_of(wanted: Wanted) -> tuple[str, ...]:
    """The keys beside content that are carried as texts: who speaks, thoughts, which call is answered."""
    named = known()
    return tuple(name for name in (*named.names, *named.reasoning, *named.answers) if name not in wanted.ignored)


def reasoning_of(wanted: Wanted) -> tuple[str, ...]:
    """The keys of an assistant's thoughts."""
    return tuple(name for name in known().reasoning if name not in wanted.ignored)


def calls_of(wanted: Wanted) -> tuple[str, ...]:
    """The keys of an assistant's calls."""
    return tuple(name for name in known().calls if name not in wanted.ignored)


def carried_of(wanted: Wanted) -> dict[str, tuple[str, ...]]:
    """What a row brings beside messages without being asked: ours to the names under which it may stand."""
    free = watched(wanted, with_messages=True)
    found = {ours: tuple(name for name in names if name in free) for ours, names in known().carried.items()}
    return {ours: names for ours, names in found.items() if names and ours not in wanted.paths}


def plain_role(role: str | None, wanted: Wanted) -> str | None:
    """A role as we call it; one that nobody knows as it stands."""
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
    """The keys of a message that are left out without a word."""
    return known().harmless | wanted.ignored


def watched(wanted: Wanted, *, with_messages: bool) -> tuple[str, ...]:
    """The columns that a row must not have beside what is read of it, but empty."""
    taken = {name for path in wanted.paths.values() for route in routes(path) for name in (path, route[0])}
    names = known().seen + (known().with_messages if with_messages else ())
    return tuple(name for name in names if name not in taken | wanted.ignored)


def holders(wanted: Wanted) -> list[tuple[str, ...]]:
    """Routes to the objects in which watched columns are looked for: the row, and what holds its messages."""
    inner = routes(wanted.paths["messages"])[1:] if "messages" in wanted.paths else []
    return [(), *(route[:-1] for route in inner)]


def lost_of_message(names: Iterable[str], wanted: Wanted) -> str:
    """What is said of a message with keys that nobody carries."""
    said = sorted(names)[:_NAMES_SAID]
    return f"messages: {_listed(said)}{_LOST}{_without(said, wanted)}"


def lost_of_row(names: Iterable[str], wanted: Wanted) -> str:
    """What is said of a row with columns that it must not have, each with the object that holds it."""
    said = sorted(names)[:_NAMES_SAID]
    they = "it" if len(said) == 1 else "they"
    return f"{', '.join(said)}: {they}{_LOST}{_without([name.rpartition('.')[2] for name in said], wanted)}"


def is_of_what_is_lost(reason: str) -> bool:
    """Whether a reason says that a sound row holds what is not carried."""
    return _LOST in reason or reason.endswith(_ONLY_TEXT)


def given_twice(ours: str) -> str:
    """What is said of a row that brings one thing beside its messages under two names."""
    return f"{ours}: the row has them twice, and they differ"


def differing(names: Sequence[str]) -> str:
    """What is said of a message with two roles or two texts."""
    return f"messages: {_listed(names)} of a message differ"


def odd_flag(name: str, wanted: Wanted) -> str:
    """What is said of a flag that is neither yes nor no."""
    return f'messages: "{name}" of a turn is neither 0 nor 1, true nor false; {_without([name], wanted)}'


def flags_disagree(names: Sequence[str], wanted: Wanted) -> str:
    """What is said of a turn whose flags contradict each other."""
    return f"messages: {_listed(names)} of a turn disagree; {_without(names, wanted)}"


def flag_of_another(name: str, wanted: Wanted) -> str:
    """What is said of a flag that would train what is no answer."""
    return f'messages: "{name}" would train a turn that is not the assistant\'s; {_without([name], wanted)}'


def odd_part(kind: str | None) -> str:
    """What is said of a part of a content that is no text."""
    return f"messages: content has a part {_quoted(kind)}{_ONLY_TEXT}" if kind else NOT_PARTS


NOT_PARTS = "messages: content is a list of something else than parts of text"


def holds(value: Any) -> bool:
    """Whether a value of JSON is more than nothing: null, blank text, or a list or an object of nothing else."""
    if value is None:
        return False
    if isinstance(value, str):
        return value.strip(SPACE) not in ("", *EMPTY_TEXTS)
    if isinstance(value, Mapping):
        return any(holds(inner) for inner in value.values())
    return any(holds(inner) for inner in value) if isinstance(value, list) else True


def said_by(value: Any) -> int | None:
    """What a flag of JSON says; None: nothing."""
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
    """The line of the recipe that reads rows without some keys, those that it leaves out already included."""
    keys = ", ".join(_quoted(name) for name in sorted({*(wanted.ignored - wanted.ignored_by_shape), *names}))
    return f"ignore_keys = [{keys}] reads such rows without {'it' if len(names) == 1 else 'them'}"


def _quoted(name: str | None) -> str:
    return f'"{shown(name or "")}"'
