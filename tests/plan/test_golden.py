"""The plan of the quickstart, from its committed lock alone, reviewed like code.

Made anew by: ORCA_GOLDEN=write pytest tests/plan/test_golden.py
"""

import json
import os
from pathlib import Path

from orca_recipes.catalogue import Catalogue
from orca_recipes.plan.compile import compile_plan
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.pinning.lock_file import read_lock

HOME = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden" / "quickstart.json"


def test_recipe_and_lock_give_the_plan_that_was_reviewed():
    recipe = load_recipe(HOME / "recipes" / "quickstart.toml", catalogue=Catalogue()).recipe
    lock = read_lock(HOME / "recipes" / "quickstart.lock")
    assert lock is not None
    plan = {
        stage.name: {
            "fingerprint": stage.fingerprint,
            "kind": stage.kind,
            "decisive": stage.decisive,
            "inputs": list(stage.inputs),
        }
        for stage in compile_plan(recipe, lock.pins)
    }
    if os.environ.get("ORCA_GOLDEN") == "write":
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
    assert json.loads(GOLDEN.read_text(encoding="utf-8")) == plan
