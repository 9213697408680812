"""Copies on this machine of what lies in archives or elsewhere: made once, whole or not at all.

Each lies in a folder that is named after all that decides what it holds, below a folder that says where it came from;
that is how sentences call it. A copy is no more than its origin: whoever takes it away has it made again.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

_PLACES = "places"
# 128 bits of the digest: no two keys meet by chance.
_KEY_CHARS = 32


def kept(key: tuple[str, ...], make: Callable[[Path], None]) -> Path:
    """Return the folder of copies that a key names; `make` fills it if it is missing.

    Raises: OSError where this machine refuses, and whatever `make` raises; then nothing is left behind.
    """
    root = _root()
    folder = root / hashlib.blake2b("\0".join(key).encode(errors="surrogateescape")).hexdigest()[:_KEY_CHARS]
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    # Beside the folder, so that the rename stays within one file system and is atomic.
    making = Path(tempfile.mkdtemp(prefix="making-", dir=root))
    try:
        make(making)
        for path in making.rglob("*"):
            # Read-only, because later builds share the copy.
            path.chmod(0o755 if path.is_dir() else 0o444)
        try:
            making.rename(folder)
        except OSError:  # another process was faster; what it made is the same
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def origin_of(path: Path) -> str | None:
    """Return the path or address that a copy was made of, as people call it; None for any other file."""
    folder = copies_of(path)
    inner = path.relative_to(folder).parts if folder is not None else ()
    if not inner:
        return None
    return f"{inner[0]}//{'/'.join(inner[1:])}" if inner[0].endswith(":") else os.sep.join(inner)


def copies_of(path: Path) -> Path | None:
    """Return the folder of copies that a path lies in; None for a path outside of them."""
    parts = path.parts
    if _PLACES not in parts:
        return None  # of thousands of files, nearly all
    root = _root().parts
    return Path(*parts[: len(root) + 1]) if parts[: len(root)] == root and len(parts) > len(root) else None


def _root() -> Path:
    return platformdirs.user_cache_path("orca-recipes", appauthor=False) / _PLACES
