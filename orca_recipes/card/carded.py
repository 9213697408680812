"""The contents of a card: a build or an export, its datasets and the Parquet files that loaders read.

Every file that a card names is held against the digest that the manifest, or the export, promises.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca_recipes.errors import BuildError
from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.files import damage
from orca_recipes.shards.layout import records_path
from orca_recipes.shards.manifest import NAME as MANIFEST
from orca_recipes.shards.manifest import Manifest, read_manifest
from orca_recipes.shards.proven_files import prove_files

EXPORT = "export.json"


@dataclass(frozen=True)
class Carded:
    """A build or an export.

    name: of the recipe, or of the export's folder. digest: of the build's manifest. tables: dataset to its Parquet
    files, relative to `directory`. collections: those that it was made from, where that is known.
    page: the README.md of an export, without its head; "" where there is none. head: what that head says. licences:
    those that the recipe says, by collection.
    """

    directory: Path
    name: str
    digest: str
    examples: int
    tokens: int
    trained_tokens: int
    tables: Mapping[str, tuple[str, ...]]
    collections: tuple[str, ...] | None
    page: str = ""
    head: str = ""
    is_export: bool = False
    licences: Mapping[str, str] = field(default_factory=dict)


def open_carded(directory: Path) -> Carded:
    """Look at a build, or at an export.

    Raises: BuildError where it is neither; DamagedShard where a file is not as promised.
    """
    if (directory / MANIFEST).is_file():
        return _of_build(directory, read_manifest(directory))
    if (directory / EXPORT).is_file():
        return _of_export(directory)
    raise BuildError(f"{directory} is neither a build (it has no {MANIFEST}) nor an export (it has no {EXPORT})")


def _of_build(directory: Path, promised: Manifest) -> Carded:
    tables = {
        name: tuple(records_path(Path(shard.prefix)).as_posix() for shard in counts.shards)
        for name, counts in promised.datasets.items()
    }
    prove_files(directory, promised, [path for paths in tables.values() for path in paths])
    every = promised.datasets.values()
    return Carded(
        directory=directory,
        name=promised.name,
        digest=promised.digest,
        examples=sum(counts.examples for counts in every),
        tokens=sum(counts.tokens for counts in every),
        trained_tokens=sum(counts.trained_tokens for counts in every),
        tables=tables,
        collections=tuple(sorted({name for counts in every for name in counts.collections})),
        licences=_said_licences(promised.recipe),
    )


def _said_licences(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Return the licences the recipe states, by collection."""
    tables = recipe.get("collections", {})
    said = {name: table.get("license") for name, table in tables.items() if isinstance(table, Mapping)}
    return {name: licence for name, licence in said.items() if isinstance(licence, str)}


def _of_export(directory: Path) -> Carded:
    path = directory / EXPORT
    try:
        told = json.loads(path.read_bytes())
        promised = {str(file["path"]): str(file["digest"]) for file in told["files"]}
        datasets = [str(name) for name in told["datasets"]]
        counts = {name: int(told[name]) for name in ("examples", "tokens", "trained_labels")}
        build = str(told["build"])
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise damage(path, "it does not say what was exported") from error
    for name, digest in promised.items():
        file = directory / name
        if not file.resolve().is_relative_to(directory.resolve()) or not file.is_file() or file_digest(file) != digest:
            raise damage(file, "it is not the file that was exported")
    head, page = _parted((directory / "README.md").read_text(encoding="utf-8"))
    tables = {
        name: tuple(sorted(file for file in promised if file.startswith(f"{name}/") and file.endswith(".parquet")))
        for name in datasets
    }
    return Carded(
        directory=directory,
        name=page.partition("\n")[0].removeprefix("# ").partition(", for ")[0],
        digest=build,
        examples=counts["examples"],
        tokens=counts["tokens"],
        trained_tokens=counts["trained_labels"],
        tables=tables,
        collections=None,
        page=page,
        head=head,
        is_export=True,
    )


def _parted(text: str) -> tuple[str, str]:
    """Split a README.md into its YAML head for hubs ("" if it has none) and its text for people."""
    if not text.startswith("---\n"):
        return "", text
    head, _, page = text.removeprefix("---\n").partition("\n---\n")
    return head, page.lstrip("\n")


def columns_of(carded: Carded, path: str) -> Mapping[str, Any]:
    """Read the columns of a Parquet file: name to Arrow type. Raises: DamagedShard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(carded.directory / path)
    except (pa.ArrowException, OSError) as error:
        raise damage(carded.directory / path, "it cannot be read as Parquet") from error
    return {field.name: field.type for field in schema}
