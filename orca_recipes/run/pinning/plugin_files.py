"""The files that a plugin's kinds are made of, as they lie on the disk now.

What an installer wrote down of a distribution (RECORD) says only where its files are: what they hold is read. Beside
them count those that were laid into its packages since, and wherever a kind's module was imported from, if that is
elsewhere: a working copy that comes first on the path, a zip. Compiled copies (`__pycache__`) never count.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata, util
from importlib.machinery import all_suffixes
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

Files = dict[str, Path]
"""Files by the name that an importer would know them by: the same wherever they lie."""

# Scripts name the interpreter of this machine, so they differ from place to place.
_SCRIPTS = {"bin", "Scripts"}
_CACHE = "__pycache__"


def plugin_files(distribution: metadata.Distribution | None, modules: Sequence[ModuleType]) -> Files:
    """Collect the files of a distribution, and those of modules outside it.

    Args:
        distribution: None for kinds that none offers.
        modules: those that hold the kinds' classes.
    """
    found: Files = {}
    if distribution is not None:
        project = _project(distribution)
        found = _installed(distribution) if project is None else _source_tree(project, distribution, modules)
    known = {path.resolve() for path in found.values()}
    for module in modules:
        for name, path in _beside(module):
            if path.resolve() not in known:
                found[name] = path
    return found


# --- installed --------------------------------------------------------------------------------------------------------


def _installed(distribution: metadata.Distribution) -> Files:
    """Collect the files laid down by an installer, without its own notes and scripts, and those added to its folders
    since."""
    root = distribution.locate_file("")
    if not isinstance(root, Path) or not root.is_dir():
        return {}
    listed = {name: root / path for name, path in _listed(distribution)}
    return {name: path for name, path in [*listed.items(), *_added(root, listed, distribution)] if path.is_file()}


def _listed(distribution: metadata.Distribution) -> Iterator[tuple[str, Path]]:
    for file in distribution.files or ():
        parts = tuple(part for part in file.parts if part != "..")
        is_note = parts[0].endswith((".dist-info", ".egg-info"))
        is_script = len(parts) < len(file.parts) and parts[0] in _SCRIPTS
        if not (is_note or is_script or _CACHE in parts):
            yield "/".join(parts), Path(*file.parts)


def _added(root: Path, listed: Files, distribution: metadata.Distribution) -> Iterator[tuple[str, Path]]:
    """Yield files in the folders of listed ones that no distribution lists: those of a namespace belong to others."""
    folders = {Path(name).parent for name in listed if "/" in name and listed[name] == root / name}
    above = {parent for folder in folders for parent in (folder, *folder.parents)}
    found: Files = {}
    for folder in sorted(folders):
        for path in _children(root / folder):
            name = (folder / path.name).as_posix()
            if path.is_dir() and Path(name) not in above:
                found |= {f"{name}/{inner}": held for inner, held in _walk(path)}
            elif path.is_file() and name not in listed:
                found[name] = path
    if not found:
        return
    ours = distribution.metadata["Name"]
    others = {
        name
        for other in metadata.distributions(path=[str(root)])
        if other.metadata["Name"] != ours
        for name, _ in _listed(other)
    }
    yield from ((name, path) for name, path in found.items() if name not in others)


# --- editable ---------------------------------------------------------------------------------------------------------


def _project(distribution: metadata.Distribution) -> Path | None:
    """Find the folder of an editable install; None for a distribution that was copied."""
    try:
        told = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    url = urlsplit(str(told.get("url", "")))
    if url.scheme != "file" or not told.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(url.path)).resolve()


def _source_tree(project: Path, distribution: metadata.Distribution, modules: Sequence[ModuleType]) -> Files:
    """Collect all that can be imported from a project's folder, wherever in it modules are looked for.

    Its other files (tests beside a `src`, recipes, what was built there) decide nothing, and change all the time.
    """
    roots = [Path(entry).resolve() for entry in sys.path if entry]
    roots += [root for module in modules if (root := _root(module)) is not None]
    roots += list(_roots_of(distribution))
    found: Files = {}
    for root in dict.fromkeys(roots):
        if root.is_relative_to(project) and root.is_dir():
            for name, path in _importable(root):
                found.setdefault(name, path)
    return found


def _roots_of(distribution: metadata.Distribution) -> Iterator[Path]:
    """Yield the folders of modules that a distribution names: those of its entry points, and of its top level."""
    named = {point.module.partition(".")[0] for point in distribution.entry_points}
    named |= set((distribution.read_text("top_level.txt") or "").split())
    for name in sorted(named):
        try:
            spec = util.find_spec(name)
        except (ImportError, ValueError):
            continue
        places = [] if spec is None else spec.submodule_search_locations or filter(None, [spec.origin])
        yield from (Path(place).resolve().parent for place in places)


def _importable(root: Path) -> Iterator[tuple[str, Path]]:
    for path in _children(root):
        if path.is_file() and path.name.endswith(tuple(all_suffixes())):
            yield path.name, path
        elif path.is_dir() and path.name.isidentifier() and _is_package(path):
            yield from ((f"{path.name}/{name}", inner) for name, inner in _walk(path))


def _is_package(folder: Path) -> bool:
    """Tell whether a folder holds modules, or packages of modules: one of a namespace has no file of its own."""
    suffixes = tuple(all_suffixes())
    inner = _children(folder)
    if any(path.name.endswith(suffixes) and path.is_file() for path in inner):
        return True
    return any((path / "__init__.py").is_file() for path in inner)


# --- elsewhere --------------------------------------------------------------------------------------------------------


def _beside(module: ModuleType) -> Iterable[tuple[str, Path]]:
    """List the files of the outermost package around a module; the module alone if it is in none; or its archive."""
    archive = getattr(getattr(module, "__loader__", None), "archive", None)
    if archive is not None:
        return [(Path(archive).name, Path(archive))]
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).is_file():
        return []
    root, path = _root(module), Path(file)
    if root is None:
        return [(path.name, path)]
    folder = root
    for part in path.resolve().relative_to(root).parts[:-1]:
        folder /= part
        if (folder / "__init__.py").is_file():
            return [(f"{folder.relative_to(root).as_posix()}/{name}", inner) for name, inner in _walk(folder)]
    return [(path.resolve().relative_to(root).as_posix(), path)]


def _root(module: ModuleType) -> Path | None:
    """Find the folder from which a module is imported by its whole name; None if its file has another name."""
    if getattr(module, "__file__", None) is None:
        return None
    path, names = Path(str(module.__file__)).resolve(), module.__name__.split(".")
    way = (*path.parts[1:-1], path.name.partition(".")[0])
    names = [*names, "__init__"] if way[-1] == "__init__" else names
    return path.parents[len(names) - 1] if list(way[-len(names) :]) == names else None


def _walk(folder: Path, seen: frozenset[Path] = frozenset()) -> Iterator[tuple[str, Path]]:
    """Yield all files below a folder, also behind links, each folder once on its way."""
    place = folder.resolve()
    if place in seen:
        return
    for path in _children(folder):
        if path.is_dir():
            yield from ((f"{path.name}/{name}", inner) for name, inner in _walk(path, seen | {place}))
        elif path.is_file():
            yield path.name, path


def _children(folder: Path) -> list[Path]:
    """List a folder's entries without caches, hidden files, notes of installers, and virtual environments."""
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [
        path
        for path in found
        if not path.name.startswith(".")
        and path.name != _CACHE
        and not path.name.endswith((".egg-info", ".dist-info"))
        and not (path / "pyvenv.cfg").is_file()
    ]
