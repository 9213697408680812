"""Tasks for machines without a folder of ours, where the store is at an address.

Every machine has a cache of its own. So a path below the driver's cache travels as a name, and is a path below the
cache of whoever carries the task out: what it names is fetched when it is not there, a part that is kept is sent up.
What a task writes into a build's folder goes up to the address, too, and comes down into that folder here.
"""

from __future__ import annotations

import io
import os
import pickle
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, TypeVar

from orca_recipes.objects.copies import side_by_side
from orca_recipes.objects.objects import Objects
from orca_recipes.store.shared_stage import address_of_root, at_hand, shared_stage
from orca_recipes.store.shared_store import SENT, shared_root

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Carried:
    """A task and its function, with names in place of paths; address: of the store."""

    address: str
    order: bytes


@dataclass(frozen=True)
class CarriedBack:
    """Result of a task, with names in place of paths, and the files it wrote into the build.

    Attributes:
        place: below the address, where these files are for now.
    """

    result: bytes
    place: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Places:
    """Folders that tasks speak of: the cache of the store at an address, and a build that is being written."""

    address: str
    store: Path
    build: Path | None = None

    def carried(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Sequence[Carried]:
        """Make tasks ready for the way, each when it is asked for."""
        return _OnTheirWay(self, function, tasks)

    def brought(self, back: CarriedBack) -> Any:
        """Take what came back: files of the build are fetched, and names are paths of this machine."""
        if back.files:
            assert self.build is not None, "a task that was handed no build has none to write into"
            build, objects = self.build, Objects.at(self.address)
            side_by_side(lambda name: objects.fetch(f"{back.place}/{name}", build / name), back.files)
            objects.delete([f"{back.place}/{name}" for name in back.files])
        return _placed(back.result, self, fetches=False)


def places_of(store: Path, build: Path | None = None) -> Places | None:
    """Return the places of a store at an address, for tasks without its folder; None for a store of its own."""
    address = address_of_root(store)
    return None if address is None else Places(address, store, build)


@dataclass(frozen=True)
class _OnTheirWay(Sequence[Carried]):
    places: Places
    function: Callable[[Any], Any]
    tasks: Sequence[Any]

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, at: Any) -> Any:
        return Carried(self.places.address, _named((self.function, self.tasks[at]), self.places))


def carry_out(carried: Carried) -> CarriedBack:
    """Carry a task out on the machine at hand. Raises: whatever it raises; as `shared_root`."""
    with _folder_of_build() as build:
        places = Places(carried.address, _root(carried.address, os.environ.get("ORCA_CACHE")), build)
        function, task = _placed(carried.order, places, fetches=True)
        result = _named(function(task), places)
        files = tuple(sorted(path.relative_to(build).as_posix() for path in build.rglob("*") if path.is_file()))
        place = f"{SENT}/{secrets.token_hex(8)}"
        objects = Objects.at(carried.address)
        side_by_side(lambda name: objects.upload(f"{place}/{name}", build / name), files)
    return CarriedBack(result, place, files)


@lru_cache(maxsize=8)
def _root(address: str, cache: str | None) -> Path:
    """Return this machine's cache: a process asks once whether the address can be reached, not for each of its
    tasks."""
    return shared_root(address)


def _fetched(path: Path) -> Path:
    """Have here what a path in the cache names: a file, a stage's folder, or the files of a part that begin so."""
    if not at_hand(path).exists() and (shared := shared_stage(path.parent)) is not None:
        shared.bring([path.name])
    return path


@contextmanager
def _folder_of_build() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="orca-build-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _named(value: Any, places: Places) -> bytes:
    stream = io.BytesIO()
    _Naming(stream, places).dump(value)
    return stream.getvalue()


def _placed(data: bytes, places: Places, *, fetches: bool) -> Any:
    return _Placing(io.BytesIO(data), places, fetches).load()


class _Naming(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, places: Places) -> None:
        super().__init__(stream)
        self._places = [(name, folder) for name in ("store", "build") if (folder := getattr(places, name)) is not None]

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, PurePath):
            for name, folder in self._places:
                if value.is_relative_to(folder):
                    return name, value.relative_to(folder).as_posix()
            if not value.is_absolute():
                return "here", os.path.abspath(value)
        return None


class _Placing(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, places: Places, fetches: bool) -> None:
        super().__init__(stream)
        self._places, self._fetches = places, fetches

    def persistent_load(self, named: Any) -> Path:
        name, rest = named
        if name == "here":
            return Path(rest)
        path: Path = getattr(self._places, name) / rest
        if self._fetches and name == "store":
            return _fetched(path)
        if self._fetches:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path
