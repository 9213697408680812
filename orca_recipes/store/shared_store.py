"""The store at an address, which several hosts share; a folder here is its cache.

What is finished is said by receipts at the address; locks of this machine keep the cache in order, and leases at the
address keep hosts from making one stage twice (`leases`). Neither decides what is right: parts do, by their digests.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orca_recipes.errors import ObjectsError, StoreError
from orca_recipes.json_text import json_value
from orca_recipes.objects.address import address_of, is_address
from orca_recipes.objects.copies import cache_of, copy_of
from orca_recipes.objects.marker import mark_address
from orca_recipes.objects.objects import Objects
from orca_recipes.plan.stages import Stage
from orca_recipes.store.claims import Say, patiently, quiet
from orca_recipes.store.leases import Leases, lease_seconds
from orca_recipes.store.shared_stage import Remote, SharedStage, address_of_root, mark_cache, remote_of
from orca_recipes.store.stage_folder import StageFolder
from orca_recipes.store.store import Store
from orca_recipes.store.store_marker import MARKER, STAGE, marker_text, open_store

SENT = "sent"
"""Below it at the address: files of builds on their way from nodes to whoever builds."""
_PREFIXES = ("receipts", "stages", "claims", "running", "builds", SENT)


def store_at(root: Path) -> Store:
    """Open the store of a folder: of its own, or the cache of an address. Raises: as `Store`."""
    remote = remote_of(root)
    return Store(root) if remote is None else SharedStore(root, remote)


def is_store(root: Path) -> bool:
    """Tell whether a folder is a store, of its own or the cache of an address."""
    return (root / "stages").is_dir() or remote_of(root) is not None


def store_name(root: Path) -> str:
    """Return the user's name for a store: its folder, or the address it is a cache of."""
    return address_of_root(root) or str(root)


def store_place(place: str | Path) -> Path:
    """Return the folder a store is worked on in: the folder itself, or this machine's cache of an address.

    Raises: as `shared_root`.
    """
    return shared_root(place) if isinstance(place, str) and is_address(place) else Path(place)


def shared_root(url: str) -> Path:
    """Return this machine's cache of the store at an address; an empty address is made a store.

    Raises: BucketError, ObjectsError where the address cannot be used; NoStore where it holds something else.
    """
    objects = Objects.at(url)
    content = marker_text().encode()
    mark_address(
        objects, marker=MARKER, content=content, prefixes=_PREFIXES, what="store", options="--store or ORCA_STORE"
    )
    root = cache_of(objects.address, "stores")
    open_store(root)
    mark_cache(root, objects.address)
    return root


class SharedStore(Store):
    """The store at an address."""

    def __init__(self, root: Path, remote: Remote) -> None:
        """Raises: as `Store`; StoreError where ORCA_LEASE_SECONDS is no length of time."""
        super().__init__(root)
        self._remote = remote
        self._leases = Leases(remote.objects, lease_seconds())

    @property
    def name(self) -> str:
        return str(self._remote.objects.address)

    def _by_label(self) -> Mapping[str, Sequence[str]]:
        return self._labelled(sorted(self._remote.published()))

    def hold(self, folders: Iterable[StageFolder], say: Say = quiet) -> None:
        names = {folder.path.name for folder in folders}
        super().hold([StageFolder(self.root / "stages" / name) for name in sorted(names)], say)
        # Another host may have finished stages, or removed them, since this one looked.
        if self._leases.add(names, say):
            self._remote.refresh()

    def release(self) -> None:
        super().release()
        self._leases.drop()

    @contextmanager
    def working_on(self, stage: Stage, say: Say = quiet) -> Iterator[StageFolder]:
        """Hold a stage as `Store` does, against other hosts too: it is claimed unless it is finished."""
        with super().working_on(stage, say) as folder:
            shared = SharedStage(self._remote, folder.path)
            if shared.is_published:
                yield folder
                return
            # The lock of this machine is taken first: two builds here must not stand in each other's lease.
            waiting = f"waiting for another build, which makes {stage.name}"
            with self._leases.claimed(folder.path.name, say, waiting):
                shared.pull()
                yield folder

    def remove(self, stages: Iterable[Stage], say: Say = quiet) -> bool:
        names = {self.folder(stage).path.name for stage in stages}
        # Behind the door no other host claims: between the look and the removal nobody can begin to need a stage.
        with self._leases.door(say):
            if names & self._leases.of_others() or not super().remove(stages, say):
                return False
            for name in sorted(names):
                self._remove_shared(name)
        return True

    def remember_build(self, directory: Path, record: Mapping[str, Any]) -> None:
        told = {"directory": _place_of(directory), "host": platform.node(), **record}
        self._remote.objects.put(_record_key(directory), json.dumps(told, indent=1, sort_keys=True).encode())

    def last_build(self, directory: Path) -> Mapping[str, Any] | None:
        try:
            found = json_value(self._remote.objects.get(_record_key(directory)))
        except (ObjectsError, ValueError):
            return None
        return found if isinstance(found, dict) and "stages" in found else None

    def clean(self, *, keep_nothing: bool = False, say: Say = quiet) -> tuple[int, int]:
        """Remove stages that no living build uses, at the address and from the cache: (stages, bytes) removed there.

        A build lives while its process runs on any host, or its directory holds a manifest: one in a folder of another
        host cannot be looked at from here and counts as living.
        """
        self.release()
        removed = freed = 0
        with self._leases.door(say):
            living = self._leases.of_others() | self._living_builds(forget=keep_nothing)
            sizes: dict[str, int] = dict.fromkeys(self._remote.published(), 0)
            for one in self._remote.objects.listed("stages"):
                name = one.key.split("/")[1]
                sizes[name] = sizes.get(name, 0) + one.bytes
            for name in sorted(sizes):
                # What is not named as we name stages was put there by somebody else, and is left alone.
                if self._leases.has_lapsed:
                    raise StoreError(
                        f"{self.name}: nothing was heard of this cleaning there for longer than its lease, and builds "
                        "may need what is left by now; run the same command again"
                    )
                if name not in living and STAGE.fullmatch(name):
                    self._remove_shared(name)
                    removed, freed = removed + 1, freed + sizes[name]
            freed += self._remove_sent()
            self._clean_cache(living, say)
        self.release()
        return removed, freed

    def _remove_sent(self) -> int:
        """Remove objects sent by nodes to builds that ended before they took them, once no build runs; return their
        bytes."""
        if self._leases.has_others():
            return 0
        left = self._remote.objects.listed(SENT)
        self._remote.objects.delete(one.key for one in left)
        return sum(one.bytes for one in left)

    def _clean_cache(self, living: set[str], say: Say) -> None:
        with self._claims.door(say):
            needed = living | self._claims.of_others()
            for folder in sorted((self.root / "stages").iterdir()):
                if folder.name not in needed and STAGE.fullmatch(folder.name) and folder.is_dir():
                    with patiently(self._lock_of(folder), say, f"waiting for another build, which makes {folder.name}"):
                        shutil.rmtree(folder)
                        self._lock_of(folder).unlink(missing_ok=True)

    def _remove_shared(self, name: str) -> None:
        """Remove a stage at the address: its receipt first, so that half of it is never taken for the whole."""
        SharedStage(self._remote, self.root / "stages" / name).reopen()
        objects = self._remote.objects
        objects.delete([*(one.key for one in objects.listed(f"stages/{name}")), f"claims/{name}.json"])

    def _living_builds(self, *, forget: bool) -> set[str]:
        found: set[str] = set()
        for one in self._remote.objects.listed("builds"):
            try:
                record = json_value(self._remote.objects.get(one.key))
                folders, lives = set(record["folders"]), _lives(str(record["directory"]), str(record["host"]))
            except (ObjectsError, ValueError, KeyError, TypeError):
                # A record that cannot be read names nothing that could be kept, and goes with the next cleaning.
                folders, lives = set(), False
            if lives and not forget:
                found |= folders
            else:
                self._remote.objects.delete([one.key])
        return found


def _place_of(directory: Path) -> str:
    copy = copy_of(directory)
    return str(directory.resolve()) if copy is None else str(copy.address)


def _record_key(directory: Path) -> str:
    """Return the key of a build's record: for a folder it includes the host, for an address all hosts share it."""
    place = _place_of(directory)
    where = place if is_address(place) else f"{platform.node()} {place}"
    # Folders of one name lie at many places and on many hosts.
    key = hashlib.blake2b(where.encode(), digest_size=8).hexdigest()
    return f"builds/{directory.name}-{key}.json"


def _lives(place: str, host: str) -> bool:
    """Tell whether a build still exists; one in another host's folder cannot be seen and counts as existing."""
    if is_address(place):
        return Objects(address_of(place)).head("manifest.json") is not None
    return host != platform.node() or (Path(place) / "manifest.json").is_file()
