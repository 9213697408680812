"""Files of a data set of the Hugging Face hub, asked for as objects at an address are.

`hf://datasets/OWNER/NAME@REVISION/path`: a branch is looked up once, and all after that speaks of the commit it stood
for. A file's etag is the hub's own digest of its bytes, so that two commits that share a file share its copy.
"""

import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from orca_plugins.sources.files.columns import shown
from orca_plugins.sources.files.places.hub_sets import is_commit, said_of_hub, sound_names
from orca_recipes.contract.addresses import ObjectFacts
from orca_recipes.errors import SourceError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

SCHEME = "hf://"
# Branches that the hub makes by itself have slashes in their names; in any other a slash is written %2F.
_ADDRESS = re.compile(
    r"hf://datasets/(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)"
    r"(?:@(?P<revision>refs/convert/[\w.-]+|refs/pr/\d+|[A-Za-z0-9](?:[\w.-]|%2[Ff])*))?(?P<path>(?:/.*)?)"
)
_NO_DATE = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class HubObjects:
    """The files of a data set at a revision, which `at_commit` fixes to the commit that it stands for now."""

    name: str
    revision: str

    def __str__(self) -> str:
        return f"{SCHEME}datasets/{self.name}@{self.revision}"

    def at_commit(self) -> "HubObjects":
        """Raises: SourceError where there is no such data set or revision; Unreachable where nobody can be asked."""
        from huggingface_hub import HfApi

        if is_commit(self.revision):
            return self
        with said_of_hub(self.name, self.revision):
            commit = HfApi().dataset_info(self.name, revision=self.revision).sha
        if commit is None:
            raise SourceError(f"the hub does not say which commit {self.name} at {self.revision} is; try again later")
        return HubObjects(self.name, commit)

    def head(self, key: str, *, hasty: bool = False) -> ObjectFacts | None:
        """Return what the hub knows of a file, None where it has none of this name."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        with said_of_hub(self.name, self.revision):
            found = HfApi().get_paths_info(self.name, [key], revision=self.revision, repo_type="dataset")
        return next((_facts(one) for one in found if isinstance(one, RepoFile) and one.path == key), None)

    def listed(self, prefix: str = "") -> list[ObjectFacts]:
        """List all files below a folder, sorted by name."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import EntryNotFoundError
        from huggingface_hub.hf_api import RepoFile

        with said_of_hub(self.name, self.revision):
            try:
                tree = HfApi().list_repo_tree(
                    self.name, prefix or None, recursive=True, revision=self.revision, repo_type="dataset"
                )
                files = {one.path: one for one in tree if isinstance(one, RepoFile)}
            except EntryNotFoundError:
                return []
        return [_facts(files[name]) for name in sound_names(iter(files))]

    def fetch(self, key: str, path: Path, *, etag: str | None = None) -> ObjectFacts:
        """Download a file to a path; of a commit it is always the same one."""
        from huggingface_hub import hf_hub_download

        # Beside the path, and not in the hub's own cache: the copy is kept once.
        with tempfile.TemporaryDirectory(dir=path.parent) as aside, said_of_hub(self.name, self.revision):
            made = hf_hub_download(self.name, key, repo_type="dataset", revision=self.revision, local_dir=aside)
            Path(made).replace(path)
        return ObjectFacts(key, path.stat().st_size, etag, _NO_DATE)


def parted(text: str) -> tuple[HubObjects, tuple[str, ...]]:
    """Part an address into its data set at a revision ("main" where it names none) and the parts of its path.

    Raises: SourceError where it is no address of files of a data set.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise SourceError(f"{shown(text)}: name files of a data set: hf://datasets/OWNER/NAME@REVISION/path")
    name, revision = found["name"], unquote(found["revision"] or "main")
    parts = tuple(part for part in found["path"].split("/") if part)
    if not parts:
        at = f', hub_revision = "{shown(revision)}"' if revision != "main" else ""
        whole = f'the whole of it is read by kind = "hub", name = "{shown(name)}"{at}'
        raise SourceError(f"{shown(text)}: name a file, folder or pattern in it; {whole}")
    return HubObjects(name, revision), parts


def _facts(file: "RepoFile") -> ObjectFacts:
    return ObjectFacts(file.path, file.size, file.lfs.sha256 if file.lfs is not None else file.blob_id, _NO_DATE)
