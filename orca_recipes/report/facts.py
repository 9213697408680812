"""The data of a report's page, before it is rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orca_recipes.report.lost_rows import Lost
from orca_recipes.report.row_samples import Sample
from orca_recipes.report.tallies import DatasetTallies
from orca_recipes.shards.curriculum import Curriculum
from orca_recipes.shards.manifest import Manifest


@dataclass(frozen=True)
class Proof:
    """Extent of the verification done for the report.

    whole: every byte; otherwise the digests of the files that the page was told from.
    """

    whole: bool
    checked: Mapping[str, int]
    not_checked: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """All that the page tells.

    lost: dataset to what it lost. views_untold: why the teacher's view is not shown, None where it is. against: what
    differs from another build, as the page tells it; None where it is held against none.
    """

    manifest: Manifest
    proof: Proof
    curriculum: Curriculum
    tallies: Mapping[str, DatasetTallies]
    lost: Mapping[str, Sequence[Lost]]
    samples: Sequence[Sample]
    views_untold: str | None
    against: Mapping[str, Any] | None = None
