"""Versions of Python, orca-recipes, plugins and libraries that can decide a byte, and how two such environments
differ."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from orca_recipes.contract import VERSION
from orca_recipes.plan.plugins import PluginPin

# Those whose other version can decide a byte of a build; a rebuild names each that differs.
LIBRARIES = ("gigatoken", "jinja2", "numpy", "polars", "pyarrow", "pydantic", "sentencepiece", "tokenizers")

_OF_KINDS = {"sources:hub": "datasets", "sources:reasoning_gym": "reasoning-gym", "filters:near_duplicates": "rensa"}
"""Libraries of extras, which decide bytes only where a recipe uses their kind."""


def environment(plugins: Mapping[str, PluginPin], kinds: Iterable[str] = ()) -> dict[str, Any]:
    """Tell the environment at hand, as JSON values. kinds: those that a recipe uses, "hook:name"."""
    libraries = [*LIBRARIES, *sorted(_OF_KINDS[kind] for kind in _OF_KINDS.keys() & set(kinds))]
    return {
        "python": platform.python_version(),
        "contract": VERSION,
        "packages": {name: _version(name) for name in ("orca-recipes", *libraries)},
        "plugins": {name: {"version": pin.version, "digest": pin.digest} for name, pin in sorted(plugins.items())},
    }


def environment_differences(
    before: Mapping[str, Any], after: Mapping[str, Any], *, line: str | None = None
) -> list[str]:
    """List the differences that can decide a byte, a sentence each, then the pip command to remove them.

    line: the line of pip, where it is known to be another than that of a package index.
    """
    found, wanted = [], []
    if before["python"] != after["python"]:
        found.append(f"Python {before['python']} made the archive, and this is {after['python']}")
    for name, version in before["packages"].items():
        here = after["packages"].get(name) or _version(name)
        if version and version != here:
            found.append(f"{name} {version} made the archive, and {here or 'none'} is installed")
            wanted.append(f"{name}=={version}")
    for name, pin in before["plugins"].items():
        here = after["plugins"].get(name) or {"version": _version(name), "digest": pin["digest"]}
        if here["version"] != pin["version"]:
            found.append(f"plugin {name} {pin['version']} made the archive, and {here['version'] or 'none'} is here")
            wanted.append(f"{name}=={pin['version']}")
        elif here["digest"] != pin["digest"]:
            found.append(f"plugin {name} {pin['version']} is here with other files than made the archive")
    return [*found, *([line or shlex.join(["pip", "install", *wanted])] if wanted else [])]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
