"""Line numbers of the keys of a TOML file.

tomllib gives values without places, and no round-trip parser tells the line of a header, a dotted key and an item of an
array alike; tree-sitter does, and goes on behind what it does not know, so a missing line costs only precision.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import tree_sitter_toml
from tree_sitter import Language, Parser

if TYPE_CHECKING:
    from tree_sitter import Node

Path = tuple[str | int, ...]
"""Keys of tables and 0-based positions in arrays, from the top of the file."""

_KEYS = frozenset({"bare_key", "quoted_key", "dotted_key"})


def key_lines(text: str) -> dict[Path, int]:
    """Map every table, key and array item of a TOML text accepted by tomllib to its 1-based line.

    A table that only longer headers or dotted keys mention stands where it is first mentioned; one that has a header
    of its own stands there.
    """
    tree = Parser(Language(tree_sitter_toml.language())).parse(text.encode())
    lines: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    for node in tree.root_node.children:
        if node.type == "pair":
            _note(lines, _inside(node, ()))
        elif node.type in ("table", "table_array_element"):
            header = _header(node, arrays)
            _note(lines, [(header[:end], _line(node), end == len(header)) for end in range(1, len(header) + 1)])
            for pair in node.children:
                if pair.type == "pair":
                    _note(lines, _inside(pair, header))
    return lines


_Mention = tuple[Path, int, bool]
"""A path, its line, and whether it is named there (rather than passed on the way to a longer one)."""


def _note(lines: dict[Path, int], mentions: list[_Mention]) -> None:
    for path, line, named in mentions:
        if named or path not in lines:
            lines[path] = line


def _header(node: Node, arrays: dict[Path, int]) -> Path:
    """Return the path of `[a.b]` or `[[a.b]]`; each array of tables on the way means its newest item."""
    keys = next(_keys(child) for child in node.children if child.type in _KEYS)
    path: Path = ()
    for place, key in enumerate(keys, start=1):
        path = (*path, key)
        if node.type == "table_array_element" and place == len(keys):
            arrays[path] = arrays.get(path, -1) + 1
        if path in arrays:
            path = (*path, arrays[path])
    return path


def _inside(pair: Node, table: Path) -> list[_Mention]:
    """List the mentions in one `key = value` and its value; with a stack, because values nest to any depth."""
    mentions: list[_Mention] = []
    open_nodes: list[tuple[Node, Path]] = [(pair, table)]
    while open_nodes:
        node, path = open_nodes.pop()
        if node.type == "pair":
            keys = _keys(node.children[0])
            mentions += [((*path, *keys[:end]), _line(node), end == len(keys)) for end in range(1, len(keys) + 1)]
            open_nodes += [(node.children[-1], (*path, *keys))]
        elif node.type == "inline_table":
            # The stack gives back the last first; turned around, mentions come in the order of the file.
            open_nodes += [(child, path) for child in reversed(node.children) if child.type == "pair"]
        elif node.type == "array":
            items = list(enumerate(_items(node)))
            mentions += [((*path, place), _line(item), True) for place, item in items]
            open_nodes += [(item, (*path, place)) for place, item in items]
    return mentions


def _items(array: Node) -> Iterator[Node]:
    return (child for child in array.children if child.is_named and child.type != "comment")


def _keys(node: Node) -> list[str]:
    """Return the keys of a bare, quoted or dotted key, in order; with a stack, because each dot is one level of the
    tree."""
    keys: list[str] = []
    open_nodes = [node]
    while open_nodes:
        part = open_nodes.pop()
        if part.type == "dotted_key":
            open_nodes += [child for child in reversed(part.children) if child.type in _KEYS]
        else:
            keys.append(_unquoted(part))
    return keys


def _unquoted(key: Node) -> str:
    # tomllib undoes the quotes: escapes mean the same as when the recipe is read.
    text = (key.text or b"").decode()
    return next(iter(tomllib.loads(f"{text} = 0"))) if key.type == "quoted_key" else text


def _line(node: Node) -> int:
    return node.start_point[0] + 1
