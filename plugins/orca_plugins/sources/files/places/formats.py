"""Formats and compressions of files, by their names."""

import os
from pathlib import Path
from typing import Literal

Format = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow"]
Compression = Literal["gzip", "zstd", "xz", "bz2"]

FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    # What SWE-agent writes: one JSON object a file.
    ".traj": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd", ".xz": "xz", ".bz2": "bz2"}
_TARS: dict[str, Compression | None] = {
    ".tar": None,
    ".tar.gz": "gzip",
    ".tgz": "gzip",
    ".tar.zst": "zstd",
    ".tzst": "zstd",
    ".tar.xz": "xz",
    ".txz": "xz",
    ".tar.bz2": "bz2",
    ".tbz2": "bz2",
}


def format_of(name: str) -> Format | None:
    """Return the format in a file's name, under its .gz, .zst, .xz or .bz2; None if unknown."""
    stem, ending = os.path.splitext(name.lower().rstrip("/"))
    return FORMATS.get(os.path.splitext(stem)[1] if ending in _COMPRESSIONS else ending)


def compression_of(name: str) -> Compression | None:
    """Return the compression in a file's name, None for a plain file."""
    return _COMPRESSIONS.get(Path(name).suffix.lower())


def is_zip(name: str) -> bool:
    """Tell whether a name ends in .zip."""
    return name.lower().endswith(".zip")


def is_tar(name: str) -> bool:
    """Tell whether a name is a tar's, plain or compressed."""
    return name.lower().endswith(tuple(_TARS))


def is_archive(name: str) -> bool:
    """Tell whether a name is that of a zip or tar, the archives with members to read."""
    return is_zip(name) or is_tar(name)


def compression_of_tar(name: str) -> Compression | None:
    """Return the compression in a tar's name, None for a plain tar."""
    return next(how for end, how in _TARS.items() if name.lower().endswith(end))


def said_formats() -> str:
    """List the file name endings that are read, for a message."""
    return f"{', '.join(FORMATS)}, also .gz, .zst, .xz and .bz2"
