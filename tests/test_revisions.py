"""So that nobody forgets to raise a revision.

`tests/revisions.toml` keeps, for each kind and each verb of the core, its revision and a digest of the syntax trees of
the modules that made its output when that revision was set. When a module changes, either the revision is raised, or
the new digest is written under `same_output` with the reason why equal inputs still give equal output; otherwise
stores would serve what an older program made.

New entries and raised revisions are recorded by: ORCA_GOLDEN=write pytest tests/test_revisions.py
"""

import ast
import hashlib
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.pieces import PIECES
from orca_recipes.plan.stages import REVISIONS

HOME = Path(__file__).parents[1]
RECORD = Path(__file__).parent / "revisions.toml"
DRAWING = [
    "run/mixing",
    "run/takes",
    "run/pools",
    "run/duplicates",
    "run/drawing",
    "plan/mixture",
    "plan/arrivals",
    "contract/draws",
]
VERBS = {
    "tokenizer": ["run/student"],
    "template": [
        "run/student",
        "run/ending",
        "run/conformance",
        "run/conversations",
        "run/markers",
        "run/inference",
        "contract/markup",
    ],
    "read": ["run/read", "run/identity", "contract/draws", "contract/frames"],
    "contexts": ["run/contexts", "run/questions", "contract/draws"],
    "questions": ["run/questions", "contract/draws"],
    "measure": ["run/measure", "run/measure_conversations", "run/questions"],
    "allot": ["run/allot", *DRAWING],
    "mix": ["run/mix", *DRAWING],
    "prepare": ["run/prepared"],
    "ask": ["run/ask", "run/rules", "run/system_messages", "run/shots", "contract/answers", "contract/draws"],
    "answer": ["run/answer", "contract/answers"],
    "keep": ["run/keep", "run/takes"],
    "converse": [
        "run/converse",
        "run/combinations",
        "run/rules",
        "run/shots",
        "run/system_messages",
        "run/teaching",
        "run/views",
        "contract/draws",
        "contract/frames",
        "contract/messages",
        "contract/quotes",
    ],
    "tokenize": [
        "run/tokenize",
        "run/prompt_trial",
        "run/prompts",
        "run/markers",
        "run/render",
        "run/messages",
        "run/pieces",
        "run/items",
        "run/runs",
        "run/encoded",
        "run/rendered",
        "run/ragged",
        "run/proof",
        "run/erasing",
        "shards/ids_digest",
        "shards/layout",
    ],
    "pack": ["run/pack", "run/overlong", "run/proof", "contract/draws", "shards/ids_digest"],
    "write": [
        "run/write",
        "run/tell",
        "run/publish",
        "run/ending",
        "shards/writer",
        "shards/index",
        "shards/layout",
        "shards/records",
    ],
}


def tree_digest(paths: list[Path]) -> str:
    """Digest of what modules do: their syntax trees without docstrings, comments and layout."""
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(paths):
        for data in sorted(path.parent.glob(f"{path.stem.strip('_')}_*.toml")):
            state.update(data.read_bytes())
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [inner for inner in body if not _is_text(inner)]
        state.update(ast.dump(tree).encode())
    return state.hexdigest()


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def modules_of(target: str) -> list[Path]:
    """The module of a kind and, transitively, its own folder's modules that it imports."""
    folder = HOME / "plugins"
    found: set[Path] = set()
    waiting = [folder / (target.partition(":")[0].replace(".", "/") + ".py")]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("orca_plugins."):
                module = folder / ((node.module or "").replace(".", "/"))
                names = [module.with_suffix(".py"), *(module / f"{name.name}.py" for name in node.names)]
                waiting += [name for name in names if name.is_file()]
    return sorted(found)


def current() -> dict[str, dict[str, Any]]:
    catalogue = Catalogue()
    entries: dict[str, dict[str, Any]] = {}
    for piece in PIECES:
        for offer in catalogue.offers(piece.hook):
            if offer.distribution == "orca-recipes" and piece.word != "engine":
                revision = catalogue.kind(piece.hook, offer.name).revision
                entries[f"{piece.word} {offer.name}"] = {
                    "revision": revision,
                    "tree": tree_digest(modules_of(offer.target)),
                }
    for verb, modules in VERBS.items():
        paths = [HOME / "orca_recipes" / f"{module}.py" for module in modules]
        entries[f"verb {verb}"] = {"revision": REVISIONS[verb], "tree": tree_digest(paths)}
    return entries


CURRENT = current()


def recorded() -> dict[str, dict[str, Any]]:
    return tomllib.loads(RECORD.read_text(encoding="utf-8"))


def brought_up_to_date(before: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The record with new entries and raised revisions; a changed module alone changes nothing in it."""
    kept = {name: entry for name, entry in before.items() if CURRENT.get(name, {}).get("revision") == entry["revision"]}
    return {name: kept.get(name, CURRENT[name]) for name in CURRENT}


def is_accounted_for(entry: dict[str, Any], now: dict[str, Any]) -> bool:
    reasons = entry.get("same_output", {})
    known = now["tree"] == entry["tree"] or bool(reasons.get(now["tree"], "").strip())
    return known and now["revision"] == entry["revision"]


def test_every_verb_and_kind_is_recorded():
    if os.environ.get("ORCA_GOLDEN") == "write":
        RECORD.write_text(tomli_w.dumps(brought_up_to_date(recorded())), encoding="utf-8")
    assert set(recorded()) == set(CURRENT)
    assert set(VERBS) == set(REVISIONS)


@pytest.mark.parametrize("name", sorted(CURRENT))
def test_a_changed_module_has_a_new_revision_or_says_why_its_output_is_the_same(name: str):
    now = CURRENT[name]
    assert is_accounted_for(recorded()[name], now), (
        f"{name} changed: raise its revision and record it with ORCA_GOLDEN=write, or, where equal inputs still give "
        f'equal output, add to {RECORD.name}:\n["{name}".same_output]\n{now["tree"]} = "why"'
    )


def test_a_change_needs_a_reason_or_a_revision():
    entry = {"revision": 1, "tree": "old"}
    assert is_accounted_for(entry, {"revision": 1, "tree": "old"})
    assert not is_accounted_for(entry, {"revision": 1, "tree": "new"})
    assert not is_accounted_for(entry, {"revision": 2, "tree": "new"})
    assert not is_accounted_for({**entry, "same_output": {"new": " "}}, {"revision": 1, "tree": "new"})
    assert is_accounted_for({**entry, "same_output": {"new": "a name"}}, {"revision": 1, "tree": "new"})


def test_the_digest_sees_code_and_not_words(tmp_path: Path):
    one, two, three = (tmp_path / f"{number}.py" for number in range(3))
    one.write_text('"""One."""\n\n\ndef f(a):\n    """Say."""\n    return a + 1  # why\n')
    two.write_text('"""Other."""\ndef f(a):\n    return (a + 1)\n')
    three.write_text("def f(a):\n    return a + 2\n")
    assert tree_digest([one]) == tree_digest([two]) != tree_digest([three])
