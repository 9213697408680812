"""Packages installed on a node, and the first steps of an order there.

The standard library alone: these functions travel by value, so that a node that lacks everything else can say so.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PYTHON = "Python"
_FOUND: dict[str, Any] = {}
"""What this process was found to have, and whether it is ready for orders."""


def facts(distributions: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Tell Python's version and those of distributions, "" for one that is not installed.

    Args:
        distributions: name to the packages whose files count, too; a digest of them follows the version.
    """
    return {PYTHON: platform.python_version()} | {
        name: _version(name, packages) for name, packages in distributions.items()
    }


def serving(terms: Mapping[str, Any]) -> Callable[[bytes], tuple[str, dict[str, str] | None, bytes]]:
    """Make the function that carries out orders in processes of nodes.

    Args:
        terms: `distributions` as for `facts`, `expected` of them; `threads`, `collections` and `path` as in the calling
            process.
    Returns: gives the node's id; what is installed, where it is not as expected; and what became of the order.
    """

    def serve(order: bytes) -> tuple[str, dict[str, str] | None, bytes]:
        import ray

        node = ray.get_runtime_context().get_node_id()
        if "facts" not in _FOUND:
            _FOUND["facts"] = facts(terms["distributions"])
        if _FOUND["facts"] != terms["expected"]:
            return node, _FOUND["facts"], b""
        if "ready" not in _FOUND:
            sys.path.extend(entry for entry in terms["path"] if entry not in sys.path)
            gc.set_threshold(*terms["collections"])
        from orca_plugins.engines._orders import carried_out, limit_threads

        if "ready" not in _FOUND:
            limit_threads(terms["threads"])
            _FOUND["ready"] = True
        return node, None, carried_out(order, f"on the node {terms['names'].get(node, platform.node())}")

    return serve


def _version(name: str, packages: Sequence[str]) -> str:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
    return " ".join([version, *(_digest(package) for package in packages)])


def _digest(package: str) -> str:
    """Digest a package's files; "-" where it is not found."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return "-"
    root = Path(found.origin)
    files = [root]
    if found.submodule_search_locations:
        root = root.parent
        files = sorted(path for path in root.rglob("*.*") if path.is_file() and "__pycache__" not in path.parts)
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        data = path.read_bytes()
        digest.update(f"{path.relative_to(root.parent).as_posix()}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()
