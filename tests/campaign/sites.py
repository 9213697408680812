"""Where a build and its store lie, on a disk or at an address that several hosts share, looked at from outside."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from blake3 import blake3

from orca_recipes.objects.address import address_of
from orca_recipes.objects.objects import Objects
from orca_recipes.shards.checks.verify import verify
from orca_recipes.store.stage_folder import StageFolder
from tests.campaign.trial import Trial, promise_of


@dataclass(frozen=True)
class OnDisk(Trial):
    """A store and a build in a folder."""

    def is_unfinished(self, verb: str) -> bool:
        """Whether a stage of a verb is written in part and has no receipt; of the last verb, the build itself."""
        if verb == "write":
            return any(path.is_dir() and any(path.iterdir()) for path in self.folder.glob(".out.*"))
        stages = (self.folder / "store" / "stages").glob(f"{verb}-*")
        return any(not (path / "receipt.json").exists() and any(path.iterdir()) for path in stages)

    def half_published(self) -> Iterator[str]:
        """A build that lies there and is not whole, and stages with a receipt whose files are not what it promises."""
        if self.out.exists() and verify(self.out).findings:
            yield "a build that is not whole lay in its place"
        for receipt in (self.folder / "store" / "stages").glob("*/receipt.json"):
            if StageFolder(receipt.parent).faults():
                yield f"{receipt.parent.name} has a receipt and is not whole"

    def promise(self) -> Mapping[str, str]:
        """What must be equal of two builds."""
        return promise_of(self.out)

    def elsewhere(self) -> Self:
        """The same build as another host makes it: here there is one host alone."""
        return self


@dataclass(frozen=True)
class AtAddress(OnDisk):
    """A store and a build at an address; host: the one whose cache the command works in."""

    address: str = ""
    host: str = "first"

    @property
    def arguments(self) -> list[str]:
        places = ["--out", f"{self.address}/out", "--store", f"{self.address}/store"]
        return ["build", str(self.recipe), *places, "--workers", str(self.workers), *self.more]

    def begin_anew(self) -> None:
        super().begin_anew()
        objects = Objects(address_of(self.address))
        objects.delete(one.key for one in objects.listed())

    def is_unfinished(self, verb: str) -> bool:
        if verb == "write":
            return bool(self._store.listed("sent")) or self._out.head(".orca-recipe/sending.json") is not None
        done = {one.key.removeprefix("receipts/").removesuffix(".json") for one in self._store.listed("receipts")}
        begun = {one.key.split("/")[1] for one in self._store.listed("stages")}
        return any(name.startswith(f"{verb}-") for name in begun - done)

    def half_published(self) -> Iterator[str]:
        there = {one.key: one for one in self._store.listed()}
        for key in there:
            if key.startswith("receipts/"):
                name = key.removeprefix("receipts/").removesuffix(".json")
                for part in json.loads(self._store.get(key))["parts"]:
                    yield from (f"{name}: {fault}" for fault in self._faults_of(f"stages/{name}", part, set(there)))
        if self._out.head("manifest.json") is not None:
            with self._fetched() as folder:
                if verify(folder).findings:
                    yield "a build that is not whole lay at its address"

    def promise(self) -> Mapping[str, str]:
        with self._fetched() as folder:
            return promise_of(folder)

    def left_over(self) -> list[str]:
        """What an ended build should not have left at the address of the build; caches of dead hosts are their own."""
        return [f"left over: {one.key}" for one in self._out.listed(".orca-recipe")]

    def elsewhere(self) -> Self:
        return replace(self, host="second").with_cache()

    def with_cache(self) -> Self:
        """The same, with the cache of its host in the environment."""
        environment = {**self.environment, "ORCA_CACHE": str(self.folder / "caches" / self.host)}
        return replace(self, environment=environment)

    @property
    def _store(self) -> Objects:
        return Objects(address_of(f"{self.address}/store"))

    @property
    def _out(self) -> Objects:
        return Objects(address_of(f"{self.address}/out"))

    def _faults_of(self, stage: str, part: str, there: set[str]) -> Iterator[str]:
        """What a part lacks of what its receipt promises; looked at without the code that reads stores."""
        if f"{stage}/{part}.json" not in there:
            yield f"the receipt of {part} is missing"
            return
        for file in json.loads(self._store.get(f"{stage}/{part}.json"))["files"]:
            kind, _, digest = file["digest"].rpartition(":")
            key = f"{stage}/{file['name']}.{digest[:16]}"
            if key not in there:
                yield f"{file['name']} is missing"
            elif _digest(kind, self._store.get(key)) != digest:
                yield f"{file['name']} holds other bytes"

    @contextmanager
    def _fetched(self) -> Iterator[Path]:
        """All files of the build, in a folder for a while."""
        folder = Path(tempfile.mkdtemp(prefix="fetched-"))
        try:
            for one in self._out.listed():
                if not one.key.startswith(".orca-recipe/"):
                    (folder / one.key).parent.mkdir(parents=True, exist_ok=True)
                    self._out.fetch(one.key, folder / one.key)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _digest(kind: str, data: bytes) -> str:
    return blake3(data).hexdigest() if kind == "blake3" else hashlib.blake2b(data, digest_size=32).hexdigest()


@contextmanager
def reaching(environment: Mapping[str, str]) -> Iterator[None]:
    """Have this process find what it needs to reach an object store, and put back what was set before."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
