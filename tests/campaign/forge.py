"""Forge builds: change every field of a manifest and every column of its tables, promise it again by all digests.

Each forgery must be found by the directory alone, or be listed by `verify` as unknowable without an anchor; against the
lock or the digest each must be found, save what tells how a copy was made; against a signature all.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import OrcaError
from orca_recipes.progress import Progress
from orca_recipes.prove.anchors import Anchors, anchored
from orca_recipes.prove.prove import prove
from orca_recipes.prove.signing import sign
from orca_recipes.run.pinning.lock_file import outcomes_of
from orca_recipes.shards.checks.verify_report import Report
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.reader import Shard
from tests.campaign.trial import Trial, copied_recipe, table
from tests.prove.forging import reseal, rewrite

_RECOMPUTED = re.compile(r"(data_digest|digest|seal|format|files|made\.table_files|tables\.content_digest)(\.|$)")
"""Fields that whoever forges computes anew, or that decide how the rest is read."""

_DIGEST = re.compile(r"blake2b:[0-9a-f]{64}")

BESIDE = ("curriculum.json", "tokenizer/generation_config.json", "tokenizer/tokenizer_config.json")
_ERASING = """
[datasets.main]
mixture = "main"
student = { erase = true }

[mixtures.main]
take.reasoning = { rows = 20 }
"""
TEMPLATE = "tokenizer/chat_template.jinja"
"""What a trainer and a server read of a build, beside its manifest and tables."""

WAYS = ("alone", "lock", "digest", "signature")
"""What shows a forgery: `verify` without an anchor, with --lock, with --digest (the build's own), with --signature."""
NAMED = {
    "prompts.exchanged": "two examples' prompts exchanged",
    "records.teacher_view taken away": "teacher_view nulled although the recipe erases",
    "tokenizer/generation_config.json: eos_token_id": "eos_token_id changed",
}
"""Forgeries that once passed, in the words of who found them."""

Forgery = Callable[[Path], None]


@dataclass
class Forged:
    """What became of the forgeries so far.

    unknowable: fields that the directory alone does not prove. shown: whether each is found, by what was changed and by
    the `WAYS` to look.
    """

    tried: int = 0
    unknowable: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    shown: dict[str, dict[str, bool]] = field(default_factory=dict)

    def found(self, way: str) -> int:
        """Count the forgeries that are found in a way."""
        return sum(ways[way] for ways in self.shown.values())

    def add(self, other: Forged) -> None:
        """Take over what became of others."""
        self.tried += other.tried
        self.unknowable |= other.unknowable
        self.failed += other.failed
        self.shown |= other.shown

    def as_json(self) -> dict[str, Any]:
        """Tell each forgery, those that have a name once more by it, and the counts of each way to look."""
        return {
            "tried": self.tried,
            "found": {way: self.found(way) for way in WAYS},
            "unknowable": sorted(self.unknowable),
            "failed": self.failed,
            "forgeries": self.shown,
            "named": {said: self.shown[name] for name, said in NAMED.items() if name in self.shown},
        }


@click.command()
@click.option("--count", default=0, help="At most so many forgeries, drawn; 0: all.")
@click.option("--share", default="1/1", help="This part of them alone: 2/5 is every fifth from the second on.")
@click.option("--seed", default=1, help="Decides which, and the places of changes.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write what was tried into this file.")
def forge(count: int, share: str, seed: int, json_file: Path | None) -> None:
    """Change every field of a build and reseal it; verify must find it, or say that it cannot know."""
    # A disk of memory, where there is one: each forgery is a copy of a build, written and removed.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="campaign-", dir=place) as folder:
        trial = Trial(Path(folder) / "trial", copied_recipe("quickstart", Path(folder) / "recipe"))
        trial.begin_anew()
        trial.run().check_returncode()
        lock, part = (
            trial.recipe.with_suffix(".lock"),
            slice(int(share.split("/")[0]) - 1, None, int(share.split("/")[1])),
        )
        told = forged(trial.out, lock, Path(folder), count, random.Random(seed), part)
        if share.startswith("1/"):
            told.add(forged_erasing(Path(folder)))
    found = [told.found(way) for way in WAYS]
    click.echo(table("forgeries", ("tried", *WAYS, "failed"), [(told.tried, *found, len(told.failed))]))
    rows = [
        (NAMED.get(name, name), *map(_said, ways.values())) for name, ways in sorted(told.shown.items(), key=_place)
    ]
    click.echo(table("each by name: what shows it", ("changed", *WAYS), rows))
    for line in told.failed:
        click.echo(f"FAILED {line}")
    if json_file is not None:
        json_file.write_text(json.dumps(told.as_json()))
    sys.exit(1 if told.failed else 0)


def _place(shown: tuple[str, dict[str, bool]]) -> tuple[bool, str]:
    """Put the forgeries that have a name first."""
    return shown[0] not in NAMED, shown[0]


def _said(is_found: bool) -> str:
    return "yes" if is_found else "-"


def forged(
    build: Path, lock: Path, folder: Path, count: int, chance: random.Random, part: slice = slice(None)
) -> Forged:
    """Try forgeries on copies of a sound build.

    Args:
        lock: of the build. folder: for the copies. count: at most so many, 0 for all. part: of all of them.
    """
    known = list(forgeries(build))[part]
    chosen = known if not count else chance.sample(known, min(count, len(known)))
    return tried(chosen, build, lock, folder)


def forged_erasing(folder: Path) -> Forged:
    """Build a recipe that erases prompts, and take away what its records tell of them."""
    recipe = copied_recipe("quickstart", folder / "erasing")
    text = recipe.read_text(encoding="utf-8").partition("[[curriculum]]")[0]
    recipe.write_text(f"{text}{_ERASING}", encoding="utf-8")
    trial = Trial(folder / "erasing-trial", recipe)
    trial.begin_anew()
    trial.run().check_returncode()
    return tried([("records.teacher_view taken away", _without_views)], trial.out, recipe.with_suffix(".lock"), folder)


def tried(chosen: list[tuple[str, Forgery]], build: Path, lock: Path, folder: Path) -> Forged:
    """Try some forgeries on copies of a sound build; see `forged`."""
    told = Forged()
    key, signature = folder / "key", folder / "build.sig"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    sign(build, key=key, out=signature)
    anchors = {
        "lock": Anchors(lock=(lock, outcomes_of(lock))),
        "digest": Anchors(digest=read_manifest(build).digest),
        "signature": Anchors(signature=signature, key=key.with_suffix(".pub")),
    }
    for name, forgery in chosen:
        copy = folder / "forged"
        shutil.copytree(build, copy)
        try:
            _try(name, forgery, copy, anchors, told)
        finally:
            shutil.rmtree(copy)
    return told


def _try(name: str, forgery: Forgery, copy: Path, anchors: Mapping[str, Anchors], told: Forged) -> None:
    told.tried += 1
    try:
        forgery(copy)
    except (ValidationError, OrcaError):
        told.shown[name] = dict.fromkeys(WAYS, True)  # it is no build any more
        return
    report = prove(copy, kinds=Catalogue(), progress=Progress())
    held = {"alone": report} | {way: anchored(copy, report, each) for way, each in anchors.items()}
    told.shown[name] = {way: not one.is_sound for way, one in held.items()}
    if report.is_sound and _is_listed(name, report):
        told.unknowable.add(name)
    told.failed += [
        f"{name}: verify calls it sound ({way}), and does not list it as unknowable"
        for way, one in held.items()
        if one.is_sound and not _is_listed(name, one)
    ]


def _is_listed(name: str, report: Report) -> bool:
    return any(name == listed or name.startswith(f"{listed}.") for listed in report.unknowable)


def forgeries(build: Path) -> Iterator[tuple[str, Forgery]]:
    """Name each forgery by the field that it changes: each field of the manifest once, each column of a table once."""
    manifest = json.loads((build / "manifest.json").read_text(encoding="utf-8"))
    seen: set[str] = set()
    for path in _leaves(manifest, ()):
        name = _field(path)
        if name not in seen and not _RECOMPUTED.match(name):
            seen.add(name)
            yield name, partial(_manifest, path=path)
    for file in BESIDE:
        for place in _leaves(json.loads((build / file).read_text(encoding="utf-8")), ()):
            if (name := f"{file}: {'.'.join(str(step) for step in place if not isinstance(step, int))}") not in seen:
                seen.add(name)
                yield name, partial(_beside, file=file, path=place)
    yield f"{TEMPLATE}: text", _template
    for listed in manifest["tables"]:
        for column in pq.read_schema(build / listed["path"]).names if listed["rows"] else ():
            name = f"{Path(listed['path']).name.removesuffix('.parquet').rpartition('.')[2]}.{column}"
            if name not in seen:
                seen.add(name)
                yield name, partial(change_column, path=listed["path"], column=column)
    prefix = next(iter(manifest["datasets"].values()))["shards"][0]["prefix"]
    for what, change in (("prompts.exchanged", _exchanged_prompts), ("prompts.token", _prompt_token)):
        yield what, partial(_tokens, prefix=prefix, change=change)


def _beside(copy: Path, *, file: str, path: tuple[Any, ...]) -> None:
    """Change a value of a file of JSON beside the manifest."""
    told = json.loads((copy / file).read_text(encoding="utf-8"))
    _changed(told, path)
    (copy / file).write_text(json.dumps(told), encoding="utf-8")
    reseal(copy)


def _template(copy: Path) -> None:
    """Make the chat template say something before each answer."""
    file = copy / TEMPLATE
    file.write_text(file.read_text(encoding="utf-8") + "{# forged #}x", encoding="utf-8")
    reseal(copy)


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The paths of all values of a manifest that are no tables or lists, and of those that are empty."""
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    if not inner:
        yield path
    for key, under in inner:
        yield from _leaves(under, (*path, key))


def _field(path: tuple[Any, ...]) -> str:
    """A field's name without what counts or names rows: list indices, names of datasets, stages and tasks."""
    told = [str(step) for step in path if not isinstance(step, int)]
    if told[0] == "datasets":
        told = [step for at, step in enumerate(told) if at != 1]
        told = [step for at, step in enumerate(told) if not (at and told[at - 1] in ("collections", "tasks"))]
    return ".".join(told)


def _changed(told: Any, path: tuple[Any, ...]) -> None:
    *way, last = path
    for step in way:
        told = told[step]
    told[last] = _other(told[last])


def _other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"blake2b:{'0' * 64}" if _DIGEST.fullmatch(value) else value + "x"
    if value is None:
        return 1
    return {"forged": "x"} if isinstance(value, dict) else ["forged"]


def _manifest(copy: Path, *, path: tuple[Any, ...]) -> None:
    reseal(copy, lambda told: _changed(told, path))


def change_column(copy: Path, *, path: str, column: str) -> None:
    """Turn a column of a table around, or change its first value where all are equal."""
    held = pq.read_table(copy / path)
    values = held[column].to_pylist()
    turned = values[::-1]
    if turned == values:
        turned = [_other_value(values[0], held.schema.field(column).type), *values[1:]]
    at = held.column_names.index(column)
    kind = held.schema.field(column)
    assert turned != values, f"{path}: column {column} was not changed"
    pq.write_table(held.set_column(at, kind, pa.array(turned, kind.type)), copy / path)
    reseal(copy)


def _other_value(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_dictionary(kind):
        return _other_value(value, kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return (value or "") + "x"
    if isinstance(value, bytes) or pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return bytes(reversed(value)) if value else b"\x01" * 16
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return (value or 0) + 1
    return None


def _tokens(copy: Path, *, prefix: str, change: Callable[[np.ndarray, Shard], None]) -> None:
    rewrite(copy, prefix, lambda tokens, _, shard: change(tokens, shard))
    reseal(copy)


def _without_views(copy: Path) -> None:
    path = copy / "main" / "00000.records.parquet"
    held = pq.read_table(path)
    at, kind = held.column_names.index("teacher_view"), held.schema.field("teacher_view")
    assert held["teacher_view"].null_count < len(held), "no record tells what its teacher was asked"
    pq.write_table(held.set_column(at, kind, pa.nulls(len(held), kind.type)), path)
    reseal(copy)


def _exchanged_prompts(tokens: np.ndarray, shard: Shard) -> None:
    """Give two examples each other's prompts of one length."""
    spans: dict[int, tuple[int, int]] = {}
    segments = shard.segments
    for first in segments.example_starts[:-1].tolist():
        start, stop = segments.token_starts[first : first + 2].tolist()
        before = spans.setdefault(stop - start, (start, stop))
        if before != (start, stop) and not np.array_equal(tokens[slice(*before)], tokens[start:stop]):
            kept = tokens[start:stop].copy()
            tokens[start:stop] = tokens[slice(*before)]
            tokens[slice(*before)] = kept
            return


def _prompt_token(tokens: np.ndarray, shard: Shard) -> None:
    """Change one token in the middle of the first example's prompt."""
    start, stop = shard.segments.token_starts[:2].tolist()
    middle = (start + stop) // 2
    tokens[middle] = tokens[middle + 1]
