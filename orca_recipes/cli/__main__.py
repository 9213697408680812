"""`python -m orca_recipes.cli` is `orca-recipe`."""

import os
import sys

if __name__ == "__main__" and sys.path[0] == os.getcwd():
    # `python -m` looks for modules in the current folder first: a socket.py that lies beside a recipe would run.
    del sys.path[0]

from orca_recipes.cli.main import main

if __name__ == "__main__":
    main()
