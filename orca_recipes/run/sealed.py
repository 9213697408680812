"""Files that the store trusts: brought to the disk before they are renamed, and JSON that carries its own digest.

A receipt says what other files must be; its seal says that the receipt itself is what was written.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from threading import get_native_id
from typing import Any

from orca_recipes.errors import StoreError
from orca_recipes.shards.digests import file_digest, json_digest

SEAL = "seal"


def flush_and_digest(path: Path) -> str:
    """Bring a file to the disk and give its digest, "blake2b:<64 hex>"."""
    flush(path)
    return file_digest(path)


def flush(path: Path) -> None:
    """Bring a file to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a file aside, flush, rename; what was not written to the end is removed."""
    aside = path.with_name(f".{path.name}.{get_native_id()}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON as `write_text` does."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """JSON of the store. Raises: StoreError where it cannot be read or is no table."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read ({error}); remove it and run the same command again") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} cannot be read (it is no table); remove it and run the same command again")
    return value


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON with its seal."""
    plain = json.loads(json.dumps(value))
    write_json(path, {**plain, SEAL: json_digest(plain)})


def read_sealed(path: Path) -> dict[str, Any]:
    """JSON with its seal. Raises: StoreError where it cannot be read, or is not what was written."""
    value = read_json(path)
    seal = value.pop(SEAL, None)
    if seal != json_digest(value):
        raise StoreError(f"{path} was changed since it was written; remove it and run the same command again")
    return value
