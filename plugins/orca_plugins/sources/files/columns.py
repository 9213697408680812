"""The map from our columns to those of a file.

A recipe's `columns` names them one by one. Without it, every column of the file with one of our names is taken; with
it, only those it names (and `question` and `messages` under their own names where it names neither), so that an
`answer` that a recipe calls the reference does not also come in as the row's own answer. Columns that many files have
for other purposes (`reasoning`, `options`, `language`) are taken only where they are named.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from orca_plugins.sources.files.places.kept_copies import origin_of
from orca_plugins.sources.files.turns.item_rules import ItemRule
from orca_recipes.contract.conditions import Choice, Sort, parsed
from orca_recipes.contract.source import PART
from orca_recipes.errors import SourceError

OURS = (
    "question",
    "reference",
    "task",
    "id",
    "system",
    "answer",
    "category",
    "messages",
    "options",
    "language",
    "reasoning",
    "tools",
    "template_kwargs",
)
Theirs = str | tuple[str, ...]
"""A column of the file, or several of which a text is made."""
MADE = ("question", "system", "answer")
"""Columns of ours that may be made of several of the file's."""
LISTS = ("reference", "options")
"""Columns of ours that hold several texts; a single text is a list of one."""
_TAKEN_BY_NAME = OURS[:8]
_SPARE = ("question", "answer", "reference")
_EXTRA = "extra."
_WHERE = "where."
# A wide table has hundreds of columns, and a sentence that lists them all is not read.
_NAMES_SHOWN = 20
_NAME_CHARS = 100


@dataclass(frozen=True)
class Tags:
    """The tags between which texts of messages hold calls and replies: for each the one that opens and the one that
    closes."""

    call: tuple[str, str]
    reply: tuple[str, str]


@dataclass(frozen=True)
class Shape:
    """A well-known layout of rows, and how to read it.

    columns: ours to theirs; may_be: further ones that not every file of the layout has. needs: columns that rows must
    have, and what they hold; lacks: columns that rows must not have. tree: where rows are messages of trees, the keys
    of a message's id, parent, text, role, rank and replies, or those of the nodes of traces. shows: columns with
    patterns, each of which a message in some of the first rows fits. pairs, marks, roles, items, calls_after, tags,
    system_says: as in `Wanted`. history: a column of what was said before the question, pairs of texts or messages.
    example: a row.
    """

    name: str
    about: str
    columns: Mapping[str, Theirs]
    needs: Mapping[str, str]
    example: str
    may_be: Mapping[str, Theirs] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    ignore_keys: tuple[str, ...] = ()
    pairs: tuple[str, str] | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    tree: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    items: tuple[ItemRule, ...] = ()
    calls_after: str | None = None
    system_says: str | None = None
    shows: Mapping[str, str] = field(default_factory=dict)
    tags: Tags | None = None
    history: str | None = None

    @property
    def is_plain(self) -> bool:
        """Tell whether a recipe's `columns` could say the same."""
        return not (self.tree or self.pairs or self.marks or self.items or self.tags)


@dataclass(frozen=True)
class Wanted:
    """Columns to read: ours to theirs, in the order of OURS, then those that are kept as they are (`extra_column`);
    `named` are those that the recipe names itself, `ignored` the keys of messages and rows that it leaves out; `where`
    is what rows must be, `sorts` what it asks of each column of ours (`where_column`) that is read for it alone;
    `parts` are columns of ours that follow on others of which a text is made; `trains_history` whether the recipe says
    that old answers are trained; `pairs` the keys of a question and its answer where messages are such pairs; `marks`
    what begins a turn, and whose, where messages are one text; `roles` what roles of the file mean, before what is
    known of them (`message_keys.plain_role`); `items` the rules by which items of a trajectory are messages;
    `calls_after` the text in an answer after which it spells a call; `tags` those that enclose calls and replies in
    texts; `system_says` a pattern with groups `system` and `tools`, perhaps `after`, where a system message spells the
    tools; `ignored_by_shape` what of `ignored` the shape leaves out; `asks_last` whether messages are what was said
    before the question."""

    paths: Mapping[str, str]
    named: frozenset[str]
    ignored: frozenset[str] = frozenset()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trains_history: bool = False
    pairs: tuple[str, str] | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    where: Choice | None = None
    sorts: Mapping[str, Sort] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    items: tuple[ItemRule, ...] = ()
    calls_after: str | None = None
    system_says: str | None = None
    ignored_by_shape: frozenset[str] = frozenset()
    tags: Tags | None = None
    asks_last: bool = False

    @property
    def rewrites_messages(self) -> bool:
        """Tell whether messages are made of a list of something else, so that only a look at each reads them."""
        return self.pairs is not None or bool(self.items) or self.tags is not None or self.asks_last

    @property
    def takes_completions(self) -> bool:
        """Tell whether an answer may be a list of messages: where it is part of nothing."""
        return "answer" not in self.parts

    def is_spare(self, ours: str) -> bool:
        """Tell whether nobody named a column that a conversation ending with its answer can do without."""
        return ours in _SPARE and ours not in self.named


def require_known(columns: Mapping[str, Theirs]) -> None:
    """Refuse unknown columns of ours, columns of theirs without a name or named twice, and several where one is read.

    Raises: PydanticCustomError.
    """
    for ours, theirs in columns.items():
        if ours not in OURS:
            near = nearest(ours, OURS)
            hint = f'did you mean "{near}"?' if near else f"there are: {', '.join(OURS)}"
            raise PydanticCustomError("columns", "{sentence}", {"sentence": f'we have no column "{ours}"; {hint}'})
        names = named(theirs)
        if not all(names) or not names:
            raise PydanticCustomError("columns", "{sentence}", {"sentence": f"{ours}: name a column of the file"})
        if len(names) > 1 and ours not in MADE:
            told = f"{ours} is one column; {' and '.join(MADE)} are made of several"
            raise PydanticCustomError("columns", "{sentence}", {"sentence": told})
        if len(set(names)) < len(names):
            raise PydanticCustomError("columns", "{sentence}", {"sentence": f"{ours}: name each of its columns once"})


def whole_column(ours: str) -> str:
    """Return our column that a part belongs to; any other column as it is."""
    return ours.removeprefix(PART).rpartition(".")[0] if ours.startswith(PART) else ours


def extra_column(theirs: str) -> str:
    """Return our name of a column kept under its own: `extra.NAME`."""
    return _EXTRA + theirs


def extra_name(ours: str) -> str | None:
    """Return the file's name of an `extra` column, None for any other."""
    return ours.removeprefix(_EXTRA) if ours.startswith(_EXTRA) else None


def said_column(ours: str, theirs: str) -> str:
    """Return what a fault calls a column: the file's name of one that is kept as it is or part of a text, else ours."""
    return theirs if ours.startswith((PART, _EXTRA)) else ours


def named(theirs: Theirs) -> tuple[str, ...]:
    """List the file's columns that one of ours is read from."""
    return (theirs,) if isinstance(theirs, str) else tuple(theirs)


def parts_named(columns: Mapping[str, Theirs]) -> dict[str, str]:
    """Map the places of texts that are made of several columns ("part.OURS.PLACE", from 0) to these."""
    made = {ours: names for ours, names in columns.items() if len(named(names)) > 1}
    return {f"{PART}{ours}.{place}": theirs for ours, names in made.items() for place, theirs in enumerate(names)}


def where_column(theirs: str) -> str:
    """Return our name of a column that only chooses rows: `where.NAME`."""
    return _WHERE + theirs


def where_name(ours: str) -> str | None:
    """Return the file's name of a column that only chooses rows, None for any other."""
    return ours.removeprefix(_WHERE) if ours.startswith(_WHERE) else None


def wanted_columns(
    *,
    columns: Mapping[str, Theirs] | None,
    task: str | None,
    extra: Sequence[str] = (),
    ignore_keys: Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
    trains_history: bool = False,
    shape: Shape | None = None,
    roles: Mapping[str, str] | None = None,
) -> Wanted:
    """Decide which columns to read; a constant task replaces the task column, and the recipe's columns replace a
    shape's."""
    of_shape = shape.columns if shape is not None else {}
    may_be: dict[str, Theirs] = dict(shape.may_be) if shape is not None else {}
    if columns is not None or shape is not None:
        chosen: dict[str, Theirs] = {**may_be, **of_shape, **(columns or {})}
    else:
        chosen = {ours: ours for ours in _TAKEN_BY_NAME}
    if "question" not in chosen and "messages" not in chosen:
        chosen |= {"question": "question", "messages": "messages"}
    history = shape.history if shape is not None and "messages" not in chosen else None
    history = None if history in ignore_keys else history
    if history is not None:
        chosen["messages"] = history
    taken = {ours: named(chosen[ours]) for ours in OURS if ours in chosen and (ours != "task" or task is None)}
    paths = {ours: first for ours, (first, *_) in taken.items()}
    parts = {ours: tuple(f"{PART}{ours}.{place}" for place in range(1, len(names))) for ours, names in taken.items()}
    paths |= {part: name for ours in taken for part, name in zip(parts[ours], taken[ours][1:], strict=True)}
    parts = {ours: made for ours, made in parts.items() if made}
    kept = {extra_column(theirs): theirs for theirs in extra}
    choice = parsed(where) if where is not None else None
    asked = choice.sorts() if choice is not None else {}
    sorts = {where_column(name): sort for name, sort in asked.items() if not is_talk(name, sort, paths)}
    chosen_by = {ours: ours.removeprefix(_WHERE) for ours in sorts}
    said = [ours for ours in (*of_shape, *(columns or ())) if ours in paths]
    said += [part for ours in said for part in parts.get(ours, ())]
    return Wanted(
        paths=paths | kept | chosen_by,
        named=frozenset(said) | frozenset(kept) | frozenset(chosen_by),
        ignored=frozenset(ignore_keys) | (frozenset(shape.ignore_keys) if shape is not None else frozenset()),
        parts=parts,
        trains_history=trains_history,
        pairs=shape.pairs if shape is not None else None,
        marks=shape.marks if shape is not None else {},
        where=choice,
        sorts=sorts,
        roles={**(shape.roles if shape is not None else {}), **(roles or {})},
        items=shape.items if shape is not None else (),
        calls_after=shape.calls_after if shape is not None else None,
        system_says=shape.system_says if shape is not None else None,
        ignored_by_shape=frozenset(shape.ignore_keys) if shape is not None else frozenset(),
        tags=shape.tags if shape is not None else None,
        asks_last=history is not None,
    )


def is_talk(name: str, sort: Sort, paths: Mapping[str, str]) -> bool:
    """Tell whether a column named in `where` is the column of messages."""
    return sort == "messages" or (sort != "number" and name == paths.get("messages"))


def routes(path: str) -> list[tuple[str, ...]]:
    """List the sequences of keys that may lead to a column, best first: its whole name, then its parts at the dots."""
    parts = tuple(path.split("."))
    return [(path,), parts] if len(parts) > 1 and all(parts) else [(path,)]


def columns_in_file(*, file: str, wanted: Wanted, names: Sequence[str]) -> dict[str, str]:
    """Map our wanted columns to those that a file with fixed columns has.

    Raises: SourceError where a column that the recipe names is missing, or question and messages both are.
    """
    for ours, theirs in wanted.paths.items():
        if ours in wanted.named and theirs not in names:
            purpose = "extra" if extra_name(ours) else "where" if where_name(ours) else whole_column(ours)
            raise SourceError(f'{file}: no column "{shown(theirs)}" for {purpose}; {_what_it_has(theirs, names)}')
    require_rows(file=file, wanted=wanted, names=names)
    return {ours: theirs for ours, theirs in wanted.paths.items() if theirs in names}


def asking_columns(wanted: Wanted) -> list[str]:
    """List the columns of the file by one of which a row asks: those of the question, and of messages."""
    ours = ("question", *wanted.parts.get("question", ()), *(() if wanted.asks_last else ("messages",)))
    return [wanted.paths[name] for name in ours if name in wanted.paths]


def require_rows(*, file: str, wanted: Wanted, names: Sequence[str]) -> None:
    """Refuse a file in which neither questions nor messages are to be found.

    Raises: SourceError with the names that the file has and the nearest right one.
    """
    sought = asking_columns(wanted)
    if any(path in names for path in sought):
        return
    missing = " or ".join(f'"{shown(path)}"' for path in sought)
    raise SourceError(
        f"{file}: no column {missing}; {_what_it_has(sought[0], names)}; "
        'say which one holds the question: columns = { question = "..." }'
    )


def _what_it_has(sought: str, names: Sequence[str]) -> str:
    listed = ", ".join(shown(name) for name in names[:_NAMES_SHOWN]) or "no column at all"
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    near = nearest(sought, names)
    return f"the file has: {listed}{more}" + (f' (did you mean "{shown(near)}"?)' if near else "")


def require_choosing(*, file: str, missing: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a file whose first rows lack a column named in `where`.

    Raises: SourceError with the names that they have.
    """
    for theirs in missing:
        raise SourceError(f'{file}: no column "{shown(theirs)}" for where; {_what_it_has(theirs, names)}')


def nearest(sought: str, names: Sequence[str]) -> str | None:
    """Return the name most like the one sought, None if none is close."""
    return next(iter(difflib.get_close_matches(sought, names, n=1)), None)


def shown(name: str) -> str:
    """Shorten and escape a text from a data set for printing, so that no character acts on a terminal."""
    return _printable(name if len(name) <= _NAME_CHARS else name[:_NAME_CHARS] + "...")


def shown_path(path: Path) -> str:
    """Escape a path for printing; a copy is shown as its origin."""
    return _printable(origin_of(path) or str(path))


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]
