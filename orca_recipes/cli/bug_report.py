"""Machine facts for a bug report: versions, plugins, names of the folder variables that are set; no secret."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from typing import Any

from orca_recipes import __version__

_OTHERS = (
    "torch",
    "megatron-core",
    "transformers",
    "openai",
    "datasets",
    "xllamacpp",
    "tensorboard",
    "trackio",
    "reasoning-gym",
)
_VARIABLES = ("ORCA_CACHE", "ORCA_CONFIG", "ORCA_LEASE_SECONDS", "ORCA_STORE", "ORCA_TRACES")


def environment() -> dict[str, Any]:
    """Tell of this machine, its packages and the kinds that other packages offer.

    Of the variables that choose folders only whether they are set is told: what is pasted for others names no folder
    of a user.
    """
    return {
        "orca_recipes": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "packages": {name: found for name in _named() if (found := _version(name)) is not None},
        "missing": [name for name in _OTHERS if _version(name) is None],
        "plugins": _plugins(),
        "set": [name for name in _VARIABLES if name in os.environ],
        "terminal": sys.stdout.isatty(),
    }


def environment_page(told: dict[str, Any]) -> str:
    """Lay it out for people."""
    first = (
        f"orca-recipe {told['orca_recipes']}, {told['implementation']} {told['python']}, {told['platform']}, "
        f"{told['processors']} processors"
    )
    packages = [f"  {name} {found}" for name, found in told["packages"].items()]
    plugins = [f"  {name} {found}" for name, found in told["plugins"].items()]
    missing = [f"not installed: {', '.join(told['missing'])}"] if told["missing"] else []
    chosen = [f"set: {', '.join(told['set'])}"] if told["set"] else []
    return "\n".join([first, "packages", *packages, *missing, "plugins", *(plugins or ["  none"]), *chosen])


def _named() -> list[str]:
    """List our requirements, and the packages of extras that decide the result."""
    ours = [line for line in requires("orca-recipes") or () if "extra ==" not in line]
    bare = [line.partition(">")[0].partition("=")[0].partition("<")[0].strip() for line in ours]
    return sorted({*bare, *_OTHERS})


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _plugins() -> dict[str, str]:
    """Return packages other than ours that offer kinds."""
    from importlib.metadata import entry_points

    found = {point.dist.name for point in entry_points(group="orca_recipes") if point.dist is not None}
    return {name: distribution(name).version for name in sorted(found - {"orca-recipes"})}
