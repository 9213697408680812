"""A build directory at an address: a folder here is its copy, of what was made here or of what is looked at.

At the address files bear the names that they have in a build, so that any reader finds them; the manifest comes last,
by a write that fails where one is there. An older build's manifest goes first. One build at a time writes an address:
it holds a claim with a lease there (`leases`), below `.orca-recipe/`, which is gone when it has ended.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orca_recipes.errors import BuildError, DamagedShard, ObjectsError
from orca_recipes.json_text import json_value
from orca_recipes.objects.address import Address, is_address
from orca_recipes.objects.copies import Copy, PromisedFile, cache_of, copy_of, side_by_side
from orca_recipes.objects.objects import PART_BYTES, Objects
from orca_recipes.shards.manifest import NAME, Manifest, read_manifest
from orca_recipes.store.claims import Say
from orca_recipes.store.leases import Leases, lease_seconds

_OURS = ".orca-recipe"
# Names the files of a sending that was killed, so that the next one knows them as a build's.
_SENDING = f"{_OURS}/sending.json"
_CLAIM = "build"
_NAMED = 3
# Nearly all bytes of a build, and most commands read few of them.
_LARGE = (".bin", ".idx", ".parquet")


@dataclass(frozen=True)
class SharedBuild:
    """A build at an address; directory: its copy here."""

    directory: Path
    address: Address

    @property
    def objects(self) -> Objects:
        return Objects(self.address)

    def learn(self) -> None:
        """Have the copy be of the build that is at the address now: its manifest is fetched, the rest when it is read.

        Raises: BuildError where something else is there; BucketError, ObjectsError where it cannot be asked.
        """
        there = self._manifest_there()
        ours = self.directory / NAME
        if there is None or not ours.is_file() or ours.read_bytes() != there:
            shutil.rmtree(self.directory, ignore_errors=True)
            Copy(self.directory, self.address, {}).keep()
            if there is not None:
                self.directory.mkdir(parents=True)
                ours.write_bytes(there)
        if there is not None and not self._copy().files:
            with suppress(DamagedShard):  # whoever reads the build tells it
                self._keep(read_manifest(self.directory))

    def is_whole(self, manifest: Manifest) -> bool:
        """Tell whether all files of a manifest are at the address, by their sizes."""
        there = {one.key: one.bytes for one in self.objects.listed()}
        return all(there.get(path) == file.bytes for path, file in _files(manifest).items())

    def bring_small(self) -> None:
        """Fetch what is read of every build; shards and tables come when they are opened."""
        copy = self._copy()
        copy.bring(path for path in copy.files if not path.endswith(_LARGE))

    def bring_all(self) -> None:
        """Have all files here as they are at the address, and no others: for whoever judges or passes on the whole."""
        copy = self._copy()
        copy.bring_again(copy.files)
        for one in self.objects.listed():
            # What no manifest lists is found by whoever judges the build.
            if one.key not in (*copy.files, NAME) and not one.key.startswith(f"{_OURS}/"):
                (self.directory / one.key).parent.mkdir(parents=True, exist_ok=True)
                self.objects.fetch(one.key, self.directory / one.key)

    @contextmanager
    def claimed(self, say: Say) -> Iterator[Leases]:
        """Be the one that writes the address; gives what `send` needs. Raises: BucketError where it may not be
        written."""
        leases = Leases(Objects(self.address / _OURS), lease_seconds())
        try:
            leases.add([], say)
            with leases.claimed(_CLAIM, say, f"waiting for another build, which writes {self.address}"):
                leases.forget_dead()
                self._refuse_foreign({})
                yield leases
        finally:
            leases.drop()

    def send(self, leases: Leases, say: Say) -> None:
        """Publish the build that lies in the copy; within `claimed`, which gives the leases.

        Who slept past its lease goes on where nobody took the address over, and else waits for who did.
        Raises: BuildError where another build came there all the same; BucketError, ObjectsError.
        """
        try:
            self._send(leases)
            return
        except _Lapsed:
            leases.drop()
        with self.claimed(say) as anew:
            if self._manifest_there() == (self.directory / NAME).read_bytes():
                self.objects.delete([_SENDING])
                self._keep(read_manifest(self.directory))
                return
            try:
                self._send(anew)
            except _Lapsed:
                raise BuildError(
                    f"{self.address}: nothing was heard of this build there for longer than its lease, and another "
                    "took its place, twice; what was finished is kept: run the same command again"
                ) from None

    def _send(self, leases: Leases) -> None:
        manifest = read_manifest(self.directory)
        files = _files(manifest)
        older = self._refuse_foreign(files)
        self.objects.put(_SENDING, json.dumps(sorted({*files, *older})).encode())
        _refuse_lapsed(leases)
        # No reader may take the older manifest for that of the files that come now.
        self.objects.delete([NAME])
        side_by_side(lambda path: self._send_file(path, path in older, leases), list(files))
        for path in sorted(older - files.keys()):
            _refuse_lapsed(leases)
            self.objects.delete([path])
        _refuse_lapsed(leases)
        if not self.objects.create(NAME, (self.directory / NAME).read_bytes()):
            raise self._not_alone()
        self.objects.delete([_SENDING])
        self._keep(manifest)

    def _send_file(self, path: str, is_there: bool, leases: Leases) -> None:
        """Write a file at the address in place of an older one, and of no other's that came there meanwhile.

        One that goes up in a single request is written on condition of what was there; of a larger one the lease is
        looked at until all parts are read. A folder knows no such conditions.
        Raises: _Lapsed, BuildError where another came; BucketError, ObjectsError.
        """
        file = self.directory / path
        if file.stat().st_size > PART_BYTES or self.address.scheme == "file":
            self.objects.upload(path, file, allowed=partial(_refuse_lapsed, leases))
            return
        seen = self.objects.head(path) if is_there else None
        _refuse_lapsed(leases)
        data = file.read_bytes()
        if not (self.objects.create(path, data) if seen is None else self.objects.replace(path, data, seen)):
            _refuse_lapsed(leases)
            raise self._not_alone()

    def _not_alone(self) -> BuildError:
        return BuildError(
            f"{self.address}: another build was written there at the same time; choose another with --out"
        )

    def _manifest_there(self) -> bytes | None:
        if self.objects.head(NAME) is None:
            self._refuse_foreign({})
            return None
        return self.objects.get(NAME)

    def _refuse_foreign(self, coming: Mapping[str, PromisedFile]) -> set[str]:
        """Return the files of an older or half-sent build at the address, and what stands in the place of those to
        come; refuse any foreign file.

        Raises: BuildError where others are there, naming them.
        """
        there = {one.key for one in self.objects.listed()}
        older = _listed(self.objects, NAME, there) | _listed(self.objects, _SENDING, there)
        foreign = sorted(
            key for key in there - older - coming.keys() if key != NAME and not key.startswith(f"{_OURS}/")
        )
        if foreign:
            told = ", ".join(foreign[:_NAMED]) + (" and more" if len(foreign) > _NAMED else "")
            raise BuildError(f"{self.address} holds what no build wrote: {told}; choose another address with --out")
        return (older | coming.keys()) & there

    def _copy(self) -> Copy:
        copy = copy_of(self.directory)
        return copy if copy is not None else Copy(self.directory, self.address, {})

    def _keep(self, manifest: Manifest) -> None:
        Copy(self.directory, self.address, _files(manifest)).keep()


class _Lapsed(Exception):
    """Nothing was heard of us for a lease and another took the address over: who goes on writes into its build."""


def _refuse_lapsed(leases: Leases) -> None:
    if not leases.holds(_CLAIM):
        raise _Lapsed


def build_place(place: str | Path) -> Path:
    """Return the folder a build is made in: the folder itself, or the copy of an address.

    Raises: BucketError, ObjectsError where the address cannot be asked.
    """
    if not isinstance(place, str) or not is_address(place):
        return Path(place)
    objects = Objects.at(place)
    objects.check()
    directory = cache_of(objects.address, "builds") / (objects.address.name or objects.address.bucket)
    if copy_of(directory) is None:
        Copy(directory, objects.address, {}).keep()
    return directory


def looked_at(place: str | Path, *, whole: bool) -> Path:
    """Return the folder a build is read from: the folder itself, or the copy of an address.

    Args:
        whole: fetch all files now; else shards and tables come when they are opened.
    Raises: BuildError where there is no complete build; BucketError, ObjectsError.
    """
    directory = build_place(place)
    shared = shared_build(directory) if isinstance(place, str) and is_address(place) else None
    if shared is not None:
        shared.learn()
        if not (directory / NAME).is_file():
            raise BuildError(
                f"{shared.address} is not a complete build: it has no {NAME}; run `orca-recipe build` to the end"
            )
        if whole:
            shared.bring_all()
        else:
            shared.bring_small()
    return directory


def shared_build(directory: Path) -> SharedBuild | None:
    """Return the build at an address with this folder as its copy; None where the folder is no copy."""
    copy = copy_of(directory)
    return None if copy is None else SharedBuild(directory, copy.address)


def build_name(directory: Path) -> str:
    """Return the user's name for a build: its folder, or the address it is a copy of."""
    shared = shared_build(directory)
    return str(directory) if shared is None else str(shared.address)


def _files(manifest: Manifest) -> dict[str, PromisedFile]:
    """Map the paths of a build's files, without its manifest, to their sizes and digests."""
    return {file.path: PromisedFile(file.bytes, file.digest) for file in (*manifest.files, *manifest.made.table_files)}


def _listed(objects: Objects, key: str, there: set[str]) -> set[str]:
    """Read the paths listed in a manifest, or in a list of files being sent; none where it cannot be read."""
    if key not in there:
        return set()
    try:
        told = json_value(objects.get(key))
        if isinstance(told, list):
            return set(map(str, told))
        return {str(file["path"]) for file in (*told["files"], *told["tables"])}
    except (ObjectsError, DamagedShard, ValueError, KeyError, TypeError):
        return set()
