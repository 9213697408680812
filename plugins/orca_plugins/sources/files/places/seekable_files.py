"""Access to Parquet and Arrow files, which pyarrow reads from their end: unpacked first, with pyarrow's faults as
sentences."""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orca_plugins.sources.files.columns import shown, shown_path
from orca_plugins.sources.files.places.byte_stream import chunks
from orca_plugins.sources.files.places.formats import compression_of
from orca_recipes.contract.kinds import SourceFile
from orca_recipes.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa


@contextlib.contextmanager
def seekable(file: SourceFile) -> "Iterator[pa.NativeFile | None]":
    """Unpack a compressed file into one that can be read from any place, as long as it is used; None: it is plain."""
    import pyarrow as pa

    if not compression_of(file.path.name):
        yield None
        return
    # On disk: a file may unpack to more than fits in memory.
    with tempfile.TemporaryFile() as unpacked:
        unpacked.writelines(chunks(file.path))
        unpacked.seek(0)
        with pa.PythonFile(unpacked, "r") as source:
            yield source


@contextlib.contextmanager
def sound(file: SourceFile, what: str) -> Iterator[None]:
    """Turn what pyarrow says of a broken file into a sentence; what: the file is, where it is broken."""
    import pyarrow as pa

    try:
        yield
    except MemoryError:  # one of pyarrow's exceptions, too, and no fault of the file's form
        raise
    except (pa.ArrowException, OSError, UnicodeError) as error:
        system = error.strerror if isinstance(error, OSError) else None
        fault = f"cannot be read ({system})" if system else f"this is {what} ({shown(str(error))})"
        raise SourceError(f"{shown_path(file.path)}: {fault}") from error
