"""Random models of every family that the trainer computes, and of ten that it refuses, with transformers as the oracle.

    python -m tests.campaign families --json F

Each model is made and saved by transformers, imported, computed on packed rows at tensor parallel 1 and 2 and with
sequence parallel, exported and imported again. Logits are held against those of each example alone.
"""

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tests.campaign.trial import table

if TYPE_CHECKING:
    from tests.train.agreement import Measured

MODELS = 30
_CLOSE = 1e-4
_AT_ONCE = 8


@click.command()
@click.option("--seed", type=int, default=100, show_default=True, help="of the first model of each family")
@click.option("--json", "json_to", type=click.Path(path_type=Path), help="write the verdicts here")
def families(seed: int, json_to: Path | None) -> None:
    """Hold random models of all families against transformers."""
    # Imported here: torch and transformers are heavy, and other campaigns need neither.
    warnings.simplefilter("ignore")
    import torch

    from tests.train.agreement import measured
    from tests.train.random_models import FAMILIES, REFUSED, save_random, save_refused
    from tests.train.ranks import forked

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        place, started = Path(made), [0]
        kinds, folders = {}, {}
        for number in range(MODELS):
            family, own_seed = list(FAMILIES)[number % len(FAMILIES)], seed + number // len(FAMILIES)
            kinds[f"{family}-{own_seed}"] = family
            folders[f"{family}-{own_seed}"] = save_random(place / f"{family}-{own_seed}", family, own_seed)
        for family in REFUSED:
            kinds[f"{family}, refused"] = family
            folders[f"{family}, refused"] = save_refused(place / f"{family}-refused", family, seed)

        def fork(ranks: int, body: Callable[[str], Any]) -> list[Any]:
            started[0] += 1
            return forked(ranks, body, f"file://{place}/meeting-{started[0]}")

        found = {}
        for first in range(0, len(folders), _AT_ONCE):
            some = dict(list(folders.items())[first : first + _AT_ONCE])
            found |= measured(some, place / f"work-{first}", fork)
            click.echo(f"{len(found)} of {len(folders)} models", err=True)
    verdicts = [_verdict(kinds[name], found[name]) for name in folders]
    lines = [tuple(verdict.values()) for verdict in verdicts]
    click.echo(table("models", ("family", "accepted", "max_difference", "round_trip", "sentence"), lines))
    if json_to is not None:
        json_to.write_text(json.dumps(verdicts, indent=1) + "\n", encoding="utf-8")
    accepted = [verdict for verdict in verdicts if verdict["accepted"]]
    far = [verdict for verdict in accepted if not (verdict["max_difference"] < _CLOSE and verdict["round_trip"])]
    click.echo(f"{len(accepted)} accepted, {len(verdicts) - len(accepted)} refused, {len(far)} wrong")
    if far or len(accepted) != MODELS:
        raise SystemExit(1)


def _verdict(family: str, found: "Measured") -> dict[str, Any]:
    is_accepted = found.sentence is None
    return {
        "family": family,
        "accepted": is_accepted,
        "max_difference": found.max_difference,
        "round_trip": not found.changed if is_accepted else None,
        "sentence": found.sentence,
    }
