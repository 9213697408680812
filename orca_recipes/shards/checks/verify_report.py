"""Findings and scope of a verification: each finding names file, row and example, and says what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from orca_recipes.errors import OrcaError
from orca_recipes.shards.files import cut_to_read
from orca_recipes.shards.show.visible import visible

DATA_UNKNOWABLE = (
    "prompts",
    "records.file",
    "records.id",
    "records.kept_question_digest",
    "records.line",
    "records.question_digest",
    "records.strategy",
    "records.system_message",
    "records.teacher",
    "records.teacher_view",
    "records.turn",
)
"""What a directory alone cannot prove of its data: a prompt that is another's, or that no sample encodes again, and
columns of records whose values all could be."""

UNKNOWABLE = (
    "datasets.echoes",
    "datasets.normalized",
    "datasets.prompts_checked",
    "datasets.stages.name",
    "datasets.stages.unused_columns",
    "datasets.unknown",
    "lock_digest",
    "made.answers",
    "made.engine",
    "made.set",
    "made.timings",
    "made.versions",
    "plan.fingerprint",
    "plan.kind",
    *DATA_UNKNOWABLE,
    "recipe",
    "set",
)
"""Fields of manifest and records that a directory alone cannot prove, where all of it was written anew to agree: what
was kept apart from it can (`prove.anchors`)."""


@dataclass(frozen=True)
class Finding:
    """One fault of a build.

    file: relative to the build directory. sentence: cut to what can be read. row: of the shard. example: its id.
    """

    file: str
    sentence: str
    row: int | None = None
    example: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentence", cut_to_read(self.sentence))

    def __str__(self) -> str:
        row = "" if self.row is None else f" row {self.row}:"
        example = "" if self.example is None else f" example {self.example}:"
        return visible(f"{self.file}:{row}{example} {self.sentence}")


def finding_of(error: OrcaError, directory: Path, *files: str) -> Finding:
    """Turn an error about one of these files into a finding, with the file relative to the build directory.

    Args:
        files: relative to `directory`; where the fault names none of them, it is told of the first.
    """
    for file in files:
        sentence = str(error).removeprefix(f"{directory / file}: ")
        if sentence != str(error):
            return Finding(file, sentence)
    return Finding(files[0], str(error))


class Watcher(Protocol):
    """Is told how far a long check is; total is in `unit` ("B", "tokens")."""

    def begin(self, stage: str, *, total: int, unit: str) -> None: ...

    def advance(self, amount: int) -> None: ...

    def end(self, summary: str) -> None: ...


class Nobody:
    """A watcher who does not care."""

    def begin(self, stage: str, *, total: int, unit: str) -> None: ...

    def advance(self, amount: int) -> None: ...

    def end(self, summary: str) -> None: ...


@dataclass(frozen=True)
class Report:
    """All findings of one verification, how many things of each kind were checked, and in words what was not.

    data_digest: what the manifest says that the build holds; None where there is no readable manifest.
    unknowable: fields of the manifest that nothing at hand proves.
    """

    findings: tuple[Finding, ...]
    checked: Mapping[str, int]
    not_checked: tuple[str, ...] = ()
    data_digest: str | None = None
    unknowable: tuple[str, ...] = UNKNOWABLE

    @property
    def is_sound(self) -> bool:
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        return {
            "sound": self.is_sound,
            "findings": [asdict(finding) for finding in self.findings],
            "checked": dict(self.checked),
            "not_checked": list(self.not_checked),
            "data_digest": self.data_digest,
            "unknowable": list(self.unknowable),
        }
