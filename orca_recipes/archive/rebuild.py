"""Build what an archive holds, with nothing of this machine's but its programs, and compare the digests of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from orca_recipes.archive.archive import WHEELS
from orca_recipes.archive.environment import environment, environment_differences
from orca_recipes.archive.tar_file import unpack
from orca_recipes.archive.wheels import unpacked_wheels
from orca_recipes.errors import BuildError, OrcaError
from orca_recipes.plan.plugins import PluginPin
from orca_recipes.progress import Progress
from orca_recipes.recipe.choice import Kinds
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, made, pinned_plugins
from orca_recipes.run.work.limited import LIMITED
from orca_recipes.store.store import Store
from orca_recipes.traces.exchange import import_traces
from orca_recipes.traces.trace_store import TraceStore


@dataclass(frozen=True)
class Rebuilt:
    """digest: of the data, None where they could not be built. missing: what the archive has not.

    differences: of the environment, in sentences. why: it could not be built.
    """

    digest: str | None
    expected: str
    missing: list[dict[str, Any]]
    differences: list[str]
    why: str | None = None

    @property
    def is_equal(self) -> bool:
        return self.digest == self.expected

    def as_json(self) -> dict[str, Any]:
        told = {"digest": self.digest, "expected": self.expected, "equal": self.is_equal, "missing": self.missing}
        return told | {"differences": self.differences, "why": self.why}


def rebuild(
    archive: Path,
    out: Path,
    kinds: Kinds,
    progress: Progress,
    *,
    workers: int,
    told: Callable[[str], None],
    wheels: Path | None = None,
) -> Rebuilt:
    """Build an archive into a directory, with a store that is thrown away.

    Args:
        told: hears each difference of the environment before anything is built.
        wheels: a folder for the archive's wheels; the line of pip then installs from there.
    Raises: BuildError for an archive that is none, newer, or edited.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        manifest = _told(archive, unpack(archive, tree))
        missing = [one.model_dump(exclude_unset=True) for one in manifest.missing]
        plugins: dict[str, PluginPin] = {}
        digest, why = None, None
        asked: Asked | None = None
        try:
            loaded = load_recipe(tree / manifest.recipe, catalogue=kinds, profile=manifest.profile)
            store, traces = Store(Path(folder) / "store"), Path(folder) / "traces"
            # An archive is anybody's: what it lacks of answers is not bought with keys of this machine.
            asked = Asked(loaded, store, out, workers, traces=traces, work=LIMITED, may_buy=False)
            plugins = pinned_plugins(asked)
        except OrcaError as fault:
            why = str(fault)
        if manifest.answers is not None:
            with TraceStore(Path(folder) / "traces") as bought:
                import_traces(bought, tree / manifest.answers)
        line = None if wheels is None else unpacked_wheels(tree / WHEELS, wheels)
        found = environment_differences(manifest.environment.model_dump(), environment(plugins), line=line)
        for sentence in found:
            told(sentence)
        try:
            if asked is not None:
                digest = made(asked, progress).manifest.data_digest
        except OrcaError as fault:
            why = str(fault)
    return Rebuilt(digest, manifest.expected, missing, found, why)


class _Plugin(BaseModel):
    version: str
    digest: str


class _Environment(BaseModel):
    python: str
    packages: Mapping[str, str]
    plugins: Mapping[str, _Plugin]


class _Missing(BaseModel):
    model_config = ConfigDict(extra="allow")

    part: str


class _Told(BaseModel):
    """The manifest of an archive, apart from its files."""

    recipe: str
    profile: str | None
    expected: str
    missing: tuple[_Missing, ...]
    environment: _Environment
    answers: Literal["answers/traces.jsonl"] | None = None


def _told(archive: Path, manifest: Mapping[str, Any]) -> _Told:
    try:
        return _Told.model_validate(manifest)
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))[:200]
        raise BuildError(f"{archive}: it was edited: {where} of its manifest: {first['msg']}") from None
