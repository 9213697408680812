"""The commands that take a model out of Hugging Face's form and put it back: import-hf and export-hf."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orca_recipes.cli.options import JSON, need_the_trainer, peak_bytes, print_json, print_text
from orca_recipes.store.disk_faults import writing

if TYPE_CHECKING:
    from orca_recipes.train.model.architecture import Architecture


@click.command("import-hf")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--build",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Give the model the tokens that this build added, as the mean of its own, and the build's tokenizer.",
)
@JSON
def import_hf(model: Path, run: Path, build: Path | None, as_json: bool) -> None:
    """Make a checkpoint of a Hugging Face model, of any family that the trainer computes.

    MODEL is a folder with config.json and safetensors; the checkpoint is RUN/step-00000000, in the model's own
    precision, and can be read at any parallel layout.
    """
    need_the_trainer()
    from orca_recipes.train.hf import conversion
    from orca_recipes.train.hf.model_folder import read_config

    with writing(run, f"the run {run}", "name another folder"):
        checkpoint, architecture = conversion.import_hf(model, run, build=build, say=partial(print_text, err=True))
    if as_json:
        told = {"checkpoint": str(checkpoint), "model_type": read_config(model).get("model_type")}
        print_json({**told, **_numbers(architecture), "peak_bytes": peak_bytes()})
        return
    print_text(
        f"{checkpoint}: imported, {architecture.parameters:,} parameters in {architecture.precision}, "
        f"{architecture.vocabulary_size:,} tokens"
    )


@click.command("export-hf")
@click.argument("checkpoint", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@JSON
def export_hf(checkpoint: Path, folder: Path, as_json: bool) -> None:
    """Make a Hugging Face model of a checkpoint: safetensors, tokenizer, chat template, generation settings.

    CHECKPOINT is a run's folder, for its newest checkpoint, or one of RUN/checkpoints/step-...; FOLDER is made.
    Generation ends where answers end in training, and config.json tells the manifest that the model was trained on.
    """
    need_the_trainer()
    from orca_recipes.train.hf import conversion
    from orca_recipes.train.sample import checkpoint_at

    place = checkpoint_at(checkpoint)
    with writing(folder.parent, f"the model {folder}", "name another folder"):
        architecture = conversion.export_hf(place, folder)
    if as_json:
        told = {"folder": str(folder), "checkpoint": str(place), "model_type": architecture.family}
        print_json({**told, **_numbers(architecture), "peak_bytes": peak_bytes()})
        return
    print_text(f"{folder}: exported, {architecture.parameters:,} parameters in {architecture.precision}")


def _numbers(architecture: Architecture) -> dict[str, Any]:
    return {
        "parameters": architecture.parameters,
        "precision": architecture.precision,
        "vocabulary_size": architecture.vocabulary_size,
    }
