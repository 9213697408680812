"""Access to the library `datasets`: the files that make up a split, and its rows as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from orca_plugins.sources.files.checked_rows import Finish
from orca_plugins.sources.files.columns import Wanted, shown
from orca_plugins.sources.files.parquet import UnfitType, columns_of, table_of
from orca_plugins.sources.files.places.byte_stream import BLOCK_BYTES
from orca_plugins.sources.files.places.formats import format_of
from orca_recipes.contract.kinds import Reading
from orca_recipes.errors import PluginError, SourceError

_BATCH_ROWS = 1000
_RETYPED = "a stream has the types that `datasets` makes of files: streaming = false reads the files as they are"
_MISSING = "source \"hub\" needs an extra package: pip install 'orca-recipes[hub]'"


@dataclass(frozen=True)
class Split:
    """A split of a configuration of a data set at a revision."""

    name: str
    revision: str
    config: str | None
    split: str

    def __str__(self) -> str:
        return f"{self.name}{f' ({self.config})' if self.config else ''}, split {self.split}"


def version() -> str:
    """Return the installed version of `datasets`. Raises: PluginError where there is none."""
    try:
        return metadata.version("datasets")
    except metadata.PackageNotFoundError:
        raise PluginError(_MISSING) from None


def file_names(split: Split) -> list[str]:
    """List the files of a split, by their names in the data set.

    Raises: SourceError where the data set has no such configuration or split, or is not made of files that can be read.
    """
    builder = _asked(split, "load_dataset_builder", {})
    files = builder.config.data_files or {}
    if split.split not in files:
        has = ", ".join(shown(str(name)) for name in files) or "none"
        raise SourceError(f"{split.name} has no split {split.split}; it has {has}")
    start = f"hf://datasets/{split.name}@"
    names = []
    for address in map(str, files[split.split]):
        if not address.startswith(start):
            raise SourceError(f"{split}: its rows lie elsewhere than in the data set; set streaming = true")
        names.append(address.removeprefix(start).partition("/")[2])
    if odd := next((name for name in names if format_of(name) is None), None):
        raise SourceError(f"{split}: {shown(odd)} is of a format that only `datasets` reads; set streaming = true")
    return sorted(names)


def rows(split: Split, *, wanted: Wanted, finish: Finish) -> Iterator[Reading]:
    """Yield the rows of a split as they come; their places count from 1.

    Raises: SourceError.
    """
    import pyarrow as pa

    stream = _asked(split, "load_dataset", {"split": split.split, "streaming": True}).with_format("arrow")
    place, held, tables = 1, 0, []
    batches = stream.iter(batch_size=_BATCH_ROWS)
    while True:
        with _said_of(split):
            batch: pa.Table | None = next(batches, None)
        if batch is None:
            break
        try:
            columns = columns_of(str(split), batch.schema, wanted)
        except UnfitType as fault:
            # datasets 5.2.0 makes times of texts of dates, numbers and objects of JSON text beside lists.
            raise SourceError(f"{fault}; {_RETYPED}") from None
        for piece in batch.combine_chunks().to_batches():
            tables.append(table_of(piece, columns, place, wanted))
            place += piece.num_rows
            held += sum(array.nbytes for array in tables[-1].columns.values())
        if held >= BLOCK_BYTES:
            yield finish.reading(tables)
            held, tables = 0, []
    if tables:
        yield finish.reading(tables)


def _asked(split: Split, question: str, more: dict[str, Any]) -> Any:
    """Call one of the loading functions of `datasets`, without its bars of progress."""
    try:
        import datasets
    except ImportError:
        raise PluginError(_MISSING) from None
    datasets.disable_progress_bars()
    with _said_of(split):
        return getattr(datasets, question)(split.name, split.config, revision=split.revision, **more)


@contextmanager
def _said_of(split: Split) -> Iterator[None]:
    """Turn what `datasets` raises of a data set into a sentence."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (DatasetsError, OSError, ValueError, *HfHubHTTPError.__bases__) as fault:
        first = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
        raise SourceError(f"{split}: cannot be had from the hub ({shown(first)})") from None
