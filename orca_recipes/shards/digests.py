"""Digests: of bytes and files, and of JSON and tables by what they say rather than how they are written down.

All are BLAKE2b-256, written "blake2b:<64 hex>". JSON is digested in the one canonical form that is also stored, so a
file can be compared byte for byte.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

Digest = Annotated[str, Field(pattern=r"^blake2b:[0-9a-f]{64}$", description="BLAKE2b-256")]


def bytes_digest(data: bytes) -> str:
    """Digest of bytes."""
    return as_digest(new_hash(data))


def file_digest(path: Path) -> str:
    """Digest of a file's bytes, read in blocks.

    Raises: OSError.
    """
    with path.open("rb") as file:
        return as_digest(hashlib.file_digest(file, new_hash))


def json_digest(value: Any) -> str:
    """Digest of a JSON value in its canonical form."""
    return bytes_digest(canonical_json(value))


def canonical_json(value: Any) -> bytes:
    """Encode a JSON value in its one canonical form: sorted keys, one blank of indent, UTF-8, a newline at the end.

    Raises: ValueError for what JSON cannot say (NaN, infinities).
    """
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def new_hash(data: bytes = b"") -> "hashlib.blake2b":
    """Create an incremental BLAKE2b-256 hash."""
    return hashlib.blake2b(data, digest_size=32)


def as_digest(state: "hashlib._Hash | hashlib.blake2b") -> str:
    """Format the digest of a hash as text."""
    return f"blake2b:{state.hexdigest()}"
