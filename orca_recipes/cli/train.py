"""The commands of the trainer: `train` and `sample`. torch is imported when one of them runs, and not before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from orca_recipes.cli.options import JSON, BuildPath, need_the_trainer, print_json, print_text, stdout_as_stderr


class _Train(click.Command):
    """`train`, whose options are read from the trainer's own settings when it is called or asked for help."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from orca_recipes.train.options import train_options

        found = train_options()
        # A build at an address is read from its copy here, file by file as ranks open them.
        next(option for option in found if option.name == "build").type = BuildPath(whole=False)
        return [*found, *super().get_params(ctx)]


@click.command(cls=_Train)
@click.option(
    "--dry-run", is_flag=True, help="Train nothing; say what would be done: parameters, memory, steps, tokens, time."
)
@JSON
def train(dry_run: bool, as_json: bool, **options: Any) -> None:
    """Train a model on a build: its curriculum, phase by phase.

    BUILD is a folder that orca-recipe build made. An option that is left out is taken from the build's [model] and
    [training], and where they do not say, from the default shown.

    Starts one process for each rank on this machine. The same command again goes on where a training was interrupted.
    RUN gets checkpoints, settings.json, log.jsonl and TensorBoard's scalars. On a cluster,
    torchrun -m orca_recipes.train BUILD takes the same options.
    """
    need_the_trainer()
    from orca_recipes.train.options import request_of
    from orca_recipes.train.outcome import outcome_json
    from orca_recipes.train.plan import plan_json, plan_text
    from orca_recipes.train.processes.launch import launch
    from orca_recipes.train.processes.rank import prepare
    from orca_recipes.train.processes.spread import ranks_here

    request = request_of(options)
    if dry_run:
        prepared = prepare(request, ranks_here(request))
        parts = (prepared.settings, prepared.start, prepared.layout)
        if as_json:
            print_json(plan_json(*parts))
        else:
            print_text(plan_text(*parts))
        return
    if not as_json:
        sys.exit(launch(request))
    with stdout_as_stderr():
        status = launch(request)
    print_json(outcome_json(request.run, status=status))
    sys.exit(status)


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("question")
@click.option("--system", metavar="TEXT", help="The system message.  [default: none]")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="X",
    help="0 answers with the likeliest token each time; above, answers are drawn.  [default: 0]",
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    metavar="X",
    help="Draw only from the likeliest tokens that together have this probability.  [default: 1, all]",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, metavar="N", help="Decides what is drawn."
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    metavar="N",
    help="Where an answer without an end is cut.",
)
@JSON
def sample(checkpoint: Path, question: str, system: str | None, as_json: bool, **manner: Any) -> None:
    """Ask a checkpoint a question and print its answer: greedy, or drawn with --temperature.

    CHECKPOINT is a run's folder, for its newest checkpoint, or one of RUN/checkpoints/step-...
    """
    need_the_trainer()
    from orca_recipes.train.sample import Manner, checkpoint_at, sample

    answer = sample(checkpoint, question, system=system, manner=Manner(**manner))
    if as_json:
        print_json({"checkpoint": str(checkpoint_at(checkpoint)), "question": question, "answer": answer})
    else:
        print_text(answer)
