"""Files at addresses (`s3://bucket/path` and its kin): copied onto this machine once, then read as any others.

What is copied is known by its address and etag, so that a copy is never another object than the one that was seen. A
path keeps only one slash of an address; it is one where it leads to nothing here and one of its parts is a scheme.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from orca_plugins.sources.files.places.addresses import AddressedPlace, place_at
from orca_plugins.sources.files.places.dataset_folders import NOTES
from orca_plugins.sources.files.places.formats import format_of, is_archive, said_formats
from orca_plugins.sources.files.places.hub_sets import Unreachable
from orca_plugins.sources.files.places.kept_copies import copies_of, kept
from orca_recipes.contract.addresses import ObjectFacts
from orca_recipes.errors import ObjectsError, SourceError

_SCHEME = re.compile(r"(s3|gs|az|hf|https?):")
_ETAG = "etag of "
_ETAGS = "etags.json"
"""In a folder of copies: the key of each object and its etag."""
COMMIT = "revision"
"""The pin of the commit of a data set of the hub."""
_COMMIT_KEY = ""
"""Stands among the keys of objects, none of which is empty, for the commit that they are of."""
_TELL_ALL_BELOW = ("README.md", "dataset_dict.json", "state.json")
"""Beside these, a folder may say itself which files below it hold its rows."""

Etags = Mapping[str, str]


def address_in(path: Path) -> str | None:
    """Return the address that a path spells, None for an ordinary path."""
    if ":" not in str(path):
        return None  # of thousands of collections, nearly all
    base = Path(path.anchor)
    parts = path.parts[1:] if path.anchor else path.parts
    for place, part in enumerate(parts):
        if _SCHEME.fullmatch(part) and not os.path.lexists(base / part):
            return f"{part}//{'/'.join(parts[place + 1 :])}"
        base = base / part
    return None


def require_address(path: Path) -> None:
    """Refuse an address that is none or holds a secret. Raises: BucketError or SourceError, without the secret."""
    text = address_in(path)
    if text is not None:
        place_at(text)


def away(path: Path, *, versions: Mapping[str, str]) -> str | None:
    """Return the note that an address is not copied onto this machine yet; None where it is, or the path is no
    address."""
    text = address_in(path)
    if text is None or _locked(place_at(text), versions) is not None:
        return None
    return f"{text} is not copied onto this machine yet"


def copied(path: Path, *, versions: Mapping[str, str], insist: bool, all_below: bool = False) -> Path:
    """Copy the objects of an address onto this machine and return their path; a path that is no address is returned as
    it is.

    Args:
        versions: etags of the objects in the lock (`etags_of`). insist: refuse objects that changed since the lock.
        all_below: for a folder, also copy what lies in the folders below it.
    Raises: BucketError, ObjectsError, SourceError.
    """
    text = address_in(path)
    if text is None:
        return path
    place = place_at(text)
    before = _locked(place, versions)
    if insist and before is not None:
        return before
    try:
        place = place.settled(versions.get(COMMIT) if insist else None)
        found = _found(place, all_below=all_below)
    except (ObjectsError, Unreachable) as fault:
        if before is None and isinstance(fault, Unreachable):
            raise SourceError(f"{fault}; connect once, or read files of your own") from None
        if before is None:
            raise
        return before
    if insist and (old := _etags_in(versions)):
        _require_same(place, old, found)
    return _copies(place, found)


def etags_of(path: Path) -> dict[str, str]:
    """Read the etags of the objects behind a path of copies, and the commit of a data set, for the lock; empty for any
    other path."""
    folder = copies_of(path)
    told = folder / _ETAGS if folder is not None else None
    if told is None or not told.is_file():
        return {}
    etags = json.loads(told.read_text(encoding="utf-8")).items()
    return {f"{_ETAG}{key}" if key != _COMMIT_KEY else COMMIT: etag for key, etag in etags}


def _found(place: AddressedPlace, *, all_below: bool) -> list[ObjectFacts]:
    """List the objects that an address asks for, sorted by key."""
    objects, key = place.objects, "/".join(place.plain)
    if not place.pattern and (facts := objects.head(key, hasty=True) if key else None) is not None:
        return [facts]
    if place.is_web:
        raise SourceError(f"{place.text}: there is no such file")
    what = place.what
    if place.pattern:
        upto = next((at + 1 for at, part in enumerate(place.pattern) if is_archive(part)), len(place.pattern))
        listed = [facts for facts in objects.listed(key) if _matches(_below(facts, place), place.pattern[:upto])]
        if not listed:
            raise SourceError(f"{place.text}: no {what} matches this pattern")
        return listed
    below = objects.listed(key)
    if not below:
        raise SourceError(f"{place.text}: there is no such {what}, and none below it")
    names = {facts.key: _below(facts, place) for facts in below}
    all_below = all_below or any(name in {(note,) for note in _TELL_ALL_BELOW} for name in names.values())
    taken = [facts for facts in below if (all_below or len(names[facts.key]) == 1) and _is_read(facts.key)]
    if not any(format_of(facts.key) for facts in taken):
        raise SourceError(f"{place.text}: no {what} of a known format below it ({said_formats()})")
    return taken


def _below(facts: ObjectFacts, place: AddressedPlace) -> tuple[str, ...]:
    return tuple(facts.key.split("/"))[len(place.plain) :]


def _is_read(key: str) -> bool:
    name = key.rpartition("/")[2]
    return format_of(name) is not None or name in (*NOTES, *_TELL_ALL_BELOW, ".gitattributes")


def _matches(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Tell whether names match a pattern part by part, as files in folders do."""
    if not pattern or not names:
        return not pattern and not names
    if pattern[0] == "**":
        return any(_matches(names[at:], pattern[1:] or ("*",)) for at in range(len(names)))
    is_hidden = names[0].startswith(".") and not pattern[0].startswith(".")
    return not is_hidden and fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


def _copies(place: AddressedPlace, found: Sequence[ObjectFacts]) -> Path:
    """Fetch the objects that are not here yet and return the address's path among the copies."""
    etags = {facts.key: _etag(facts) for facts in found}
    if place.commit is not None:
        etags[_COMMIT_KEY] = place.commit

    def make(making: Path) -> None:
        for facts in found:
            key = ("remote", place.source, facts.key, _etag(facts))
            one = kept(key, partial(_fetch, place, facts))
            copy = making.joinpath(*place.top, *facts.key.split("/"))
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                # Linked, so that several sets of objects share one copy on disk.
                os.link(one / "copy", copy)
            except OSError:  # file systems without links
                shutil.copy2(one / "copy", copy)
        (making / _ETAGS).write_text(json.dumps(etags), encoding="utf-8")

    return kept(_set_key(place, etags), make).joinpath(*place.top, *place.asked)


def _fetch(place: AddressedPlace, facts: ObjectFacts, folder: Path) -> None:
    # A weak etag says that another text may be as good, so servers compare it with nothing.
    asked = None if facts.etag is None or facts.etag.startswith("W/") else facts.etag
    got = place.objects.fetch(facts.key, folder / "copy", etag=asked)
    if _etag(got) != _etag(facts):
        raise ObjectsError(f"{place.named(facts.key)}: it changed while it was read; run the same command again")


def _locked(place: AddressedPlace, versions: Mapping[str, str]) -> Path | None:
    """Return the address's path among the copies pinned by the lock; None where they are not on this machine."""
    etags = _etags_in(versions)
    if not etags:
        return None
    try:
        return kept(_set_key(place, etags), _refuse).joinpath(*place.top, *place.asked)
    except FileNotFoundError:
        return None


def _refuse(making: Path) -> None:
    raise FileNotFoundError(making)


def _set_key(place: AddressedPlace, etags: Etags) -> tuple[str, ...]:
    return ("remote", place.text, *(text for pair in sorted(etags.items()) for text in pair))


def _etags_in(versions: Mapping[str, str]) -> dict[str, str]:
    found = {name.removeprefix(_ETAG): etag for name, etag in versions.items() if name.startswith(_ETAG)}
    return found | ({_COMMIT_KEY: versions[COMMIT]} if found and COMMIT in versions else {})


def _require_same(place: AddressedPlace, old: Etags, found: Sequence[ObjectFacts]) -> None:
    """Refuse objects that are others than the lock holds."""
    new = {facts.key: _etag(facts) for facts in found}
    for key in sorted({*old, *new} - {_COMMIT_KEY}):
        if old.get(key) != new.get(key):
            what = "is new" if key not in old else "is gone" if key not in new else "is another object"
            after = "leave out --locked to take what is there now"
            raise SourceError(f"{place.named(key)}: it {what} since the lock was written; {after}")


def _etag(facts: ObjectFacts) -> str:
    """Return an object's etag; its size and time where the server gives none."""
    return facts.etag or f"{facts.bytes} bytes of {facts.modified.isoformat()}"
