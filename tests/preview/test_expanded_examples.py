"""What `plan` says of rules that make several examples of a row is what a build makes."""

import json
from pathlib import Path

from orca_recipes import load_recipe

TOKENIZER = Path(__file__).parents[2] / "recipes" / "quickstart" / "tokenizer.json"


def test_examples_of_a_phase_count_the_copies_under_each_system_message(tmp_path: Path):
    rows = [{"q": f"question {n}", "a": "yes", **({"s": "Be brief."} if n < 4 else {})} for n in range(10)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"question": "q", "reference": "a", "system": "s"}
    recipe = load_recipe(
        {
            "name": "expanded",
            "collections": {"rows": {"kind": "files", "path": tmp_path / "rows.jsonl", "columns": columns}},
            "system_messages": {"said": {"messages": {name: f"You are {name}." for name in "abc"}}},
            "rules": [{"strategy": "direct", "system_messages": ["said"], "expand": "each"}],
            "tokenizer": {"kind": "hf", "path": TOKENIZER},
            "template": {"kind": "chatml"},
            "curriculum": [{"dataset": "main"}],
        }
    )
    store = tmp_path / "store"
    plan = recipe.plan(store=store, scan=True).as_json()
    made = recipe.build(out=tmp_path / "out", store=store, workers=1).manifest.datasets["main"].examples
    (rule,), (phase,) = plan["rules"], plan["phases"]
    assert (rule["examples"], rule["created"]) == (10, 12)
    assert phase["examples"] == made == 22
