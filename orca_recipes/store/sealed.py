"""Files the store trusts: digests of written files, and JSON with its own digest inside.

A receipt says what other files must be; its seal says that the receipt itself is what was written. Receipts and pins of
source files hold BLAKE3, four times as fast as the BLAKE2b of everything else that leaves the store: each part is
digested as it is written, and each source file before it is read. Older receipts and pins hold BLAKE2b.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import get_native_id
from typing import Any

from blake3 import blake3

from orca_recipes.errors import StoreError
from orca_recipes.shards.digests import file_digest, json_digest

SEAL = "seal"
_BLAKE3 = "blake3:"


def promise(path: Path) -> str:
    """Digest a file for a receipt or a pin, "blake3:<64 hex>". Raises: OSError."""
    with path.open("rb") as file:
        return f"{_BLAKE3}{hashlib.file_digest(file, blake3).hexdigest()}"  # type: ignore[arg-type]


def is_promised(path: Path, digest: str) -> bool:
    """Tell whether a file has a receipt's digest, of either kind. Raises: OSError."""
    return digest == digester(digest)(path)


def digester(digest: str) -> Callable[[Path], str]:
    """Return what takes digests of the kind that this one has, so that the two can be compared."""
    return promise if digest.startswith(_BLAKE3) else file_digest


def flush(path: Path) -> None:
    """Bring a file to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str, *, flushed: bool = True) -> None:
    """Write a file aside, bring it to the disk unless that may wait, rename; what was not written to the end is
    removed."""
    # By thread, since two threads that write one file would else fill each other's.
    aside = path.with_name(f".{path.name}.{get_native_id()}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if flushed:
                os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any], *, flushed: bool = True) -> None:
    """Write JSON as `write_text` does."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", flushed=flushed)


def read_json(path: Path) -> dict[str, Any]:
    """Read JSON of the store. Raises: StoreError where it cannot be read or is no table."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read ({error}); remove it and run the same command again") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} cannot be read (it is no table); remove it and run the same command again")
    return value


def write_sealed(path: Path, value: Mapping[str, Any], *, flushed: bool = True) -> None:
    """Write JSON with its seal, as `write_text` does."""
    # The seal is of what will be read: JSON makes lists of tuples and texts of keys.
    plain = json.loads(json.dumps(value))
    write_json(path, {**plain, SEAL: json_digest(plain)}, flushed=flushed)


def read_sealed(path: Path) -> dict[str, Any]:
    """Read JSON with its seal. Raises: StoreError where it cannot be read, or is not what was written."""
    value = read_json(path)
    seal = value.pop(SEAL, None)
    if seal != json_digest(value):
        raise StoreError(f"{path} was changed since it was written; remove it and run the same command again")
    return value
