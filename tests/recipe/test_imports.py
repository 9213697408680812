"""Reading a recipe imports nothing heavy."""

import subprocess
import sys
from pathlib import Path

HEAVY = ("polars", "pyarrow", "awkward", "torch", "gigatoken", "tokenizers", "transformers", "huggingface_hub", "rich")

PLUGIN = """
from typing import Literal
from orca_recipes.contract.hooks import hookimpl
from orca_recipes.contract.kinds import Tokenizer, Template

def unused(**options): raise AssertionError

class Letters(Tokenizer):
    kind: Literal["letters"] = "letters"
    files = materialize = open = unused

class Card(Template):
    kind: Literal["card"] = "card"
    markup = unused

@hookimpl
def orca_tokenizers():
    return {"letters": "pantry:Letters", "heavy": "polars:DataFrame"}

@hookimpl
def orca_templates():
    return {"card": "pantry:Card"}
"""
PROGRAM = """
import sys
import pantry
from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.kind_pages import list_page
from orca_recipes.errors import RecipeError
from orca_recipes.recipe.load import load_recipe
from orca_recipes.recipe.schema import json_schema
catalogue = Catalogue(plugins=[pantry])
list_page(catalogue)
try:
    load_recipe("supper.toml", catalogue=catalogue)
except RecipeError as fault:
    print(fault)
print("imported:", [name for name in sys.argv[1:] if name in sys.modules])
"""
RECIPE = """
name = "supper"
tokenizer = "letters"
template = "card"

[collections.tasks]
kind = "niv2"
path = "tasks"

[datasets.main]
filters = ["length"]
colour = 1
"""


def test_the_catalogue_and_check_import_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "pantry.py").write_text(PLUGIN)
    (tmp_path / "supper.toml").write_text(RECIPE)
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", *HEAVY]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert 'datasets.main has no option "colour"' in done.stdout
    assert done.stdout.splitlines()[-1] == "imported: []"
