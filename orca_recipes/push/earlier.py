"""Files that an earlier push left in a repository, which loaders would take for rows of this one.

A build of fewer shards than the one before it, or an export of another dataset, has other names: without this the old
shards would stay beside the new ones, and a pattern such as `train-*.parquet` would load both.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from orca_recipes.export.export_folder import NAME as EXPORT
from orca_recipes.shards.manifest import NAME as MANIFEST

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def left_of_earlier(api: HfApi, repo: str, uploads: Collection[str]) -> list[str]:
    """List the files that an earlier push says are its own and this one has not; what else lies there is no push's."""
    held = {file.rfilename for file in api.dataset_info(repo).siblings or ()}
    lists = [name for name in (MANIFEST, EXPORT) if name in held]
    listed = {path for name in lists for path in (name, *_paths(_told(api, repo, name)))}
    return sorted((listed & held) - {*uploads})


def _told(api: HfApi, repo: str, name: str) -> Any:
    with TemporaryDirectory() as folder:
        path = Path(api.hf_hub_download(repo, name, repo_type="dataset", local_dir=folder))
        try:
            return json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return None


def _paths(told: Any) -> Iterator[str]:
    """Yield the path of every file that a manifest or an `export.json` names with its digest."""
    if isinstance(told, dict):
        if "digest" in told and isinstance(told.get("path"), str):
            yield told["path"]
        for inner in told.values():
            yield from _paths(inner)
    elif isinstance(told, list):
        for inner in told:
            yield from _paths(inner)
