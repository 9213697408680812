"""xz and bzip2 as streams: every one of the joined streams, to the last byte.

The standard library's own files take what follows a whole stream for padding, whatever it is, so that a damaged second
stream would lose its rows in silence. Here it is a fault, as it is with gzip and zstd.
"""

import bz2
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol, cast

_READ_BYTES = 1 << 18
_UNPACKED_BYTES = 1 << 20
"""What one read unpacks at most, however well the file is packed."""


class _Unpacking(Protocol):
    """The interface that the standard library's lzma and bz2 decompressors share."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


_DECOMPRESSORS = {"xz": lzma.LZMADecompressor, "bz2": bz2.BZ2Decompressor}


def opened(path: Path, compression: str) -> IO[bytes]:
    """Open an xz or bzip2 file as a stream of unpacked bytes.

    Raises, when it is read: OSError, which says that the stream is truncated where the file ends too early.
    """
    make = cast(Callable[[], _Unpacking], _DECOMPRESSORS[compression])
    # Files of xz may have zeros between their streams, those of bzip2 nothing.
    padding = b"\0" if compression == "xz" else b""
    return io.BufferedReader(_Joined(path.open("rb", buffering=0), make, padding), _UNPACKED_BYTES)


class _Joined(io.RawIOBase):
    def __init__(self, packed: IO[bytes], make: Callable[[], _Unpacking], padding: bytes) -> None:
        self._packed = packed
        self._padding = padding
        self._make = make
        self._stream = make()
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while True:
            if self._stream.eof and not self._next():
                return 0
            data = b""
            if self._stream.needs_input:
                data = self._held or self._packed.read(_READ_BYTES)
                self._held = b""
                if not data:
                    raise OSError("Truncated: the last stream does not end")
            try:
                found = self._stream.decompress(data, min(len(into), _UNPACKED_BYTES))
            except lzma.LZMAError as fault:
                raise OSError(str(fault)) from fault
            if found:
                into[: len(found)] = found
                return len(found)

    def close(self) -> None:
        self._packed.close()
        super().close()

    def _next(self) -> bool:
        """Begin the stream after one that ended, False at the end of the file; xz streams may have zeros between
        them."""
        held = self._stream.unused_data
        while not (held := held.lstrip(self._padding)):
            held = self._packed.read(_READ_BYTES)
            if not held:
                return False
        self._held, self._stream = held, self._make()
        return True
