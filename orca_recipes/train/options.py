"""The options of `train`, for `orca-recipe train` and for `python -m orca_recipes.train` alike.

Every setting of `[training]` is an option of the same name, made from the one place that says what it means.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click

from orca_recipes.shards.training import Training
from orca_recipes.train.training_settings import Request


def train_options() -> list[click.Parameter]:
    """Create all options and the argument BUILD; none has a default that would override a build's settings."""
    return [
        click.Argument(["build"], metavar="BUILD", type=click.Path(path_type=Path)),
        click.Option(
            ["--out"], metavar="RUN", type=click.Path(path_type=Path), help="The run's folder.  [default: runs/BUILD]"
        ),
        click.Option(
            ["--model"],
            metavar="MODEL",
            help="tiny, small or 1b; a config.json; a Hugging Face folder; a checkpoint.  [default: the build's]",
        ),
        click.Option(
            ["--tensor-parallel"],
            metavar="N",
            type=_AT_LEAST_1,
            help="Ranks that share each layer of a copy of the model.  [default: 1]",
        ),
        click.Option(
            ["--pipeline-parallel"],
            metavar="N",
            type=_AT_LEAST_1,
            help="Stages that a copy of the model is cut into, by layers.  [default: 1]",
        ),
        click.Option(
            ["--data-parallel"],
            metavar="N",
            type=_AT_LEAST_1,
            help="Copies of the model, each trained on other rows.  [default: as many as the GPUs allow; 1 on a CPU]",
        ),
        click.Option(["--sequence-parallel"], is_flag=True, help="Ranks that share a copy share its activations too."),
        click.Option(
            ["--device"],
            type=click.Choice(["cpu", "cuda"]),
            help="Where to train.  [default: cuda where there is a GPU]",
        ),
        click.Option(
            ["--steps"],
            metavar="N",
            type=_AT_LEAST_1,
            help="Stop after this many steps, counted over the whole run.  [default: the curriculum's]",
        ),
        click.Option(
            ["--phase", "first_phase"],
            metavar="N",
            type=_AT_LEAST_1,
            help="Begin with this phase, counted from 1.  [default: 1]",
        ),
        click.Option(["--verify"], is_flag=True, help="Check the digest of every file first, not only of the indexes."),
        *_training_options(),
    ]


def request_of(options: dict[str, Any]) -> Request:
    """Turn options parsed by click into a request."""
    training = {name: options.pop(name) for name in Training.model_fields if name in options}
    given = {name: value for name, value in options.items() if value is not None}
    return Request(**given, training={name: value for name, value in training.items() if value is not None})


def words_of(request: Request) -> list[str]:
    """Return the command line of a request, for the ranks started with it."""
    words = [str(request.build), "--out", str(request.run), "--tensor-parallel", str(request.tensor_parallel)]
    words += ["--pipeline-parallel", str(request.pipeline_parallel), "--phase", str(request.first_phase)]
    for name in ("model", "data_parallel", "device", "steps"):
        value = getattr(request, name)
        words += [_flag(name), str(value)] if value is not None else []
    words += [_flag(name) for name in ("sequence_parallel", "verify") if getattr(request, name)]
    for name, value in request.training.items():
        words += [_flag(name if value else f"no_{name}")] if isinstance(value, bool) else [_flag(name), str(value)]
    return words


_AT_LEAST_1 = click.IntRange(min=1)
# The one setting that is text names a dataset.
_METAVARS = {int: "N", float: "X", str: "DATASET"}


def _training_options() -> Iterator[click.Option]:
    for name, field in Training.model_fields.items():
        told = f"{field.description}.  [default: {_default(field.default)}]"
        flag = _flag(name)
        if field.annotation is bool:
            yield click.Option([f"{flag}/{_flag(f'no_{name}')}"], default=None, help=_sentence(told))
        else:
            kind = _click_type(field.annotation)
            yield click.Option([flag], type=kind, metavar=_METAVARS.get(kind), help=_sentence(told))


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _click_type(annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return next(kind for kind in get_args(annotation) if kind is not type(None))
    return annotation


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
