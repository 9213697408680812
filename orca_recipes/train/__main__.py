"""One rank of a training: `torchrun --nproc-per-node 8 -m orca_recipes.train BUILD --tensor-parallel 4`.

Faults are one sentence and an exit status.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import click

from orca_recipes.errors import OrcaError
from orca_recipes.shards.show.visible import visible
from orca_recipes.train.options import request_of, train_options
from orca_recipes.train.processes.parent import end_with, loaded_prctl


def main() -> None:
    """Train as the command line says."""
    launched_by = click.Option(["--launched-by"], type=int, hidden=True)
    command = click.Command("orca_recipes.train", params=[*train_options(), launched_by], callback=_train, help=_HELP)
    command.main(prog_name="torchrun -m orca_recipes.train")


_HELP = """Train as one rank of those that torchrun starts; the ranks of all machines share RUN.

BUILD is a folder that orca-recipe build made. An option that is left out is taken from the build's [model] and
[training], and where they do not say, from the default shown. On one machine, orca-recipe train BUILD starts the
ranks itself.
"""


def _train(launched_by: int | None, **options: Any) -> None:
    if launched_by is not None:
        end_with(launched_by, loaded_prctl())
    # Megatron tells of every package that it could use and does not find, and of names that it will change.
    warnings.simplefilter("ignore")
    from orca_recipes.train.processes.rank import train_as_rank

    try:
        stopped = train_as_rank(request_of(options))
    except OrcaError as error:
        print(visible(str(error), keep="\n"), file=sys.stderr, flush=True)
        sys.exit(error.exit_status)
    sys.exit(130 if stopped else 0)


if __name__ == "__main__":
    main()
