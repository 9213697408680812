"""The object that says what an address is, so that nothing of somebody else's is written among."""

from __future__ import annotations

from collections.abc import Collection

from orca_recipes.errors import NoStore
from orca_recipes.objects.objects import Objects

_NAMED = 3


def mark_address(
    objects: Objects, *, marker: str, content: bytes, prefixes: Collection[str], what: str, options: str
) -> None:
    """Mark an empty address as ours; do nothing where it is marked.

    Args:
        prefixes: what a host may have written before the marker. what: the noun of what it is to be. options: how
            another address is said.
    Raises: BucketError, ObjectsError where the address cannot be used; NoStore where it holds something else.
    """
    objects.check()
    if objects.head(marker) is not None:
        return
    foreign = [one.key for one in objects.listed() if one.key.partition("/")[0] not in prefixes]
    # Whoever marks it between the two looks makes it ours.
    if foreign and objects.head(marker) is None:
        told = ", ".join(foreign[:_NAMED]) + (" and more" if len(foreign) > _NAMED else "")
        raise NoStore(
            f"{objects.address} is no {what} and is not empty: it holds {told}; "
            f"choose another address with {options}: one where nothing is yet"
        )
    objects.create(marker, content)
