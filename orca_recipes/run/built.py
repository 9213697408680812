"""A finished build and its run's engine, stages and costs, as shown by `build --json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orca_recipes.run.closing_table import shares_json
from orca_recipes.run.work.usage import main_process
from orca_recipes.shards.manifest import Manifest, StageCounts
from orca_recipes.shards.records import COUNTED, DUPLICATE, NOT_DRAWN
from orca_recipes.store.shared_build import build_name

_PASSED_OVER = frozenset({DUPLICATE, *COUNTED}) - {NOT_DRAWN}
"""The reasons of rows that a mixture leaves out for what they hold."""


@dataclass(frozen=True)
class Ran:
    """Kind of the engine that ran parts, the number of nodes and of parts, and how many parts ran again."""

    kind: str
    nodes: int = 0
    parts: int = 0
    retried: int = 0


@dataclass(frozen=True)
class Built:
    """A build.

    Attributes:
        fresh: whether there was anything to do.
        ran: what ran its parts; a build that stood already had none.
        made: fingerprint of each stage that was worked on, to the rows of it that the store held already.
        maybe_billed_twice: sendings to teachers that nothing came back of, before an answer came, as far as nobody was
            told of them before.
    """

    directory: Path
    manifest: Manifest
    fresh: bool
    ran: Ran
    made: Mapping[str, int] = field(default_factory=dict)
    maybe_billed_twice: int = 0

    def stages(self) -> Iterator[StageCounts]:
        """Yield the row counts of each stage once, even if several datasets lead through it."""
        seen: set[str] = set()
        for counts in self.manifest.datasets.values():
            for stage in counts.stages:
                if stage.name not in seen:
                    seen.add(stage.name)
                    yield stage

    def reused(self, stage: StageCounts) -> int:
        """Count the rows of a stage's output taken from the store."""
        fingerprints = {found.name: found.fingerprint for found in self.manifest.plan}
        return min(self.made.get(fingerprints.get(stage.name, ""), stage.out), stage.out)

    def passed_over(self) -> dict[str, dict[str, int]]:
        """Count the rows that do not belong to a mixture, by collection and reason; rows merely not drawn are left
        out."""
        found: dict[str, dict[str, int]] = {}
        for stage in self.stages():
            verb, _, subject = stage.name.partition(" ")
            if verb not in ("read", "mix"):
                continue
            collection = subject.partition("/")[2] if verb == "mix" else subject
            told = {reason: number for reason, number in stage.rejected.items() if reason in _PASSED_OVER}
            for reason, number in (told | dict(stage.passed_over)).items():
                counts = found.setdefault(collection, {})
                counts[reason] = counts.get(reason, 0) + number
        return found

    def answers(self) -> dict[str, int]:
        """Count stored and asked answers; a build that stood already asked for none."""
        told = self.manifest.made.answers.values()
        asked = sum(counts.asked for counts in told) if self.fresh else 0
        every = sum(counts.stored + counts.asked for counts in told)
        return {"stored": every - asked, "asked": asked, "maybe_billed_twice": self.maybe_billed_twice}

    def _held(self, what: str) -> dict[str, int]:
        """Sum, over all datasets, the examples and answers that hold a certain text."""
        found = [held for counts in self.manifest.datasets.values() if (held := getattr(counts, what)) is not None]
        return {"examples": sum(held.examples for held in found), "answers": sum(held.answers for held in found)}

    def as_json(self) -> dict[str, Any]:
        manifest = self.manifest
        return {
            "digest": manifest.data_digest,
            "fresh": self.fresh,
            "directory": build_name(self.directory),
            "datasets": {
                name: {
                    "rows": counts.rows,
                    "examples": counts.examples,
                    "tokens": counts.tokens,
                    "trained_tokens": counts.trained_tokens,
                    "fill": float(counts.fill),
                }
                for name, counts in manifest.datasets.items()
            },
            "stages": {
                stage.name: {
                    "in": stage.taken,
                    "created": dict(stage.created),
                    "out": stage.out,
                    "rejected": dict(stage.rejected),
                    "reused": self.reused(stage),
                    **({"untrained": dict(stage.untrained)} if stage.untrained else {}),
                    **({} if stage.expansion is None else {"expansion": stage.expansion.model_dump()}),
                }
                for stage in self.stages()
            },
            "passed_over": self.passed_over(),
            "collections": shares_json(manifest),
            "unknown": self._held("unknown"),
            "normalized": self._held("normalized"),
            "prompts_checked": sum(counts.prompts_checked for counts in manifest.datasets.values()),
            "answers": self.answers(),
            "engine": asdict(self.ran),
            "main": main_process(),
        }
