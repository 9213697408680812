"""Addresses of objects and of what lies below a prefix: `s3://bucket/path`, and its kin.

An address names a place and nothing else. Keys, users and passwords never stand in one: they would be written into
locks, records and messages. They come from where the client library looks for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from orca_recipes.errors import BucketError

SCHEMES = ("s3", "gs", "az", "file", "https", "http")
_BUCKETS = ("s3", "gs", "az")


@dataclass(frozen=True, order=True)
class Address:
    """A place: scheme, bucket (Azure: container; of a web server: host and port; of a folder: none), path inside it."""

    scheme: str
    bucket: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.path}".removesuffix("/")

    def __truediv__(self, name: str) -> Address:
        return replace(self, path=f"{self.path}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> Address:
        """Return the place without the last part of its path."""
        return replace(self, path=self.path.rpartition("/")[0])


def is_address(text: str) -> bool:
    """Tell whether a text is meant as an address, and not as a path: it begins with a scheme and two slashes.

    One of our schemes with one slash is meant so too: no folder `s3:` is made of a slip.
    """
    scheme, _, rest = text.partition(":")
    return (scheme.isalnum() and rest.startswith("//")) or (scheme.lower() in SCHEMES and rest.startswith("/"))


def address_of(text: str) -> Address:
    """Read an address. Raises: BucketError, without what may be secret in it."""
    scheme, _, rest = text.partition(":")
    scheme = scheme.lower()
    if scheme not in SCHEMES:
        raise BucketError(
            f"{scheme}://: no such kind of address; use one of {', '.join(f'{one}://' for one in SCHEMES)}"
        )
    if not rest.startswith("//"):
        raise BucketError(f"{scheme}:/: an address begins with two slashes; write {scheme}://NAME/PATH")
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        _ = parts.port if scheme.startswith("http") else None
    except ValueError:
        raise BucketError(f"{scheme}://: what stands behind it is no address; write {scheme}://NAME/PATH") from None
    if "@" in parts.netloc:
        raise BucketError(
            f"{scheme}://{host}: an address may hold no user and no password; "
            "leave them out and set the credentials in the environment"
        )
    # A password with a slash in it hides the sign behind it, and stands in what looks like bucket and path.
    if ":" in host and scheme in _BUCKETS:
        raise BucketError(
            f"{scheme}://: no bucket's name holds a colon; where a user and a password stand there, leave them out and "
            "set the credentials in the environment"
        )
    # Of an object's name these may be part; in addresses that people copy they begin what signs a request.
    if parts.query or parts.fragment:
        raise BucketError(f"{scheme}://{host}: an address may hold no ? and no #; leave out what stands behind it")
    if scheme == "file" and host:
        raise BucketError(f"file://{host}: a folder begins with a third slash; write file:///{host}{parts.path}")
    if scheme != "file" and not host:
        what = "bucket" if scheme in _BUCKETS else "host"
        raise BucketError(f"{scheme}://: the address names no {what}; write {scheme}://{what.upper()}/PATH")
    path = parts.path.strip("/")
    if any(part in ("", ".", "..") for part in path.split("/")) and path:
        raise BucketError(
            f"{scheme}://{host}{parts.path}: an address may hold no empty part, no . and no ..; leave it out"
        )
    return Address(scheme, host, path)
