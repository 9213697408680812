"""Write a package of a plugin that works as it stands: one kind with options, its tests, and a recipe that uses it."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract import VERSION
from orca_recipes.contract.pieces import PIECES, Piece
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.errors import PluginError

_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
# The name becomes folder, module, class and kind: longer ones would not fit into a line of code.
_LONGEST = 80
# A module of one of these names would hide ours, or the package's own folder of tests.
_TAKEN = {"orca_recipes", "orca_plugins", "tests"}


def new_package(name: str, hook: str, out: Path, *, catalogue: Catalogue, version: str) -> list[Path]:
    """Write a package into a new or empty folder; return its files.

    Args:
        name: of the distribution. hook: "filters", also as "orca_filters" or "filter".
        version: of ours, which it needs at least.
    Raises: PluginError for a name that none can have, an unknown hook, or a folder that holds something.
    """
    piece = _piece(hook)
    words = _words(name, piece, catalogue) | {"version": version, "contract": str(VERSION)}
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise PluginError(f"{out}: it is there already; choose a new or empty folder with --out")
    told = _hooks()[words["hook"]]
    words |= {"check": told["check"], "check_name": told["check"].partition("(")[0]}
    texts = {
        "pyproject.toml": _filled("pyproject.toml", words),
        "README.md": _filled("README.md", words),
        "recipe.toml": _recipe(told["recipe"], words),
        "rows.jsonl": _text("rows.jsonl"),
        "tokenizer.json": _text("tokenizer.json"),
        ".github/workflows/test.yml": _filled("workflow.yml", words),
        f"{words['module']}/__init__.py": _filled("init.py", words),
        f"{words['module']}/kind.py": _filled(f"{words['hook']}.py", words),
        f"tests/test_{words['module']}.py": _filled("test.py", words),
    }
    _write(texts, out)
    return [out / path for path in texts]


def example_kind(hook: str, name: str) -> str:
    """Return the Python of the kind that `new_package` writes for a hook ("filters")."""
    return _filled(f"{hook}.py", _words(name, _piece(hook), Catalogue()))


def _write(texts: dict[str, str], out: Path) -> None:
    """Write all files of a package or none: aside, then renamed."""
    aside = out.with_name(f".{out.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for path, text in texts.items():
            file = aside / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        # A rename takes the place of an empty folder, and of no other.
        aside.replace(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _piece(hook: str) -> Piece:
    known = {name: piece for piece in PIECES for name in (piece.hook.removeprefix("orca_"), piece.hook, piece.word)}
    if hook not in known:
        names = ", ".join(piece.hook.removeprefix("orca_") for piece in PIECES)
        raise PluginError(f"--hook: there is no hook {quoted(hook)}{hint(hook, known)}; the hooks are {names}")
    return known[hook]


def _words(name: str, piece: Piece, catalogue: Catalogue) -> dict[str, str]:
    """Choose the names to fill in: of the distribution, its module, its kind and the kind's class."""
    module = re.sub(r"[-_.]+", "_", name).lower()
    usable = re.fullmatch(_NAME, name) and len(name) <= _LONGEST and module.isidentifier()
    if not usable or keyword.iskeyword(module):
        raise PluginError(
            f"{quoted(name)} cannot name a package: letters, digits, '.', '_' and '-' can, the first a letter, "
            f"at most {_LONGEST} in all"
        )
    if module in _TAKEN or module in sys.stdlib_module_names:
        raise PluginError(f"{quoted(name)} would be imported as {module}, which is taken; choose another name")
    bare = module.removeprefix("orca_")
    kind = bare if bare.isidentifier() and not keyword.iskeyword(bare) else module
    givers = [offer for offer in catalogue.offers(piece.hook) if offer.name == kind]
    others = [offer for offer in givers if re.sub(r"[-_.]+", "_", offer.distribution).lower() != module]
    if others:
        raise PluginError(f"{piece.word} {quoted(kind)} is offered by {others[0]} already; choose another name")
    class_name = "".join(part[:1].upper() + part[1:] for part in kind.split("_"))
    hook = piece.hook.removeprefix("orca_")
    return {
        "distribution": name,
        "module": module,
        "kind": kind,
        "class_name": class_name,
        "hook": hook,
        "word": piece.word,
    }


def _recipe(tables: str, words: dict[str, str]) -> str:
    """Write a recipe that uses the kind, with the other tables a recipe needs."""
    own = Template(tables).substitute(words)
    chosen = tomllib.loads(own)
    needed = [table["text"] for name, table in tomllib.loads(_text("tables.toml")).items() if name not in chosen]
    return _filled("recipe.toml", words) + "".join(needed) + own


def _hooks() -> dict[str, dict[str, Any]]:
    return tomllib.loads(_text("hooks.toml"))


def _filled(name: str, words: dict[str, str]) -> str:
    return Template(_text(name)).substitute(words)


def _text(name: str) -> str:
    return (files("orca_recipes.packages") / "skeletons" / f"{name}.txt").read_text(encoding="utf-8")
