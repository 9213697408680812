"""So that nobody forgets to raise a revision.

`tests/revisions.toml` keeps, for each kind and each verb of the core, its revision and a digest of the syntax trees of
the modules that make its output. When a module changes, either its revision is raised, or the entry says in
`same_output` why equal inputs still give equal output; otherwise stores would serve what an older program made.

Made anew (then fill in `same_output` where the revision stays): ORCA_GOLDEN=write pytest tests/test_revisions.py
"""

import ast
import hashlib
import os
import tomllib
from pathlib import Path

import pytest
import tomli_w

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.pieces import PIECES
from orca_recipes.plan.stages import REVISIONS

HOME = Path(__file__).parents[1]
RECORD = Path(__file__).parent / "revisions.toml"
VERBS = {
    "tokenizer": ["run/pin"],
    "template": ["run/pin", "run/conformance", "run/conversations", "run/inference", "contract/markup"],
    "read": ["run/read", "contract/draws", "contract/frames"],
    "mix": ["run/mix", "contract/draws"],
    "converse": ["run/converse", "contract/draws", "contract/frames"],
    "tokenize": [
        "run/tokenize",
        "run/render",
        "run/messages",
        "run/pieces",
        "run/ragged",
        "run/proof",
        "shards/layout",
    ],
    "pack": ["run/pack", "run/overlong", "run/proof", "contract/draws"],
    "write": ["run/write", "run/publish", "shards/writer", "shards/index", "shards/layout", "shards/records"],
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


def current() -> dict[str, dict[str, object]]:
    catalogue = Catalogue()
    entries: dict[str, dict[str, object]] = {}
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


def test_every_verb_and_kind_is_recorded():
    if os.environ.get("ORCA_GOLDEN") == "write":
        RECORD.write_text(tomli_w.dumps(CURRENT), encoding="utf-8")
    assert set(tomllib.loads(RECORD.read_text(encoding="utf-8"))) == set(CURRENT)
    assert set(VERBS) == set(REVISIONS)


@pytest.mark.parametrize("name", sorted(CURRENT))
def test_a_changed_module_has_a_new_revision_or_says_why_its_output_is_the_same(name: str):
    recorded = tomllib.loads(RECORD.read_text(encoding="utf-8"))[name]
    now = CURRENT[name]
    assert recorded["tree"] == now["tree"], (
        f"{name} changed: raise its revision, or keep it and say why the output is the same; then write "
        f'tree = "{now["tree"]}" and revision = {now["revision"]} under ["{name}"] in {RECORD.name}'
    )
    assert recorded["revision"] == now["revision"]


def test_the_digest_sees_code_and_not_words(tmp_path: Path):
    one, two, three = (tmp_path / f"{number}.py" for number in range(3))
    one.write_text('"""One."""\n\n\ndef f(a):\n    """Say."""\n    return a + 1  # why\n')
    two.write_text('"""Other."""\ndef f(a):\n    return (a + 1)\n')
    three.write_text("def f(a):\n    return a + 2\n")
    assert tree_digest([one]) == tree_digest([two]) != tree_digest([three])
