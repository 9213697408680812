"""Folders that describe their own rows: output of `save_to_disk`, and clones of data sets of the hub.

The folder's own description decides, and its notes are not rows. Of several splits `train` is read unless the recipe
names others: an expert trains on no test set unasked.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orca_plugins.sources.files.columns import nearest, shown, shown_path
from orca_plugins.sources.files.places.formats import format_of
from orca_recipes.errors import SourceError
from orca_recipes.json_text import json_value

NOTES = ("dataset_info.json", "dataset_dict.json", "dataset_infos.json")
"""Files that say something of a data set's rows, and are none."""

Matching = Callable[[Path, tuple[str, ...]], Iterator[str]]
Splits = Mapping[str, Sequence[str]]

# The head of a card as the hub reads it: YAML between two lines of dashes at the very start.
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
# Words by which `datasets` tells splits apart, too, where a card names none.
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "eval"),
}
_CLONE_SIGNS = (".gitattributes", "dataset_infos.json", "README.md")


def split_of_name(name: str) -> str | None:
    """Return the split that the words of a file's name and folders say, as the hub does; None where they say none."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    return next((split for split, called in _SPLITS.items() if words & set(called)), None)


def splits_of(base: Path, *, config: str | None, matching: Matching) -> list[str]:
    """List the splits of a folder that describes its own rows; empty for any other."""
    saved = _saved(base)
    if saved is None:
        told = _configurations(base)
        if told:
            saved = _told_files(base, _one(shown_path(base), told, config), matching)
        elif _is_clone(base):
            saved = _named_splits(base, matching)
    return [name for name in saved or () if name]


def files_of(base: Path, *, config: str | None, split: Sequence[str], matching: Matching) -> list[str] | None:
    """List the files of a folder that describes its own rows; None for any other folder.

    Args:
        config, split: as the recipe asks; unset: the folder's own configuration, and `train`.
        matching: yields the names below a folder that match the parts of a pattern.
    Raises: SourceError where the folder does not have what is asked for, or its description cannot be understood.
    """
    saved = _saved(base)
    where = shown_path(base)
    if saved is not None:
        if config is not None:
            raise SourceError(f"{where}: a folder of save_to_disk has no configurations; leave out config")
        return _chosen(where, saved, split)
    told = _configurations(base)
    if told:
        return _chosen(where, _told_files(base, _one(where, told, config), matching), split)
    if config is not None:
        raise SourceError(f"{where}: no README.md of this folder names configurations; leave out config")
    named = _named_splits(base, matching) if _is_clone(base) or split else None
    return _chosen(where, named, split) if named else None


def _saved(base: Path) -> Splits | None:
    """List the files written by `save_to_disk`, by split (a single one without a name is ""); None for another
    folder."""
    if (base / "dataset_dict.json").is_file():
        names = _json(base / "dataset_dict.json").get("splits")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise SourceError(f"{shown_path(base / 'dataset_dict.json')}: it names no splits; save the data set again")
        return {name: [f"{name}/{file}" for file in _of_state(base / name)] for name in names}
    state = base / "state.json"
    return {"": _of_state(base)} if state.is_file() and "_data_files" in _json(state) else None


def _of_state(folder: Path) -> list[str]:
    state = folder / "state.json"
    files = _json(state).get("_data_files")
    if not isinstance(files, list) or not all(isinstance(one, dict) and "filename" in one for one in files):
        raise SourceError(f"{shown_path(state)}: it names no data files; this folder is not one of save_to_disk")
    names = [str(one["filename"]) for one in files]
    for name in names:
        _require_inside(state, name)
        if not (folder / name).is_file():
            raise SourceError(f"{shown_path(state)}: it names {shown(name)}, which is not there")
    return names


def _configurations(base: Path) -> list[dict[str, Any]]:
    """Read the configurations in the YAML head of README.md, as the hub reads them; empty where there are none."""
    readme = base / "README.md"
    if not readme.is_file():
        return []
    front = _FRONT.match(readme.read_text(encoding="utf-8-sig", errors="replace"))
    if front is None or "configs" not in front[1]:
        return []
    import yaml

    try:
        said = yaml.safe_load(front[1])
    except (yaml.YAMLError, RecursionError) as fault:
        raise SourceError(f"{shown_path(readme)}: its head is no YAML ({shown(str(fault))})") from None
    told = said.get("configs") if isinstance(said, dict) else None
    if told is None:
        return []
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise SourceError(f"{shown_path(readme)}: `configs` is no list of configurations")
    return [one for one in told if "data_files" in one or "data_dir" in one]


def _one(where: str, told: Sequence[dict[str, Any]], config: str | None) -> dict[str, Any]:
    """Choose the configuration asked for, or else the default or only one."""
    named = {str(one.get("config_name", "default")): one for one in told}
    if config is not None:
        if config not in named:
            raise SourceError(f"{where}: {_has_none('configuration', config, named)}")
        return named[config]
    # As `load_dataset` chooses, so that a clone and the hub give the same rows.
    marked = [one for one in told if one.get("default") is True]
    usual = [*marked, *(one for name, one in named.items() if name == "default" or len(named) == 1)]
    if usual:
        return usual[0]
    raise SourceError(f"{where}: its README.md has several configurations; set config to one of {_listed(named)}")


def _told_files(base: Path, told: Mapping[str, Any], matching: Matching) -> Splits:
    readme = base / "README.md"
    folder = str(told.get("data_dir") or ".")
    files: Any = told.get("data_files", "**")
    splits: dict[str, list[str]] = {}
    if isinstance(files, dict):
        files = [{"split": split, "path": path} for split, path in files.items()]
    if isinstance(files, str) or (isinstance(files, list) and all(isinstance(one, str) for one in files)):
        files = [{"split": "train", "path": files}]
    if not isinstance(files, list) or not all(isinstance(one, dict) and "path" in one for one in files):
        raise SourceError(f"{shown_path(readme)}: its `data_files` are no paths, nor a list of split and path")
    for one in files:
        paths = one["path"] if isinstance(one["path"], list) else [one["path"]]
        for path in map(str, paths):
            _require_inside(readme, path)
            _require_inside(readme, folder)
            parts = tuple(part for part in (*folder.split("/"), *path.split("/")) if part not in ("", "."))
            names = [name for name in matching(base, parts) if (base / name).is_file()]
            if not names:
                raise SourceError(f"{shown_path(readme)}: it names {shown(path)}, and no file here is called so")
            splits.setdefault(str(one.get("split", "train")), []).extend(names)
    return splits


def _named_splits(base: Path, matching: Matching) -> Splits | None:
    """Group files of `data/` by the split in their names, as the hub does; None where a name says no split, or files of
    rows lie above `data/`."""
    # Beside files of rows above it, `data/` is a folder as any other, and names no splits.
    if not (base / "data").is_dir() or any(_is_of_rows(name) for name in matching(base, ("*",))):
        return None
    splits: dict[str, list[str]] = {}
    for name in matching(base, ("data", "**")):
        if not _is_of_rows(name):
            continue
        found = split_of_name(name.removeprefix("data/"))
        if found is None:
            return None
        splits.setdefault(found, []).append(name)
    return splits or None


def _is_of_rows(name: str) -> bool:
    return format_of(name) is not None and name not in NOTES


def _is_clone(base: Path) -> bool:
    return any((base / sign).is_file() for sign in _CLONE_SIGNS)


def _chosen(where: str, splits: Splits, wanted: Sequence[str]) -> list[str]:
    if not wanted:
        wanted = ["train"] if "train" in splits else list(splits) if len(splits) == 1 else []
    if not wanted:
        raise SourceError(f"{where}: it has several splits; set split to one or more of {_listed(splits)}")
    for name in wanted:
        if name not in splits:
            raise SourceError(f"{where}: {_has_none('split', name, splits)}")
    # A README may name one file under two splits: its rows are read once.
    return list(dict.fromkeys(file for name in wanted for file in splits[name]))


def _has_none(what: str, name: str, named: Mapping[str, Any]) -> str:
    near = nearest(name, list(named))
    hint = f'did you mean "{shown(near)}"?' if near else f"it has {_listed(named)}"
    return f'it has no {what} "{shown(name)}"; {hint}'


def _listed(named: Mapping[str, Any]) -> str:
    return ", ".join(shown(name) for name in named if name) or "none with a name"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json_value(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise SourceError(f"{shown_path(path)}: it cannot be read ({shown(str(fault))})") from None
    return found if isinstance(found, dict) else {}


def _require_inside(where: Path, name: str) -> None:
    # A README is written by a stranger: it must not make a build read a file of the machine.
    if os.path.isabs(name) or ".." in re.split(r"[/\\]", name):
        raise SourceError(f"{shown_path(where)}: it names {shown(name)}, which is not in its folder")
