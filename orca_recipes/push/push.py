"""Pushing to a hub through `huggingface_hub`: all files are uploaded first, and one commit then names them.

Who looks at the repository meanwhile sees the old state or the new one, never half of a build. A file that the hub has
by its digest is not sent again, so that the same command goes on where an upload broke off; nothing of that is kept on
this machine (`upload_large_folder` would write its memory into the build, commit in pieces, and is gone from
huggingface_hub 2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from orca_recipes import trust
from orca_recipes.contract.destination import Destination
from orca_recipes.counted import counted
from orca_recipes.errors import PushError, TrustError, UserError
from orca_recipes.progress import Progress
from orca_recipes.push.earlier import left_of_earlier
from orca_recipes.push.uploads import uploads_of

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

VARIABLE = "HF_TOKEN"
"""Stands for the hub's token in the list of what may be sent where, wherever the hub's library has it from."""

_GROUP_FILES = 100
_GROUP_BYTES = 1 << 28
"""What is uploaded between two reports of progress: where it breaks off, little more than that is sent again."""


@dataclass(frozen=True)
class Pushed:
    """Files of a push and the repository they go to.

    removed: files of an earlier push that this one has not, taken away by the same commit. commit: None until a commit
    was made.
    """

    repo: str
    endpoint: str
    private: bool
    uploads: Mapping[str, int]
    removed: tuple[str, ...] = ()
    commit: str | None = None

    @property
    def bytes(self) -> int:
        return sum(self.uploads.values())

    def as_json(self) -> dict[str, Any]:
        files = [{"path": path, "bytes": size} for path, size in self.uploads.items()]
        return {
            "repo": self.repo,
            "endpoint": self.endpoint,
            "private": self.private,
            "uploads": files,
            "removed": list(self.removed),
            "commit": self.commit,
        }


def push(
    directory: Path,
    repo: str,
    *,
    endpoint: str | None,
    public: bool,
    dry_run: bool,
    progress: Progress,
    told: Callable[[Pushed], None],
) -> Pushed:
    """Upload a build or an export to a dataset repository, creating the repository if it does not exist.

    Args:
        endpoint: of the hub; that of the hub's library where none is named.
        public: whether a repository may be seen by all; without it one that is public already is refused.
        dry_run: whether all but the sending is done.
        told: hears what will be uploaded, before anything is sent.
    Raises: BuildError, DamagedShard; TrustError where the token may not go there; UserError where there is none, or the
        hub takes the name or the token for wrong; PushError where the upload broke off.
    """
    from huggingface_hub import constants, get_token

    endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
    with uploads_of(directory, progress) as uploads, _said_of(repo, endpoint):
        place = _destination(repo, endpoint)
        planned = Pushed(repo, endpoint, not public, uploads)
        told(planned)
        if dry_run:
            return planned
        token = get_token()
        if token is None:
            raise UserError(
                f"push: the hub's library has no token for {endpoint}; run `hf auth login`, or set {VARIABLE}"
            )
        _refuse_strange(place)
        return _sent(directory, planned, token, progress)


def _destination(repo: str, endpoint: str) -> Destination:
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    validate_repo_id(repo)
    try:
        return Destination.of_url(endpoint, VARIABLE)
    except ValueError as fault:
        raise UserError(f"--endpoint {endpoint}: {fault}") from fault


def _refuse_strange(place: Destination) -> None:
    if trust.not_allowed([place]):
        raise TrustError(
            f"push: your token would go to {place.host}, which you have never allowed; nothing was sent. If you want "
            f"that: orca-recipe trust add {place.host} {place.variable}"
        )


def _sent(directory: Path, planned: Pushed, token: str, progress: Progress) -> Pushed:
    from huggingface_hub import CommitOperation, CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    # Our own progress is shown; the library's bars would mix with it.
    disable_progress_bars()
    api = HfApi(endpoint=planned.endpoint, token=token)
    # The hub completes a bare name with the user's.
    repo = api.create_repo(planned.repo, repo_type="dataset", private=planned.private, exist_ok=True).repo_id
    is_private = bool(api.dataset_info(repo).private)
    if planned.private and not is_private:
        raise UserError(f"push: {repo} is there already, and public; say --public, or choose another name")
    additions = [CommitOperationAdd(path, str(directory / path)) for path in planned.uploads]
    progress.begin("push", total=planned.bytes, unit="B")
    with _spoken_to_as_it_can(api, repo, token):
        for group in _groups(additions):
            api.preupload_lfs_files(repo, group, repo_type="dataset")
            progress.advance(sum(addition.upload_info.size for addition in group))
        removed = tuple(left_of_earlier(api, repo, planned.uploads))
        changes: list[CommitOperation] = [*additions, *(CommitOperationDelete(path) for path in removed)]
        message = f"Push {directory.resolve().name}"
        commit = api.create_commit(repo, changes, commit_message=message, repo_type="dataset").oid
    progress.end(counted(len(additions), "file"))
    _check_all_there(api, repo, commit, planned.uploads)
    return replace(planned, repo=repo, private=is_private, removed=removed, commit=commit)


def _groups(additions: list[CommitOperationAdd]) -> Iterator[list[CommitOperationAdd]]:
    """Yield the uploads in groups of at most _GROUP_FILES files and _GROUP_BYTES bytes; a larger file is a group
    alone."""
    group: list[CommitOperationAdd] = []
    held = 0
    for addition in additions:
        if group and (len(group) == _GROUP_FILES or held + addition.upload_info.size > _GROUP_BYTES):
            yield group
            group, held = [], 0
        group.append(addition)
        held += addition.upload_info.size
    yield group


@contextmanager
def _spoken_to_as_it_can(api: HfApi, repo: str, token: str) -> Iterator[None]:
    """Have large files sent by Git LFS where a hub knows no Xet.

    huggingface_hub 2 sends by Xet wherever hf_xet is installed, and fails at hubs that have no such storage.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session  # type: ignore[attr-defined]

    address = f"{api.endpoint}/api/datasets/{repo}/xet-write-token/main"
    has_xet = get_session().get(address, headers=build_hf_headers(token=token)).status_code == 200
    was = constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_DISABLE_XET = was or not has_xet
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = was


def _check_all_there(api: HfApi, repo: str, commit: str, uploads: Mapping[str, int]) -> None:
    """Refuse a commit that lacks an uploaded file: the repository's `.gitignore` drops files without an error."""
    info = api.dataset_info(repo, revision=commit)
    held = {file.rfilename for file in info.siblings or ()}
    missing = next((path for path in uploads if path not in held), None)
    if missing is not None:
        raise PushError(f"push: {repo} did not take {missing}; look at its .gitignore, and push again")


@contextmanager
def _said_of(repo: str, endpoint: str) -> Iterator[None]:
    """Turn what the hub's client raises into a sentence."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # Errors of the connection stand among those of the HTTP library, which is another one from version to version;
    # those of a thread that uploads come as a RuntimeError around them.
    broken = cast(tuple[type[BaseException], ...], (*HfHubHTTPError.__bases__, RuntimeError, ValueError))
    try:
        yield
    except HFValidationError as fault:
        raise UserError(f"push: {repo} is no name of a repository ({_first_line(fault)})") from None
    except broken as fault:
        cause = fault.__cause__ if isinstance(fault, RuntimeError) and fault.__cause__ else fault
        status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
        if status in (401, 403):
            raise UserError(
                f"push: {endpoint} does not let your token write to {repo}; check the name, and `hf auth whoami`"
            ) from fault
        raise PushError(
            f"push: {endpoint} did not take all of it ({_first_line(cause)}); what it has stays there: run the same "
            "command again to go on"
        ) from fault


def _first_line(fault: BaseException) -> str:
    """Return the first line of an error with its addresses cut out: addresses of uploads carry a signature."""
    lines = re.sub(r"https?://\S+", "...", str(fault)).strip().splitlines()
    return lines[0] if lines else type(fault).__name__
