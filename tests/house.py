"""Measure the house: how large its rooms are, how long its functions, whether imports run in circles.

    python -m tests.house [--json FILE]

Counts the product alone (`orca_recipes/`, `plugins/`). A circle is a set of modules each of which imports all others,
by whatever way and wherever in a file. A basename that stands twice is listed unless it is one of ALIKE.
"""

import ast
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click

HOME = Path(__file__).parents[1]
ROOTS = {"orca_recipes": HOME / "orca_recipes", "orca_plugins": HOME / "plugins" / "orca_plugins"}
ALIKE = {"__init__", "__main__", "kind", "options"}
"""Names with one meaning wherever they stand: what a package does, the class of a kind, the options of a room."""


@click.command()
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
def main(file: Path | None) -> None:
    """Measure the house."""
    found = measured()
    text = json.dumps(found, indent=2)
    click.echo(text)
    if file is not None:
        file.write_text(text + "\n", encoding="utf-8")


def measured() -> dict[str, Any]:
    """Measure rooms, functions, comments, circles, names and tests; lengths are in lines."""
    modules = sources()
    folders = Counter(path.parent.relative_to(HOME).as_posix() for path in modules.values())
    texts = {name: path.read_text(encoding="utf-8") for name, path in modules.items()}
    trees = {name: tree_of(path) for name, path in modules.items()}
    functions = sorted(length for tree in trees.values() for length in _lengths(tree))
    lines = sum(text.count("\n") for text in texts.values())
    comments = sum(line.lstrip().startswith("#") for text in texts.values() for line in text.splitlines())
    return {
        "largest_folder": max(folders.values()),
        "folders": dict(folders.most_common(12)),
        "files": len(modules),
        "lines": lines,
        "function_median": statistics.median(functions),
        "function_p90": functions[len(functions) * 9 // 10],
        "function_longest": functions[-1],
        "comments_per_100": round(100 * comments / lines, 2),
        "circles": circles({name: set(imports_of(tree, modules)) - {name} for name, tree in trees.items()}),
        "basenames_twice": _twice(modules),
        "modules_without_test": sorted(_without_test(modules, trees)),
    }


def sources() -> dict[str, Path]:
    """Find the product's modules, by dotted name."""
    found = {}
    for root, folder in ROOTS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (root, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    """Parse a module once; nobody changes the tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def statements_of(tree: ast.Module) -> Iterator[ast.AST]:
    """Go over all statements, also those within others: imports and functions are nothing else."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        yield (node := waiting.pop())
        for field in ("body", "orelse", "handlers", "finalbody", "cases"):
            waiting += getattr(node, field, ())


def imports_of(tree: ast.Module, modules: Mapping[str, Path]) -> Iterator[str]:
    """Name the product's modules that a module imports, anywhere in it."""
    for node in statements_of(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                if whole in modules:
                    yield whole
                elif node.module in modules:
                    yield node.module


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Find the sets of modules that reach each other, the largest first (Tarjan 1972, without recursion)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []
    for root in graph:
        if root in number:
            continue
        path = [(root, iter(sorted(graph[root])))]
        number[root] = low[root] = len(number)
        stack.append(root)
        while path:
            name, rest = path[-1]
            following = next((other for other in rest if other not in number or other in stack), None)
            if following is None:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[name])
                if low[name] == number[name]:
                    group = stack[stack.index(name) :]
                    del stack[stack.index(name) :]
                    found += [sorted(group)] if len(group) > 1 else []
            elif following in number:
                low[name] = min(low[name], number[following])
            else:
                number[following] = low[following] = len(number)
                stack.append(following)
                path.append((following, iter(sorted(graph[following]))))
    return sorted(found, key=len, reverse=True)


def _lengths(tree: ast.Module) -> Iterator[int]:
    for node in statements_of(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            yield node.end_lineno - node.lineno + 1


def _twice(modules: Mapping[str, Path]) -> list[str]:
    """Basenames of several modules; one folder of a hook each may hold a file of the same kind's name."""
    places = defaultdict(list)
    for path in modules.values():
        places[path.stem.strip("_")].append(path)
    return sorted(
        name for name, paths in places.items() if len(paths) > 1 and name not in {a.strip("_") for a in ALIKE}
    )


def _without_test(modules: Mapping[str, Path], trees: Mapping[str, ast.Module]) -> Iterator[str]:
    tested = {path.stem.removeprefix("test_") for path in (HOME / "tests").rglob("test_*.py")}
    for name, path in modules.items():
        behaves = any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in trees[name].body)
        names = {path.stem.strip("_"), path.parent.name} if path.stem == "kind" else {path.stem.strip("_")}
        if behaves and not names & tested:
            yield name


if __name__ == "__main__":
    main()
