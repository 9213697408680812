"""`python -m orca_recipes.cli` is `orca-recipe`: a process of which nobody needs anything after the command."""

from orca_recipes.cli.main import main
from orca_recipes.cli.options import OWN_PROCESS


def run() -> None:
    """Run the command line; a command may go on in a fork of this process."""
    main(obj=OWN_PROCESS)


if __name__ == "__main__":
    run()
