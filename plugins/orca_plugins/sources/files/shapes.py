"""Well-known layouts of other people's files, by name.

Each is data of `shapes.toml`: which columns are which of ours, and by what its rows are known. Nothing is guessed of a
row: what a shape says is what a recipe could say with `columns`, and more only where messages are spelt in a manner of
their own (pairs, one text, trees, items of trajectories).
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files as package_files
from typing import Any

from orca_plugins.sources.files.columns import Shape, Tags, Theirs, routes, shown
from orca_plugins.sources.files.json_rows.strict_json import BadRow, Digits, Unlike, decode
from orca_plugins.sources.files.turns.item_rules import rules
from orca_recipes.contract.spelling import quoted
from orca_recipes.errors import PluginError, SourceError

AUTO = "auto"
GROUP = "orca_recipes.shapes"
"""Entry points "package:file.toml": shapes of other packages, in files such as `shapes.toml`."""


@cache
def shapes() -> Mapping[str, Shape]:
    """Load all shapes by name: ours, then other packages', from entry points of `orca_recipes.shapes`.

    Raises: PluginError where a package's shapes cannot be read, or two packages offer one name.
    """
    found = _read(tomllib.loads((package_files(__package__) / "shapes.toml").read_text(encoding="utf-8")))
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        package = point.dist.name if point.dist is not None else point.module
        try:
            told = tomllib.loads((package_files(point.module) / point.attr).read_text(encoding="utf-8"))
            offered = _read(told)
        except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
            said = shown(f"{type(fault).__name__}: {fault}")
            raise PluginError(f"the shapes that {package} offers ({point.value}) cannot be read: {said}") from None
        if twice := next((name for name in offered if name in found or name == AUTO), None):
            raise PluginError(f"{package} offers a shape {quoted(twice)}, and there is one of this name already")
        found |= offered
    return found


def _read(told: Mapping[str, Any]) -> dict[str, Shape]:
    return {name: _shape(name, table, told) for name, table in told.items()}


def shape_named(name: str) -> Shape:
    """Return the shape of a known name."""
    return shapes()[name]


def row_keys() -> set[str]:
    """Collect the columns that shapes read as lists of objects; a JSON object with one of them is a row."""
    return {name for shape in shapes().values() for name, what in shape.needs.items() if what.startswith("objects")}


def fitting(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the shapes that some rows may have, the most demanding first; none where there are no rows."""
    found = [shape for shape in shapes().values() if rows and all(_fits(row, shape) for row in rows)]
    found = [shape for shape in found if all(any(_shows(row, *sign) for row in rows) for sign in shape.shows.items())]
    most = max((_asked(shape) for shape in found), default=0)
    best = [shape.name for shape in found if _asked(shape) == most]
    return best + [shape.name for shape in found if shape.name not in best]


def equally_fitting(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the shapes that fit some rows best: one, none, or several of equal fit."""
    names = fitting(rows)
    return [name for name in names if _asked(shape_named(name)) == _asked(shape_named(names[0]))]


def only_fitting(rows: Sequence[Mapping[str, Any]], *, where: str, is_table: bool) -> str:
    """Return the one shape that some rows fit best.

    Args:
        where: the file or files, as an error names them. is_table: whether it is CSV or TSV, which may lack a header.
    Raises: SourceError where no known shape fits, or several fit equally well.
    """
    names = equally_fitting(rows)
    if len(names) == 1:
        return names[0]
    if names:
        told = " and ".join(f'"{name}"' for name in names)
        raise SourceError(f"{where}: its first rows fit the shapes {told} equally well; name the one that is meant")
    columns = ", ".join(shown(name) for name in dict.fromkeys(name for row in rows for name in row))
    if not rows:
        told = "row below a header" if is_table else "rows"
        raise SourceError(f"{where}: no row can be read at its beginning; it is empty, damaged, or holds no {told}")
    # A table without a header has its first row for names, which fit no shape.
    headless = "; without a header columns are numbered: --column question=1 --column answer=2" if is_table else ""
    raise SourceError(
        f"{where}: its first rows have no shape that is known (columns: {columns or 'none'}); name those to read: "
        f"columns = {{ question = ..., answer = ... }} (init: --column question=... --column answer=...){headless}"
    )


def _shape(name: str, table: Mapping[str, Any], told: Mapping[str, Any]) -> Shape:
    """Build a shape from its table; its items, and what its system messages say, may be those of another shape."""
    of_items, of_system = (told.get(table.get(other, name), {}) for other in ("items_of", "system_of"))
    pairs = table.get("pairs")
    return Shape(
        name=name,
        about=table["about"],
        columns=_columns(table["columns"]),
        needs=table["needs"],
        example=table["example"].strip(),
        may_be=_columns(table.get("may_be", {})),
        lacks=tuple(table.get("lacks", ())),
        ignore_keys=tuple(table.get("ignore_keys", ())),
        pairs=(pairs[0], pairs[1]) if pairs else None,
        marks=table.get("marks", {}),
        tree=table.get("tree", {}),
        roles=table.get("roles", {}),
        items=rules(of_items.get("items", ())),
        calls_after=table.get("calls_after"),
        system_says=of_system.get("system_says"),
        shows=table.get("shows", {}),
        history=table.get("history"),
        tags=Tags(**{name: (tag[0], tag[1]) for name, tag in table["tags"].items()}) if "tags" in table else None,
    )


def _columns(table: Mapping[str, Any]) -> dict[str, Theirs]:
    return {ours: tuple(theirs) if isinstance(theirs, list) else theirs for ours, theirs in table.items()}


def _asked(shape: Shape) -> int:
    """Count what rows must have; columns that they must lack make no shape fit better."""
    return len(shape.needs) + len(shape.shows)


def _fits(row: Mapping[str, Any], shape: Shape) -> bool:
    if any(_value(row, name) is not None for name in shape.lacks):
        return False
    return all(_holds(_value(row, name), what) for name, what in shape.needs.items())


def _shows(row: Mapping[str, Any], column: str, pattern: str) -> bool:
    """Tell whether a message in a column holds what a pattern fits."""
    said = [value for item in _items(_value(row, column)) if isinstance(item, Mapping) for value in item.values()]
    return any(re.search(pattern, value) for value in said if isinstance(value, str))


def _value(row: Mapping[str, Any], path: str) -> Any:
    for route in routes(path):
        value: Any = row
        for key in route:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None


def _holds(value: Any, what: str) -> bool:
    """Tell whether a value is as a shape asks: text, plain (text or number), object, texts, or objects with some keys
    ("objects: a, b")."""
    if what == "text":
        return isinstance(value, str) and not isinstance(value, Digits)
    if what == "plain":
        return (isinstance(value, str | int | float) and not isinstance(value, bool)) or isinstance(value, Unlike)
    if what == "object":
        return isinstance(value, Mapping)
    items = _items(value)
    if what == "texts":
        return bool(items) and all(isinstance(item, str) for item in items)
    keys = [key.strip() for key in what.partition(":")[2].split(",")]
    return bool(items) and all(isinstance(item, Mapping) and set(keys) <= set(item) for item in items)


def _items(value: Any) -> Sequence[Any]:
    """Return the items of a list, or of a text that spells one in JSON; else none."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = decode(value)
        except BadRow:
            return ()
    return value if isinstance(value, list) else ()


def described(names: Iterable[str]) -> str:
    """Describe shapes with what they are, a line each."""
    return "\n".join(f"{name}: {shape_named(name).about}" for name in names)
