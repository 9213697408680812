"""Data sets of the Hugging Face hub as files of this machine.

A branch is a moving name: it is looked up once, and everything after that speaks of the commit it stood for. Files lie
in the hub's own cache under that commit, so that a build without network finds what an earlier one has loaded.
"""

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, cast

from pydantic import Field

from orca_plugins.sources.files.columns import shown
from orca_recipes.contract.kinds import SourceFile
from orca_recipes.errors import SourceError

HubName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")]
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w./-]*$")]


@dataclass(frozen=True)
class Listing:
    """A data set at one commit: the names of its files, sorted, or of those that are in the cache."""

    commit: str
    names: tuple[str, ...]


class Unreachable(SourceError):
    """The hub cannot be asked; what is in the cache may still do."""


def is_commit(revision: str) -> bool:
    """Tell whether a revision is a commit, which never moves."""
    return re.fullmatch("[0-9a-f]{40}", revision) is not None


def looked_up(name: str, revision: str, *, locked: str | None) -> Listing:
    """Look up the present commit and files of a revision of a data set.

    Args:
        locked: the commit in the lock; where the hub cannot be reached, it is looked for in the cache first.
    Raises: SourceError where the hub has no such data set or revision, or cannot be reached and the cache has neither.
    """
    try:
        return _asked(name, revision)
    except Unreachable as fault:
        found = _cached(name, locked) if locked else None
        found = found or _cached(name, revision)
        if found is None:
            raise SourceError(f"{fault}; connect once, or read files of your own") from None
        return found


def away(name: str, revision: str, *, locked: str | None, wanted: Callable[[str], bool]) -> str | None:
    """Return the note that a data set must be loaded first; None where the cache has wanted files of it. Makes no
    request."""
    for one in (locked, revision):
        held = _cached(name, one) if one else None
        if held is not None and any(wanted(file) for file in held.names):
            return None
    return f"{name} is not in the hub's cache yet; `orca-recipe lock` loads it"


def fetched(name: str, commit: str, names: Sequence[str]) -> list[SourceFile]:
    """Return files of a data set at a commit, sorted by name, downloading those that are not in the cache.

    Raises: SourceError.
    """
    from huggingface_hub import snapshot_download

    held = _cached_folder(name, commit)
    # No request at all: a build on a node without a network must not wait for one to fail.
    if held is not None and all((held / one).is_file() for one in names):
        return [SourceFile(one, held / one) for one in sorted(names)]
    with said_of_hub(name, commit):
        # Names may hold brackets, which the hub's client would take for patterns.
        patterns = [glob.escape(one) for one in names]
        folder = Path(snapshot_download(name, repo_type="dataset", revision=commit, allow_patterns=patterns))
    missing = [one for one in names if not (folder / one).is_file()]
    if missing:
        raise SourceError(
            f"{name} at {commit}: {shown(missing[0])} is not in the cache, and the hub cannot be reached; connect once"
        )
    return [SourceFile(one, folder / one) for one in sorted(names)]


def chosen(listing: Listing, name: str, wanted: Callable[[str], bool], what: str) -> list[str]:
    """Choose the wanted names of a listing. Raises: SourceError where there is none."""
    names = [one for one in listing.names if wanted(one)]
    if not names:
        has = ", ".join(shown(one) for one in listing.names[:10]) or "no file"
        raise SourceError(f"{name} at {listing.commit[:12]} has no {what}; it has {has}")
    return names


def _asked(name: str, revision: str) -> Listing:
    from huggingface_hub import HfApi

    with said_of_hub(name, revision):
        info = HfApi().dataset_info(name, revision=revision)
    if info.sha is None:
        raise SourceError(
            f"the hub does not say which commit {name} at {revision} is; try again later, or check the revision"
        )
    return Listing(info.sha, sound_names(file.rfilename for file in info.siblings or ()))


def _cached(name: str, revision: str) -> Listing | None:
    folder = _cached_folder(name, revision)
    if folder is None:
        return None
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Listing(folder.name, sound_names(files))


def _cached_folder(name: str, revision: str) -> Path | None:
    """Find the folder in the hub's cache of a data set at a revision; None where there is none.

    The cache's layout is read here, because the hub's client returns no folder that it does not know to be complete.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    held = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="dataset")
    # A commit is its own folder; a branch is a file with the commit that it stood for.
    branch = held / "refs" / revision
    commit = branch.read_text(encoding="utf-8").strip() if branch.is_file() else revision
    folder = held / "snapshots" / commit
    return folder if folder.is_dir() else None


def sound_names(names: Iterator[str]) -> tuple[str, ...]:
    """Return the names that stay inside of a folder; others are no names of ours."""
    # Names come from a stranger's repository, and become paths here.
    inside = (name for name in names if not {"..", ""} & {*PurePosixPath(name).parts} and not name.startswith("/"))
    return tuple(sorted(inside))


@contextmanager
def said_of_hub(name: str, revision: str) -> Iterator[None]:
    """Turn what the hub's client raises into a sentence.

    Its errors stand among those of the HTTP library that it uses, which is another one from version to version.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    unreachable = cast(tuple[type[BaseException], ...], (*HfHubHTTPError.__bases__, OSError))
    try:
        yield
    except GatedRepoError:
        raise SourceError(f"{name} asks for consent: accept its terms on the hub and run `hf auth login`") from None
    except RevisionNotFoundError:
        raise SourceError(
            f"{name} has no revision {revision} on the hub; name a branch, tag or commit that it has"
        ) from None
    except RepositoryNotFoundError:
        raise SourceError(
            f"the hub has no data set {name}, or it is private: check the name, or run `hf auth login`"
        ) from None
    except HFValidationError as fault:
        raise SourceError(f"{name} is no name of a data set on the hub ({_first_line(fault)})") from None
    except unreachable as fault:
        raise Unreachable(
            f"{name} at {revision} cannot be had from the hub ({_first_line(fault)}), nor is it in the cache"
        ) from None


def _first_line(fault: BaseException) -> str:
    """Return the first line of an error without addresses, since those of files may carry a signature."""
    lines = str(fault).strip().splitlines()
    return shown(re.sub(r"https?://\S+", "...", lines[0])) if lines else type(fault).__name__
