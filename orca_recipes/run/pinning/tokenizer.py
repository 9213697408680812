"""Verb `tokenizer`: resolve the files of the student's tokenizer into the two that everything else reads."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from orca_recipes.contract.kinds import Tokenizer
from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.run.work.student import TOKENIZER_FILES
from orca_recipes.shards.digests import file_digest
from orca_recipes.store.sealed import flush, write_sealed
from orca_recipes.store.source_digests import Pinned, unchanged
from orca_recipes.store.stage_folder import StageFolder


@dataclass(frozen=True)
class Resolving:
    """A tokenizer whose files are resolved into a stage of the store."""

    tokenizer: Tokenizer
    pinned: tuple[Pinned, ...]
    folder: StageFolder

    @property
    def named(self) -> str:
        """Return the files, as a sentence begins with them."""
        return ", ".join(str(found.file.path) for found in self.pinned)


def resolve(task: Resolving) -> None:
    """Make stage `tokenizer` of its files. Raises: SourceError where one changes meanwhile; TokenizerError."""
    tokenizer, pinned, folder = task.tokenizer, task.pinned, task.folder
    aside = folder.path / ".making"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    with unchanged(pinned):
        tokenizer.materialize(files=[found.file for found in pinned], folder=aside)
    files = []
    for name in TOKENIZER_FILES:
        flush(aside / name)
        digest = file_digest(aside / name)
        (aside / name).replace(folder.path / name)
        files.append({"name": name, "bytes": (folder.path / name).stat().st_size, "digest": digest})
    shutil.rmtree(aside)
    write_sealed(folder.path / "made.json", {"files": files, "report": {}})
    folder.finish(["made"], {"digest": "blake2b:" + digest_of([[file["name"], file["digest"]] for file in files])})
