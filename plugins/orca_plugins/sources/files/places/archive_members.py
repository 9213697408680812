"""Members of zip and tar archives, unpacked once into a folder of copies and then read as files.

So a member is cut in slices, pinned and named as any file is. What an archive may do to the machine that unpacks it is
held off here: no member leaves the folder, no link is made, and what is unpacked is bounded by size and by ratio.
"""

import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from orca_plugins.sources.files.columns import shown, shown_path
from orca_plugins.sources.files.places.byte_stream import BLOCK_BYTES, said_of, unpacked
from orca_plugins.sources.files.places.formats import compression_of_tar, is_zip, said_formats
from orca_plugins.sources.files.places.kept_copies import kept
from orca_recipes.contract.kinds import SourceFile
from orca_recipes.errors import SourceError

MOST_BYTES = 1 << 40
"""The most that is unpacked of one archive."""
MOST_TIMES = 200
"""How many times its own size an archive may hold: text is packed to a tenth, seldom to a fiftieth."""
_SMALL_BYTES = 16 << 20
"""What may be unpacked whatever the ratio: it harms no machine."""
_SAID = 3
"""Members whose names are told where none is read."""

# Also by the separators and drives of Windows, whose programs write archives too.
_CLIMBS = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:")
_ZEROS = bytes(tarfile.BLOCKSIZE)
# zipfile raises RuntimeError for a password it was not given, and its NotImplementedError for a compression it lacks.
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, RuntimeError)

Wish = Callable[[str], bool]


@dataclass
class _Weighed:
    """Count of the bytes unpacked from an archive; it refuses more than the limits of size and ratio allow."""

    where: str
    packed: int
    unpacked: int = 0

    def add(self, count: int) -> None:
        self.unpacked += count
        if self.unpacked > MOST_BYTES:
            raise SourceError(f"{self.where}: it holds more than {MOST_BYTES >> 30} GiB; unpack it yourself")
        if self.unpacked > max(_SMALL_BYTES, MOST_TIMES * self.packed):
            raise SourceError(
                f"{self.where}: it unpacks to more than {MOST_TIMES} times its size, as only a bomb does; "
                "where it is none, unpack it yourself"
            )


def members(archive: Path, name: str, pattern: tuple[str, ...], wish: Wish, *, wished: str) -> list[SourceFile]:
    """Unpack the members of an archive that match a pattern and a wish, and list them sorted by name.

    Args:
        name: the archive's name; a member's name is that, a slash and its own.
        pattern: parts of names, as of files in folders; empty: all members, in all folders.
        wish: tells whether a name is of a format that is read; `wished` names the wish in the key of the copies.
    Raises: SourceError where there is none, or the archive is damaged, a bomb, or holds a link or a path out of it.
    """

    met: list[str] = []

    def wanted(member: str) -> bool:
        met.append(member)
        return _matches(PurePosixPath(member).parts, pattern or ("**", "*")) and wish(member)

    with said_of(archive):
        status = archive.stat()
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
        key = ("archive", str(archive.resolve()), *map(str, stamp), wished, *pattern)
        folder = kept(key, lambda making: _unpack(archive, making / archive.name, wanted, met)) / archive.name
        found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return [SourceFile(f"{name}/{member}", folder / member) for member in sorted(found)]


def _unpack(archive: Path, folder: Path, wanted: Wish, met: Sequence[str]) -> None:
    where = shown_path(archive)
    weighed = _Weighed(where, archive.stat().st_size)
    taken: set[str] = set()
    try:
        for member, stream in (_of_zip if is_zip(archive.name) else _of_tar)(archive, wanted, weighed):
            if member in taken:
                raise SourceError(f"{where}: two members are called {shown(member)}")
            taken.add(member)
            path = folder / member
            if any(str(above) in taken for above in PurePosixPath(member).parents) or path.is_dir():
                raise SourceError(f"{where}: {shown(member)} is in the way of another member, a file where a folder is")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as copy:
                while piece := stream.read(BLOCK_BYTES):
                    weighed.add(len(piece))
                    copy.write(piece)
    except NotImplementedError as fault:
        raise SourceError(f"{where}: {shown(str(fault))}; unpack the archive yourself") from fault
    except _DAMAGED as fault:
        raise SourceError(f"{where}: this archive is damaged ({shown(str(fault))}); fetch it again") from fault
    if not taken:
        held = f"it holds {', '.join(map(shown, met[:_SAID]))}{' and more' if len(met) > _SAID else ''}"
        raise SourceError(
            f"{where}: no member of this archive matches, or none is of a known format ({said_formats()}); "
            f"{held if met else 'it holds no file'}"
        )


def _of_zip(archive: Path, wanted: Wish, weighed: _Weighed) -> Iterator[tuple[str, IO[bytes]]]:
    where = weighed.where
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            _require_inside(where, member.filename)
            # The Unix file type, 0 where the archive was made by a system that has none.
            kind = member.external_attr >> 16 & 0o170000
            if member.is_dir() or not wanted(member.filename):
                continue
            if kind not in (0, 0o100000):
                raise SourceError(f"{where}: {shown(member.filename)} is a link or no file; only files are read")
            if member.flag_bits & 1:
                raise SourceError(f"{where}: {shown(member.filename)} is encrypted; unpack the archive yourself")
            with opened.open(member) as stream:
                yield _plain_name(member.filename), stream


def _of_tar(archive: Path, wanted: Wish, weighed: _Weighed) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the wanted members of a tar; refuse one without a block of zeros at its end, since rows may be lost."""
    where, compression = weighed.where, compression_of_tar(archive.name)
    # Unpacked by our own reader first, which notices a compressed stream that was cut off.
    with tempfile.TemporaryFile() as plain:
        whole = _Weighed(where, weighed.packed)
        for piece in unpacked(archive, compression):
            # Only a compressed tar can unpack to more than its own size.
            whole.add(len(piece) if compression is not None else 0)
            plain.write(piece)
        plain.seek(0)
        with tarfile.open(fileobj=plain, mode="r:") as opened:
            for member in opened:
                _require_inside(where, member.name)
                if member.isdir() or not wanted(member.name):
                    continue
                stream = opened.extractfile(member) if member.isreg() and not member.sparse else None
                if stream is None:
                    raise SourceError(f"{where}: {shown(member.name)} is a link or no file; only files are read")
                yield _plain_name(member.name), stream
            plain.seek(opened.offset)
            if plain.read(tarfile.BLOCKSIZE) != _ZEROS:
                raise SourceError(f"{where}: this archive is damaged, or was cut off; fetch it again")
            if any(piece.strip(b"\0") for piece in iter(lambda: plain.read(BLOCK_BYTES), b"")):
                raise SourceError(f"{where}: it goes on behind its end, as tars do that were put together; part them")


def _plain_name(member: str) -> str:
    return PurePosixPath(member).as_posix()


def _require_inside(where: str, member: str) -> None:
    if _CLIMBS.search(member):
        raise SourceError(f"{where}: the member {shown(member)} leads out of the archive; it is not unpacked")
    if any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in member):
        raise SourceError(f"{where}: the name of member {shown(member)} is not UTF-8, or ends in its middle")


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether a member's name matches part by part; a leading dot must be in the pattern too."""
    if not pattern:
        return not parts
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        rest = rest or ("*",)
        seen = bool(parts) and not parts[0].startswith(".")
        return _matches(parts, rest) or (seen and _matches(parts[1:], pattern))
    if not parts or not fnmatchcase(parts[0], head) or (parts[0].startswith(".") and not head.startswith(".")):
        return False
    return _matches(parts[1:], rest)
