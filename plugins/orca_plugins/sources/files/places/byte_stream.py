"""The bytes of a file as a stream, and the stream in blocks of whole lines.

Compressed files go through pyarrow: of the libraries at hand it reports a gzip or zstd stream that was cut off at any
byte, checks checksums, and reads joined streams to the end, where a short read would lose rows in silence.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from orca_plugins.sources.files.columns import shown, shown_path
from orca_plugins.sources.files.places.formats import Compression, compression_of
from orca_plugins.sources.files.places.joined_streams import opened as opened_joined
from orca_recipes.contract.kinds import Slice, SourceFile
from orca_recipes.errors import SourceError

BLOCK_BYTES = 16 << 20
"""Bytes read at a time, and so about the text of one Reading."""

HEAD_BYTES = 1 << 20
"""How much of a file's start is looked at to learn what it holds."""

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def whole_file(file: SourceFile) -> Slice:
    """Return the whole file as one slice, by its size now."""
    with said_of(file.path):
        return Slice(file, 0, file.path.stat().st_size)


@contextlib.contextmanager
def said_of(path: Path, compression: Compression | None = None) -> Iterator[None]:
    """Turn an OSError while a file is opened or read into a SourceError that names the file.

    Args:
        compression: given where the file's name does not say it.
    """
    try:
        yield
    except OSError as error:
        said = _fault(compression or compression_of(path.name), error)
        raise SourceError(f"{shown_path(path)}: {said}") from error


def chunks(path: Path, *, start: int = 0, stop: int | None = None, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the file's bytes in pieces, never empty, decompressed and without a byte order mark.

    A range little longer than one piece comes in one: a slice ends with its last line, and the remainder would be a
    piece of a few rows.

    Args:
        start, stop: a range of bytes, of plain files only.
    Raises: SourceError where the file cannot be opened, is damaged, ends too early, or holds UTF-16.
    """
    first = start == 0
    with said_of(path), _opened(path, compression_of(path.name)) as stream:
        if start:
            stream.seek(start)
        left = None if stop is None else stop - start
        while piece := stream.read(size if left is None or left > size + size // 4 else left):
            left = None if left is None else left - len(piece)
            yielded = _without_mark(path, piece) if first else piece
            first = False
            if yielded:
                yield yielded
    if left:
        raise SourceError(f"{shown_path(path)}: the file became shorter while it was read")


def unpacked(path: Path, compression: Compression | None) -> Iterator[bytes]:
    """Yield all bytes of a file, decompressed, whatever they hold.

    Raises: SourceError where the file cannot be opened, is damaged, or ends too early.
    """
    with said_of(path, compression), _opened(path, compression) as stream:
        while piece := stream.read(BLOCK_BYTES):
            yield piece


def line_blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join the pieces and cut them again after line feeds; a line longer than a piece comes whole."""
    held: list[bytes] = []
    for piece in pieces:
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield b"".join([*held, piece[:cut]]) if held else piece[:cut]
            held = [piece[cut:]] if cut < len(piece) else []
        else:
            held.append(piece)
    if held:
        yield b"".join(held)


def head_lines(path: Path) -> list[bytes]:
    """Read the whole lines within the first HEAD_BYTES, or all lines of a shorter file."""
    held = b""
    for piece in chunks(path, size=HEAD_BYTES):
        held += piece
        if len(held) >= HEAD_BYTES:
            return held[:HEAD_BYTES].split(b"\n")[:-1]
    return held.split(b"\n")


def _opened(path: Path, compression: Compression | None) -> IO[bytes]:
    if compression is None:
        # Reads are megabytes long: a buffer would only copy them once more.
        return path.open("rb", buffering=0)
    if path.stat().st_size == 0:
        raise SourceError(f"{shown_path(path)}: the {compression} data ends too early: the file is empty")
    if compression in ("xz", "bz2"):
        return opened_joined(path, compression)
    import pyarrow as pa

    stream: IO[bytes] = pa.input_stream(str(path), compression=compression)
    return stream


def _without_mark(path: Path, piece: bytes) -> bytes:
    if piece[:2] in _UTF16 and b"\0" in piece[2:4]:
        raise SourceError(f"{shown_path(path)}: this text is UTF-16; write it as UTF-8")
    return piece.removeprefix(_BOM)


def _fault(compression: Compression | None, error: OSError) -> str:
    if error.strerror:
        return f"cannot be read ({error.strerror})"
    if compression is None:
        return f"cannot be read ({shown(str(error))})"
    if "Truncated" in str(error):
        return f"the {compression} data ends too early: the file was cut off"
    return f"the {compression} data is damaged ({shown(str(error))})"
