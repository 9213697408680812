"""The command that takes a build out of the house: export."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orca_recipes.cli.options import BUILD, JSON, DiskPath, print_json, print_text
from orca_recipes.contract.spelling import printable, quoted
from orca_recipes.counted import counted
from orca_recipes.errors import ExportError, PluginError
from orca_recipes.store.disk_faults import writing

if TYPE_CHECKING:
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.contract.exporter import Exporter


def _completed(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Give a shell the kinds that begin so."""
    from orca_recipes.catalogue import Catalogue

    return sorted({offer.name for offer in Catalogue().offers("orca_exporters") if offer.name.startswith(begun)})


@click.command()
@BUILD
@click.option(
    "--to",
    metavar="NAME",
    shell_complete=_completed,
    required=True,
    help="Which trainer: a kind of `orca-recipe kinds`, such as hf.",
)
@click.option("--out", type=DiskPath(path_type=Path), help="A new or empty folder.  [default: export/BUILD.NAME]")
@click.option("--dataset", "datasets", multiple=True, metavar="NAME", help="This dataset alone; may be repeated.")
@click.option("--set", "options", multiple=True, metavar="OPTION=VALUE", help="An option of the exporter: packed=true.")
@JSON
def export(
    directory: Path, to: str, out: Path | None, datasets: tuple[str, ...], options: tuple[str, ...], as_json: bool
) -> None:
    """Write a build in the form that another trainer reads.

    \b
    orca-recipe export build/NAME --to hf        TRL, Unsloth, datasets
    orca-recipe export build/NAME --to bridge    Megatron-Bridge and NeMo
    orca-recipe kinds                            all exporters, with their trainers
    orca-recipe kinds hf                         what an exporter takes with --set

    Each trained token becomes a label there, or is counted as lost, with the reason. README.md of the export says how
    to set the trainer. A damaged build is refused before its first row.
    """
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.export.export import export as exported
    from orca_recipes.progress import progress_for

    catalogue = Catalogue()
    exporter = _chosen(catalogue, to, options)
    place = out or Path("export")
    with progress_for() as progress, writing(place, f"the export {place}", "choose another place with --out"):
        told = exported(directory, exporter, out=out, datasets=datasets, kinds=catalogue, progress=progress)
    if as_json:
        print_json(told.as_json())
        return
    lines = [f"lost: {number:,} trained labels: {reason}" for reason, number in told.lost_labels.items()]
    print_text("\n".join([*lines, _summary(told.directory, told.examples, told.tokens, told.trained_labels)]))


def _summary(directory: Path, examples: int, tokens: int, labels: int) -> str:
    sizes = f"{counted(examples, 'example')}, {counted(tokens, 'token')}, {labels:,} trained"
    return f"{directory}: {sizes}; how to set the trainer: {directory / 'README.md'}"


def _read_by(catalogue: Catalogue, trainer: str) -> str:
    """List the exporters that name a trainer in the first line of their docstring ("trl": hf, messages, rl)."""
    words = re.compile(rf"\b{re.escape(trainer)}\b", re.IGNORECASE)
    kinds = {offer.name: catalogue.kind(offer.hook, offer.name) for offer in catalogue.offers("orca_exporters")}
    return ", ".join(name for name, kind in kinds.items() if words.search((kind.__doc__ or "").partition("\n")[0]))


def _chosen(catalogue: Catalogue, name: str, options: tuple[str, ...]) -> Exporter:
    """Make the exporter with its options from `--set`. Raises: PluginError, ExportError."""
    from pydantic import ValidationError

    from orca_recipes.recipe.complaint import complaints
    from orca_recipes.recipe.profile_layers import UnfitOverride, parse_override

    offers = catalogue.offers("orca_exporters")
    if ":" not in name and name not in {offer.name for offer in offers} and (written := _read_by(catalogue, name)):
        raise PluginError(f"there is no exporter {quoted(name)}; what {printable(name)} reads is written by {written}")
    kind = catalogue.kind("orca_exporters", name)
    bare = name.rpartition(":")[2]
    table: dict[str, Any] = {}
    for assignment in options:
        try:
            keys, value = parse_override(assignment)
        except UnfitOverride as fault:
            raise ExportError(f"--set {assignment}: {fault}") from fault
        inner = table
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = value
    try:
        # As JSON: kinds are strict, and pydantic then takes a list for a tuple from JSON alone.
        return kind.model_validate_json(json.dumps({**table, "kind": bare}), context={"base": Path.cwd()})  # type: ignore[return-value]
    except ValidationError as fault:
        said = complaints(fault, model=kind, table=table, owner=f'exporter "{bare}"')
        lines = [f"--set {'.'.join(map(str, path))}: {sentence}" for path, sentence in said]
        raise ExportError("\n".join(lines)) from fault
