"""`python -m orca_recipes.cli` is `orca-recipe`."""

from orca_recipes.cli.main import main

if __name__ == "__main__":
    main()
