"""The description of data that loaders of Croissant 1.1 read: every Parquet file with its SHA-256, every column.

Columns that Croissant has no words for (binary ids and digests) are left to those who read Parquet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orca_recipes.card.carded import Carded, columns_of

_CROISSANT = (
    "arrayShape citeAs column equivalentProperty extract field fileObject fileProperty fileSet format includes isArray "
    "isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate "
    "separator source subField transform"
)
"""The words of Croissant's own vocabulary that its readers expect to be declared."""

_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{word: f"cr:{word}" for word in _CROISSANT.split()},
}


def croissant(carded: Carded, *, description: str, licences: tuple[str, ...]) -> Mapping[str, Any]:
    """Describe the Parquet files of a build or an export, with paths relative to its folder. Raises: DamagedShard."""
    paths = [path for found in carded.tables.values() for path in found]
    told: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": carded.name,
        "description": description,
        "version": "1.0.0",
        "identifier": carded.digest,
    }
    if licences:
        told["license"] = list(licences)
    told["distribution"] = [_file(carded.directory, path) for path in paths]
    told["recordSet"] = [_records(carded, path) for path in paths]
    return told


def _file(directory: Path, path: str) -> Mapping[str, Any]:
    whole = directory / path
    with whole.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{whole.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": digest,
    }


def _records(carded: Carded, path: str) -> Mapping[str, Any]:
    name = path.removesuffix(".parquet")
    columns = columns_of(carded, path)
    fields = [_field(name, path, column, kind) for column, kind in columns.items()]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": [field for field in fields if field]}


def _field(records: str, path: str, column: str, kind: Any) -> Mapping[str, Any] | None:
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    told = _data_type(kind.value_type if is_list else kind)
    if told is None:
        return None
    return {
        "@type": "cr:Field",
        "@id": f"{records}/{column}",
        "name": column,
        "dataType": told,
        **({"isArray": True, "arrayShape": "-1"} if is_list else {}),
        "source": {"fileObject": {"@id": path}, "extract": {"column": column}},
    }


def _data_type(kind: Any) -> str | None:
    """Translate an Arrow type into Croissant's data type; None where Croissant has none."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    return "sc:Text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None
