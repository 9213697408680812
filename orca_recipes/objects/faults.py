"""Faults of object stores in our own sentences, as the library's words hold whole requests.

The library tells a fault as text (obstore 0.12.1): a request, an HTTP status, and what the server said. Of that only
the status and the server's code are told on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from orca_recipes.errors import BucketError, ObjectsError, OrcaError
from orca_recipes.objects.address import Address

ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""The variables that name another server than the provider's own, the first that is set counts."""

_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where the machine has a role",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run where the machine has a service account",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or another of Azure's credentials",
}
_AGAIN = "what was finished is kept: run the same command again"

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|specified (bucket|container) does not exist", re.IGNORECASE)
# The library asks a cloud's metadata service last, when it has found no credentials.
_NO_CREDENTIALS = re.compile(
    r"169\.254\.(169\.254|170\.2)|/latest/(api/token|meta-data)|metadata\.google|/metadata/identity|token request|"
    r"MissingAccount|MissingCredentials"
)
_REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AuthenticationFailed")
_ELSEWHERE = ("301", "307")


@contextmanager
def told_plainly(address: Address, verb: str) -> Iterator[None]:
    """Turn what the library raises for one request into one of our faults.

    A missing object stays FileNotFoundError, an object that is there `AlreadyExistsError`, and one that is another by
    now `PreconditionError`: what those mean, the caller knows.

    Args:
        verb: what was tried: read, listed, written, removed.
    Raises: BucketError, ObjectsError.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError, PreconditionError

    try:
        yield
    except (AlreadyExistsError, PreconditionError):
        raise
    except FileNotFoundError as fault:
        if _NO_BUCKET.search(str(fault)):
            raise _no_bucket(address) from None
        raise
    except NotSupportedError:
        raise BucketError(f"{address}: such an address cannot be {verb}; choose another, as s3://BUCKET/PATH") from None
    except (BaseError, ValueError) as fault:
        raise told(address, verb, str(fault)) from None


def told(address: Address, verb: str, words: str) -> OrcaError:
    """Make a fault with one sentence from the library's words about a request."""
    status, code = _STATUS.search(words), _CODE.search(words)
    what = " ".join(found[1] for found in (status, code) if found)
    if _NO_BUCKET.search(words):
        return _no_bucket(address)
    if _NO_CREDENTIALS.search(words):
        way_on = _CREDENTIALS.get(address.scheme, "set them in the environment")
        return BucketError(f"{address}: no credentials were found for it; {way_on}")
    if code and code[1] in _REFUSED:
        return BucketError(f"{address}: its credentials are refused ({what}); set others in the environment")
    if status and status[1] in ("401", "403"):
        return BucketError(
            f"{address} may not be {verb} with these credentials ({what}); have it allowed, or set others"
        )
    if status and status[1] in _ELSEWHERE:
        return BucketError(f"{address}: its bucket is elsewhere ({what}); set AWS_REGION to the bucket's region")
    if "kind: Connect" in words or "tcp connect error" in words or "dns error" in words:
        return ObjectsError(f"{address}: nothing answers{_at(address)}; see that the server runs and is named rightly")
    if address.scheme == "file":
        why = re.search(r"message: \"([^\"]+)\"|kind: (PermissionDenied|ReadOnlyFilesystem|StorageFull)", words)
        reason = (why[1] or why[2]) if why else "the system refuses"
        return ObjectsError(f"{address} cannot be {verb} ({reason}); mend this and run the same command again")
    if status:
        return ObjectsError(f"{address} cannot be {verb}: the server answers {what}; {_AGAIN}")
    return ObjectsError(f"{address} cannot be {verb}: the connection breaks{_at(address)}; {_AGAIN}")


def endpoint(scheme: str) -> str | None:
    """Return the server that the environment names for a scheme; None: the provider's own."""
    return next((found for name in ENDPOINTS.get(scheme, ()) if (found := os.environ.get(name))), None)


def _at(address: Address) -> str:
    named = endpoint(address.scheme)
    # A user and a password in an endpoint are nobody's business here.
    return f" at {re.sub(r'//[^/@]*@', '//', named)}" if named else ""


def _no_bucket(address: Address) -> BucketError:
    what = "container" if address.scheme == "az" else "bucket"
    return BucketError(f"{address}: there is no {what} {address.bucket}; make it first, or name another")
