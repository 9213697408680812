"""Kill nodes of a Ray cluster, and the command itself, within each verb of a build.

A build that loses a node must end well by itself; one whose command was killed must end well when the same command is
given again. Each time with the bytes of an undisturbed build, and nothing half-published.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from orca_recipes.shards.checks.verify import verify
from tests.campaign.ray_nodes import RayNodes
from tests.campaign.trial import Trial, copied_recipe, promise_of, table

_LOOK_SECONDS = 0.002
_NODES = 3
_BEFORE_PARTS = ("tokenizer", "template")
"""Verbs whose stages are made while pinning, before the cluster has a part."""


@dataclass(frozen=True)
class Kill:
    """What was killed while a stage of a verb was being made, and what became of the build.

    Attributes:
        was_within: whether the stage was unfinished just after the kill.
        half_published: what lay there that should not, in sentences.
        seconds: from the kill to the end of the build, of its repetition where the command was killed.
    """

    verb: str
    killed: str
    was_within: bool
    digest_equal: bool
    half_published: tuple[str, ...]
    seconds: float
    retried: int


@click.command()
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows here.")
@click.option("--recipe", default="niv2", show_default=True, help="One of recipes/.")
@click.option("--rounds", default=1, show_default=True, help="How often each is killed within each verb.")
@click.option("--verb", "only", multiple=True, help="These verbs alone.")
def cluster(file: Path | None, recipe: str, rounds: int, only: tuple[str, ...]) -> None:
    """Kill nodes and commands within each verb, and compare what is built."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        root = Path(folder)
        trial = Trial(root / "trial", copied_recipe(recipe, root / "recipe"), workers=2)
        trial.begin_anew()
        trial.run().check_returncode()
        promised, verbs = promise_of(trial.out), _verbs(trial)
        rows = []
        with RayNodes(_NODES) as nodes:
            trial = replace(trial, more=("--set", "engine.kind=ray", "--set", f"engine.address={nodes.address}"))
            for verb in [verb for verb in verbs if not only or verb in only] * rounds:
                for killed in ("node", "command"):
                    if killed == "command" or verb not in _BEFORE_PARTS:
                        rows.append(_killed_within(trial, verb, killed, nodes, promised))
                        click.echo(json.dumps(asdict(rows[-1])), err=True)
    _tell(rows)
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if any(not row.digest_equal or row.half_published for row in rows) else 0)


def _verbs(trial: Trial) -> list[str]:
    """The verbs of a recipe, in the order of the plan."""
    command = [sys.executable, "-m", "orca_recipes.cli", "plan", str(trial.recipe), "--json"]
    told = subprocess.run(
        [*command, "--store", str(trial.folder / "store")], capture_output=True, text=True, check=True
    )
    return list(dict.fromkeys(stage["name"].split(" ")[0] for stage in json.loads(told.stdout)["stages"]))


def _killed_within(trial: Trial, verb: str, killed: str, nodes: RayNodes, promised: Mapping[str, str]) -> Kill:
    trial.begin_anew()
    process = trial.begin()
    while process.poll() is None and not any(_unfinished(trial, verb)):
        time.sleep(_LOOK_SECONDS)
    began = time.monotonic()
    if killed == "node":
        nodes.kill()
    else:
        process.kill()
    was_within = any(_unfinished(trial, verb))
    told, _ = process.communicate()
    half = list(_half_published(trial))
    if killed == "node":
        nodes.add()
    again = trial.run() if killed == "command" else None
    failed = again.returncode if again is not None else process.returncode
    if failed:
        half.append(f"the build failed: {again.stderr if again is not None else told}")
    return Kill(
        verb,
        killed,
        was_within,
        not failed and promise_of(trial.out) == promised,
        (*half, *([] if failed else trial.left_over())),
        round(time.monotonic() - began, 1),
        sum(line.endswith("it runs again") for line in told.splitlines()),
    )


def _unfinished(trial: Trial, verb: str) -> Iterator[Path]:
    """Stages of a verb of which something is written and the receipt is not; of the last verb, the build itself."""
    if verb == "write":
        yield from (path for path in trial.folder.glob(".out.*") if path.is_dir() and any(path.iterdir()))
        return
    for path in (trial.folder / "store" / "stages").glob(f"{verb}-*"):
        if not (path / "receipt.json").exists() and any(path.iterdir()):
            yield path


def _half_published(trial: Trial) -> Iterator[str]:
    """A build that lies there and is not whole, and stages with a receipt whose files are not what it promises."""
    if trial.out.exists() and verify(trial.out).findings:
        yield "a build that is not whole lay in its place"
    from orca_recipes.store.stage_folder import StageFolder

    for receipt in (trial.folder / "store" / "stages").glob("*/receipt.json"):
        if StageFolder(receipt.parent).faults():
            yield f"{receipt.parent.name} has a receipt and is not whole"


def _tell(rows: Sequence[Kill]) -> None:
    lines = [
        (
            row.verb,
            row.killed,
            "yes" if row.was_within else "no",
            "yes" if row.digest_equal else "NO",
            "; ".join(row.half_published) or "nothing",
            row.retried,
            row.seconds,
        )
        for row in rows
    ]
    head = ("verb", "killed", "within", "equal", "half published", "parts again", "seconds")
    click.echo(table(f"kills within the verbs of a build on {_NODES} nodes", head, lines))
    good = sum(row.digest_equal and not row.half_published for row in rows)
    click.echo(f"in all: {len(rows)} tried, {good} survived")
