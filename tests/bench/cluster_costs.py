"""What parts and the driver of a build cost, measured on this machine: the numbers that `cluster_model` counts with.

Two builds run in this process, one of a quarter of the corpus and one of the whole, and every part is timed. What grows
from the one to the other is the cost of an example; what stays is the cost of beginning. CPU seconds are counted, not
those of a clock on the wall, so that a busy machine changes little.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orca_plugins.engines.local import Local
from orca_recipes.catalogue import Catalogue
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run import VERBS
from orca_recipes.run.build import Asked, build
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.store.store import Store
from tests.bench.cluster_model import Alone, PartCost
from tests.bench.corpus import Corpus
from tests.bench.measure import measure
from tests.bench.profiled import Stages
from tests.bench.recipes import Build, Student
from tests.bench.trials import COMMAND

_BEFORE, _AFTER = "pin", "publish"
"""What the driver does before the first verb and after the last."""
_HALVES = 2
"""Parts of a shard: its tokens, its records."""
_ROUNDS = 2
"""How often both builds are timed: the lowest counts, since what disturbs only adds."""
_TINY = (50_000, 250_000)
"""Examples of a few words, by which the driver's memory is told."""


@dataclass(frozen=True)
class _Timed:
    """A build: examples and their tokens, CPU seconds of parts by verb, and of all that is done by stage."""

    examples: int
    tokens: int
    parts: Mapping[str, Sequence[float]]
    cpu: Mapping[str, float]
    bytes_of: Mapping[str, float]


def measured_steps(place: Path, student: Student, small: Corpus, large: Corpus) -> list[PartCost | Alone]:
    """Build twice in this process; the costs of an example, step by step."""
    shard_tokens = Build(student, (large,)).shard_tokens
    emptied(place)
    # The first is not counted: it imports, and proves tokenizer and template, whose stages the others find.
    timed = [_timed(place, Build(student, (corpus,)), corpus) for corpus in (small, *(small, large) * _ROUNDS)]
    first, second = _lowest(timed[1::2]), _lowest(timed[2::2])
    more = second.examples - first.examples

    def grown(one: float, other: float) -> float:
        return max(0.0, other - one) / more

    examples_of_a_shard = shard_tokens * second.examples / second.tokens
    steps: list[PartCost | Alone] = []
    before = second.bytes_of[_BEFORE] / second.examples
    for verb in (_BEFORE, *VERBS, _AFTER):
        parts, parts_before = (sum(timed.parts.get(verb, ())) for timed in (second, first))
        alone = grown(first.cpu.get(verb, 0.0) - parts_before, second.cpu.get(verb, 0.0) - parts)
        # Sources are digested by the driver; files of a build come to it from nodes, and leave for where it lies.
        moved = {_BEFORE: before, _AFTER: 2 * second.bytes_of["write"] / second.examples}.get(verb, 0.0)
        if alone or moved:
            steps.append(Alone(verb, alone, moved))
        if number := len(second.parts.get(verb, ())):
            written = second.bytes_of[verb] / second.examples
            each = examples_of_a_shard / _HALVES if verb == "write" else second.examples / number
            steps.append(PartCost(verb, each, grown(parts_before, parts) * each, before * each, written * each))
            before = written
    return steps


def measured_memory(place: Path, student: Student) -> tuple[float, float]:
    """Bytes that the driver holds for each example, and for none: by two builds of examples of a few words."""
    peaks = []
    for number in _TINY:
        path = place / f"tiny-{number}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in range(number):
                said = [{"role": "user", "content": f"q {row}?"}, {"role": "assistant", "content": f"a {row}"}]
                file.write(json.dumps({"messages": said}) + "\n")
        corpus = Corpus(path, number, path.stat().st_size, path.stat().st_size, number, 0)
        recipe = Build(student, (corpus,)).write(place / f"tiny-{number}.toml")
        emptied(place)
        command = [COMMAND, "build", recipe, "--store", "store", "--out", "out", "--workers", "2", "--json"]
        told = json.loads(measure(command, folder=place).output.rpartition("\n{")[2].join(("{", "")))
        peaks.append(told["main"]["peak_bytes"])
    each = (peaks[1] - peaks[0]) / (_TINY[1] - _TINY[0])
    return each, peaks[0] - each * _TINY[0]


def emptied(place: Path) -> None:
    """Remove a store and a build."""
    for name in ("out", "store"):
        shutil.rmtree(place / name, ignore_errors=True)


def _timed(place: Path, asked: Build, corpus: Corpus) -> _Timed:
    shutil.rmtree(place / "out", ignore_errors=True)
    for path in (place / "store" / "stages").glob("*"):
        if not path.name.startswith(("tokenizer-", "template-")):
            shutil.rmtree(path)
    recipe = asked.write(place / "timed.toml")
    loaded = load_recipe(recipe, catalogue=Catalogue(), profile=None, overrides=())
    stages = Stages()
    with _timing() as parts:
        build(Asked(loaded, Store(place / "store"), place / "out", workers=1), stages)
    stages.turn("")
    cpu: dict[str, float] = defaultdict(float)
    for name, seconds in stages.cpu.items():
        cpu[_verb_of(name)] += seconds
    manifest = read_manifest(place / "out")
    (dataset,) = manifest.datasets.values()
    sizes = {verb: _bytes_of(place, verb) for verb in VERBS} | {_BEFORE: float(corpus.file_bytes)}
    return _Timed(dataset.examples, dataset.tokens, dict(parts), dict(cpu), sizes)


def _lowest(timed: Sequence[_Timed]) -> _Timed:
    """The same build, timed several times: of each part and each stage the lowest."""
    parts = {
        verb: [min(times) for times in zip(*(one.parts[verb] for one in timed), strict=True)] for verb in timed[0].parts
    }
    alone = {
        stage: min(one.cpu[stage] - sum(one.parts.get(stage, ())) for one in timed) + sum(parts.get(stage, ()))
        for stage in timed[0].cpu
    }
    return replace(timed[0], parts=parts, cpu=alone)


def _verb_of(stage: str) -> str:
    """The verb of what `Stages` names: a stage, what follows one, what comes before and after all."""
    words = stage.removeprefix("after ").split(" ")
    return words[0] if words[0] in VERBS else {"pin and compile": _BEFORE}.get(stage, _AFTER)


@contextmanager
def _timing() -> Iterator[dict[str, list[float]]]:
    """Time the parts of builds in this process, by verb: CPU seconds of all of its threads."""
    found: dict[str, list[float]] = defaultdict(list)
    original = Local.map

    def timed(self: Local, *, function: Any, tasks: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
        for position, task in enumerate(tasks):
            began = time.process_time()
            result = function(task)
            found[function.__module__.rpartition(".")[2]].append(time.process_time() - began)
            yield position, result

    Local.map = timed  # type: ignore[method-assign,assignment]
    try:
        yield found
    finally:
        Local.map = original  # type: ignore[method-assign]


def _bytes_of(folder: Path, verb: str) -> float:
    """What the stages of a verb take in the store; shards, in the build."""
    places = (folder / "store" / "stages").glob(f"{verb}-*") if verb != "write" else [folder / "out"]
    return float(sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file()))
