"""Tokens before and after, by dataset, collection and task, from two manifests: only what differs is listed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orca_recipes.shards.manifest import DatasetCounts, Manifest

Counts = dict[str, int]

_COUNTED = ("examples", "tokens", "trained_tokens")


def token_changes(before: Manifest, after: Manifest) -> dict[str, Any]:
    """Compare the counts of two builds.

    Returns: before and after of the whole, and of each dataset that differs, with its collections and their tasks that
        differ; counts are 0 where there is no such thing.
    """
    names = dict.fromkeys([*before.datasets, *after.datasets])
    datasets = {name: _of_dataset(before.datasets.get(name), after.datasets.get(name)) for name in names}
    return {
        "before": _total(before),
        "after": _total(after),
        "datasets": {name: told for name, told in datasets.items() if told is not None},
    }


def _of_dataset(before: DatasetCounts | None, after: DatasetCounts | None) -> dict[str, Any] | None:
    old, new = (side.collections if side else {} for side in (before, after))
    collections = {}
    for name in dict.fromkeys([*old, *new]):
        tasks = _differing(old[name].tasks if name in old else {}, new[name].tasks if name in new else {})
        pair = _pair(old.get(name), new.get(name))
        if tasks or pair["before"] != pair["after"]:
            collections[name] = {**pair, "tasks": tasks}
    pair = _pair(before, after)
    return {**pair, "collections": collections} if collections or pair["before"] != pair["after"] else None


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Counts]]:
    pairs = {name: _pair(before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])}
    return {name: pair for name, pair in pairs.items() if pair["before"] != pair["after"]}


def _pair(before: Any, after: Any) -> dict[str, Counts]:
    return {"before": _counts(before), "after": _counts(after)}


def _counts(held: Any) -> Counts:
    return {name: 0 if held is None else int(getattr(held, name)) for name in _COUNTED}


def _total(manifest: Manifest) -> Counts:
    return {name: sum(int(getattr(held, name)) for held in manifest.datasets.values()) for name in _COUNTED}
