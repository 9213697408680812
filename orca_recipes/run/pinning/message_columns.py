"""The distinct texts of one column of a data set: how system messages are taken from data that holds them in each row.

Only that column is read, also from the hub, where Parquet lets single columns be fetched; and where digests say which
texts are wanted, reading ends with the last of them.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from orca_recipes.contract.kinds import Source, SourceFile
from orca_recipes.contract.spelling import quoted
from orca_recipes.errors import SourceError
from orca_recipes.recipe.message_digests import text_digest
from orca_recipes.run.work.workers import SLICE_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

_SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst")
_BATCH_ROWS = 65_536
_BLOCK_BYTES = 16 << 20


def column_files(path: Path) -> list[SourceFile]:
    """List the data files that a path names (a file, a folder, a pattern), sorted by name.

    Raises: SourceError where there is none.
    """
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.name.endswith(_SUFFIXES)]
        base = path
    else:
        found = [path] if path.is_file() else [Path(name) for name in glob.glob(str(path), recursive=True)]
        base = path.parent
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise SourceError(f"{path}: there is no such file; name Parquet or JSON lines (.parquet .jsonl .jsonl.gz .zst)")
    if wrong := next((file for file in files if not file.name.endswith(_SUFFIXES)), None):
        raise SourceError(f"{wrong}: it is neither Parquet nor JSON lines (.parquet .jsonl .jsonl.gz .jsonl.zst)")
    named = [file.relative_to(base).as_posix() if file.is_relative_to(base) else file.name for file in files]
    return [SourceFile(name, file) for name, file in sorted(zip(named, files, strict=True))]


def local_values(files: Sequence[SourceFile], *, column: str, wanted: frozenset[str]) -> list[str]:
    """Read the distinct texts of a column of local files, sorted.

    Args:
        wanted: SHA-256 digests of the texts that are looked for; empty: all.
    Raises: SourceError where a file cannot be read or lacks the column.
    """
    named = ((file.name, partial(_opened, file.path)) for file in files)
    return _distinct((partial(_columns, name, opening, column) for name, opening in named), wanted)


def collection_values(source: Source, *, column: str, wanted: frozenset[str]) -> list[str]:
    """Read a column through a source, as `local_values` does of files: one of our columns of text, or one kept in
    `extra`."""
    return _distinct(iter([partial(_read_column, source, column)]), wanted)


def hub_values(name: str, *, commit: str, column: str, wanted: frozenset[str]) -> list[str]:
    """Read a column of a hub data set at a commit, as `local_values` does of files."""
    from huggingface_hub import HfFileSystem

    with _hub_faults(name):
        files = HfFileSystem()
        root = f"datasets/{name}@{commit}"
        paths = sorted(path for path in files.find(root) if path.endswith(_SUFFIXES))
        if not paths:
            raise SourceError(f"{name} of the hub has no Parquet and no JSON lines at {commit}")
        return _distinct((partial(_columns, path, partial(files.open, path, "rb"), column) for path in paths), wanted)


def hub_commit(name: str, revision: str | None) -> str:
    """Look up the commit of a hub data set's revision as of now.

    Raises: SourceError where the hub has none, or cannot be reached.
    """
    from huggingface_hub import HfApi

    with _hub_faults(name):
        return str(HfApi().dataset_info(name, revision=revision).sha)


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


@contextmanager
def _hub_faults(name: str) -> Iterator[None]:
    """Turn errors of the hub's client into one sentence; no header, key or address of a request is repeated."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except GatedRepoError:
        raise SourceError(f"{name} asks for consent: accept its terms on the hub and run `hf auth login`") from None
    except RevisionNotFoundError:
        raise SourceError(f"{name} has no such revision on the hub") from None
    except RepositoryNotFoundError:
        raise SourceError(f"the hub has no data set {name}, or it is private: run `hf auth login`") from None
    except SourceError:
        raise
    except Exception as error:  # whatever the client's HTTP library, which changes with its version, raises
        raise SourceError(
            f"{name} cannot be had from the hub ({type(error).__name__}); connect, or give a path"
        ) from None


def _distinct(readings: Iterator[Callable[[], Iterator[pa.Array]]], wanted: frozenset[str]) -> list[str]:
    import pyarrow.compute as pc

    found: set[str] = set()
    missing = set(wanted)
    for reading in readings:
        for values in reading():
            new = {text for text in pc.unique(values).to_pylist() if text is not None} - found
            found |= new
            missing -= {text_digest(text) for text in new}
            if wanted and not missing:
                return sorted(found)
    return sorted(found)


def _read_column(source: Source, column: str) -> Iterator[pa.Array]:
    import polars as pl

    for piece in source.slices(slice_bytes=SLICE_BYTES):
        for reading in source.read(slice=piece):
            rows = reading.rows
            if column in rows.columns and rows[column].dtype == pl.String:
                yield rows[column].to_arrow()
            elif "extra" in rows.columns:
                kept = rows["extra"].drop_nulls().explode().drop_nulls().struct.unnest()
                yield kept.filter(pl.col("name") == column)["value"].to_arrow()


def _columns(name: str, opening: Callable[[], BinaryIO], column: str) -> Iterator[pa.Array]:
    """Yield one column of a file, a bounded piece at a time."""
    import pyarrow as pa

    reading = _of_parquet if name.endswith(".parquet") else _of_json_lines
    try:
        with opening() as stream:
            yield from reading(name, stream, column)
    except pa.ArrowException as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise SourceError(f"{name}: it cannot be read ({first})") from error


def _of_parquet(name: str, stream: BinaryIO, column: str) -> Iterator[pa.Array]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(stream, pre_buffer=False, read_dictionary=[column]) as file:
        if column not in file.schema_arrow.names:
            raise _no_column(name, column, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[column], use_threads=False):
            values = batch.column(0)
            yield values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _of_json_lines(name: str, stream: BinaryIO, column: str) -> Iterator[pa.Array]:
    import pyarrow as pa
    import pyarrow.json as pj

    plain: Any = stream
    if name.endswith((".gz", ".zst")):
        plain = pa.CompressedInputStream(pa.PythonFile(stream, "r"), "gzip" if name.endswith(".gz") else "zstd")
    options = pj.ParseOptions(explicit_schema=pa.schema([(column, pa.string())]), unexpected_field_behavior="ignore")
    blocks = pj.open_json(plain, pj.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES), options)
    empty = True
    for batch in blocks:
        values = batch.column(0)
        empty = empty and values.null_count == len(values)
        yield values
    if empty:
        raise _no_column(name, column, ())


def _no_column(name: str, column: str, names: Sequence[str]) -> SourceError:
    has = f"; it has {', '.join(quoted(one) for one in names)}" if names else ""
    return SourceError(f"{name}: there is no column {quoted(column)}{has}")
