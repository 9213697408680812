"""Addresses of files that lie elsewhere, parsed and checked without a request to their server."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orca_plugins.sources.files.places.formats import is_archive
from orca_plugins.sources.files.places.hub_objects import SCHEME, HubObjects, parted
from orca_recipes.contract.addresses import Address, Objects, address_of
from orca_recipes.errors import SourceError

_MAGIC = re.compile(r"[*?\[]")
# A query may be a signature, which must reach neither lock nor messages.
_QUERY = re.compile(r"\?[^/]*=|#")
_WEB = ("http", "https")


@dataclass(frozen=True)
class AddressedPlace:
    """An address parsed.

    root: a bucket, a server, or a data set of the hub. top: the folders of copies that stand for the root. asked: the
    parts of the path below it. plain: those up to the first pattern. pattern: those from there on, of objects.
    """

    text: str
    root: Address | HubObjects
    top: tuple[str, ...]
    asked: tuple[str, ...]
    plain: tuple[str, ...]
    pattern: tuple[str, ...]

    @property
    def objects(self) -> Objects | HubObjects:
        return self.root if isinstance(self.root, HubObjects) else Objects.at(str(self.root))

    @property
    def is_web(self) -> bool:
        """Tell whether its server lists no files."""
        return isinstance(self.root, Address) and self.root.scheme in _WEB

    @property
    def what(self) -> str:
        """Call one of its objects what people call it."""
        return "file of the data set" if isinstance(self.root, HubObjects) else "object"

    @property
    def commit(self) -> str | None:
        """Return the revision of a data set, None of anything else."""
        return self.root.revision if isinstance(self.root, HubObjects) else None

    @property
    def source(self) -> str:
        """Name where its objects lie, whatever their commit."""
        return f"{SCHEME}{self.root.name}" if isinstance(self.root, HubObjects) else str(self.root)

    def named(self, key: str) -> str:
        """Name one of its objects for people."""
        return f"{self.root}/{key}" if isinstance(self.root, HubObjects) else str(self.root / key)

    def settled(self, commit: str | None) -> "AddressedPlace":
        """Return the place with the branch of a data set fixed to a commit, by default the one that it stands for now.

        Raises: SourceError; Unreachable where the hub cannot be asked.
        """
        if not isinstance(self.root, HubObjects):
            return self
        return replace(self, root=HubObjects(self.root.name, commit) if commit else self.root.at_commit())


def place_at(text: str) -> AddressedPlace:
    """Parse and check an address. Raises: BucketError or SourceError, without what may be a secret."""
    scheme, _, rest = text.partition("://")
    if text.startswith(SCHEME):
        hub, asked = parted(text)
        first = _count_plain(asked)
        above = tuple(part for part in rest.split("/") if part)[: -len(asked)]
        return AddressedPlace(text, hub, ("hf:", *above), asked, asked[:first], _pattern(asked, first))
    bucket, *parts = rest.split("/")
    if _QUERY.search(text):
        address_of(text)  # says so, without what may be a signature
        raise SourceError(f"{scheme}://: an address may hold no ? with an = behind it, and no #")
    first = _count_plain(parts)
    address = address_of(f"{scheme}://{'/'.join([bucket, *parts[:first]])}")
    plain = tuple(part for part in address.path.split("/") if part)
    pattern = _pattern(parts, first)
    if pattern and scheme in _WEB:
        raise SourceError(f"{text}: a web server lists no files; name one file, without a pattern")
    root = Address(address.scheme, address.bucket, "")
    asked = tuple(part for part in parts if part)
    return AddressedPlace(text, root, (f"{address.scheme}:", address.bucket), asked, plain, pattern)


def _count_plain(parts: Sequence[str]) -> int:
    """Count the parts of a path before the first pattern, up to an archive, which is one object."""
    first = next((at for at, part in enumerate(parts) if _MAGIC.search(part) or is_archive(part)), len(parts))
    return first + (first < len(parts) and not _MAGIC.search(parts[first]))


def _pattern(parts: Sequence[str], first: int) -> tuple[str, ...]:
    """Return the pattern of objects behind the plain parts; what follows an archive are its members."""
    return () if first and is_archive(parts[first - 1]) else tuple(parts[first:])
