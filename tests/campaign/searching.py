"""Look for a key in all files of a folder, by undoing what may have been done to it: an independent search."""

from __future__ import annotations

import base64
import html
import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_plus

import numpy as np
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from tokenizers import Tokenizer

_IN_A_ROW = 12
_ESCAPES = re.compile(r"\\+(?:u|x|U0000)([0-9a-fA-F]{4}|[0-9a-fA-F]{2})")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{15,}")
_HEX = re.compile(r"[0-9a-f]{24,}")


def holders(folder: Path, key: str) -> list[str]:
    """The files, and parts of them, that hold twelve characters of a key in a row, in whatever spelling."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        found += [f"{path.relative_to(folder)} {part}" for part, data in _contents(path) if holds(data, key)]
    return found


def holds(data: bytes, key: str) -> bool:
    """Whether bytes hold twelve characters of a key in a row."""
    wanted = [_rows(key.lower()), _rows(_squeezed(key))]
    for text in _views(data):
        for rows, low in zip(wanted, (text.lower(), _squeezed(text)), strict=True):
            if any(row in low or row in low[::-1] for row in rows):
                return True
    return False


def _rows(key: str) -> list[str]:
    return [key[at : at + _IN_A_ROW] for at in range(len(key) - _IN_A_ROW + 1)]


def _views(data: bytes) -> Iterator[str]:
    """What is written there, and what that says when it is undone."""
    text = data.decode("utf-8", "replace")
    yield text
    plain = unquote_plus(unquote_plus(text))
    yield plain
    yield _ESCAPES.sub(lambda found: chr(int(found[1], 16)), re.sub(r"\\+[nrtbf]", " ", plain))
    yield html.unescape(plain)
    for run in _BASE64.findall(data):
        told = run.replace(b"-", b"+").replace(b"_", b"/")
        yield " ".join(_decoded(told[at:]) for at in range(4))
    for hexadecimal in _HEX.findall(_squeezed(text)):
        yield " ".join(_of_hex(hexadecimal[at:]) for at in range(2))


def _decoded(run: bytes) -> str:
    return base64.b64decode(run[: len(run) // 4 * 4]).decode("latin-1")


def _of_hex(run: str) -> str:
    return bytes.fromhex(run[: len(run) // 2 * 2]).decode("latin-1")


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """A file's bytes, and what its format packs: columns, members of archives, tokens."""
    data = path.read_bytes()
    yield "", data
    if path.suffix in (".parquet", ".arrow"):
        table = pq.read_table(path) if path.suffix == ".parquet" else _arrow(path)
        yield "as a table", json.dumps(table.to_pylist(), default=str, ensure_ascii=False).encode()
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            for member in archive:
                held = archive.extractfile(member)
                yield member.name, held.read() if held is not None else b""
    if data[:2] == b"\x1f\x8b":
        yield "unpacked", zlib.decompress(data, wbits=47)
    tokenizers = [*path.parents[1].glob("*/tokenizer.json"), *path.parents[1].glob("tokenizer.json")]
    if path.suffix == ".bin" and tokenizers:
        tokenizer = Tokenizer.from_file(str(tokenizers[0]))
        for kind in (np.uint16, np.int32):
            ids = np.frombuffer(data[: len(data) // 4 * 4], kind).astype(np.int64)
            known = ids[(ids >= 0) & (ids < tokenizer.get_vocab_size())]
            yield "as tokens", tokenizer.decode(known.tolist(), skip_special_tokens=False).encode()


def _arrow(path: Path) -> object:
    try:
        return ipc.open_file(path).read_all()
    except ValueError:
        return ipc.open_stream(path).read_all()
