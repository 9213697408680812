"""So that nobody forgets to raise a revision.

`tests/revisions.toml` keeps, for each kind and each verb of the core, its revision and a digest of the code that made
its output when that revision was set: all modules that its own module reaches by imports, less the rooms that decide
no byte. Where a module changes, either the revision of everything that it makes is raised, or its new digest is
written under `same_output` with the reason why equal inputs still give equal output; otherwise stores would serve what
an older program made. A reason may stand at the module, or at the one verb or kind that it is true of.

New entries and raised revisions are recorded by: ORCA_GOLDEN=write pytest tests/test_revisions.py
"""

import ast
import hashlib
import os
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import tomli_w

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.pieces import PIECES
from orca_recipes.plan.stages import REVISIONS
from orca_recipes.run import VERBS
from tests.house import imports_of, sources, tree_of

RECORD = Path(__file__).parent / "revisions.toml"
MODULES = sources()
NO_BYTE = (
    "orca_recipes.errors",
    "orca_recipes.counted",
    "orca_recipes.contract.exporter",
    "orca_recipes.objects",
    "orca_recipes.progress",
    "orca_recipes.json_text",
    "orca_recipes.text_table",
    "orca_recipes.recipe",
    "orca_recipes.run.work",
    "orca_recipes.store",
    "orca_recipes.traces",
)
"""What decides no byte of a stage: words for people, how a build is exported, what the user wrote (a fingerprint
holds it), how parts are run, kept, sent and read back, and answers (their digest is pinned). The walls keep makers of
bytes out of them."""


def digest_in_place(path: Path, planted: str = "") -> str:
    """Digest of what a module does, with what is planted at its end."""
    return tree_digest(path.read_text(encoding="utf-8") + planted, *map(Path.read_text, data_of(path)))


def tree_digest(code: str, *data: str) -> str:
    """Digest of a syntax tree without docstrings, comments, layout and imports, and of the module's data."""
    state = hashlib.blake2b(digest_size=16)
    tree = ast.parse(code)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [inner for inner in body if not _is_told_elsewhere(inner)]
    for text in (ast.dump(tree), *data):
        state.update(text.encode())
    return state.hexdigest()


def data_of(path: Path) -> list[Path]:
    """The data files beside a module that it names, or that bear its name."""
    text, stem = path.read_text(encoding="utf-8"), path.stem.strip("_")
    beside = [data for data in sorted(path.parent.iterdir()) if data.suffix in (".toml", ".json")]
    return [data for data in beside if f'"{data.name}"' in text or data.name.startswith(f"{stem}_")]


def _is_told_elsewhere(node: ast.AST) -> bool:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return is_text or isinstance(node, ast.Import | ast.ImportFrom)


@cache
def imported_by(name: str) -> frozenset[str]:
    return frozenset(imports_of(tree_of(MODULES[name]), MODULES))


def reached(name: str) -> set[str]:
    """The modules that decide what a module makes: all that it reaches by imports, but through rooms without a byte."""
    found, waiting = set[str](), [name]
    while waiting:
        one = waiting.pop()
        if one not in found and not one.startswith(NO_BYTE):
            found.add(one)
            waiting += imported_by(one)
    return found


@cache
def makers() -> dict[str, tuple[int, set[str]]]:
    """Each verb and built-in kind: its revision and the modules that decide what it makes."""
    catalogue = Catalogue()
    found = {f"verb {verb}": (REVISIONS[verb], reached(module)) for verb, module in VERBS.items()}
    # Answers that were bought are made conversations of by a module of their own.
    found["verb converse"][1].update(reached("orca_recipes.run.answers.converse_answered"))
    found["verb write"][1].update(reached("orca_recipes.run.publish"))
    for piece in PIECES:
        for offer in catalogue.offers(piece.hook):
            if offer.distribution == "orca-recipes" and piece.word not in ("engine", "exporter"):
                revision = catalogue.kind(piece.hook, offer.name).revision
                found[f"{piece.word} {offer.name}"] = revision, reached(offer.target.partition(":")[0])
    return found


def known_tree(record: Mapping[str, Any], name: str, tree: str) -> str:
    """A module's digest, or the recorded one where it stands for equal output."""
    entry = record.get("modules", {}).get(name)
    if entry is not None and entry.get("same_output", {}).get(tree, "").strip():
        return str(entry["tree"])
    return tree


def digest_of(trees: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(sorted(trees)).encode(), digest_size=16).hexdigest()


def current(record: Mapping[str, Any], trees: Mapping[str, str], only: str | None = None) -> dict[str, dict[str, Any]]:
    """What each maker, or each that a module decides on, is known by now."""
    return {
        name: {"revision": revision, "tree": digest_of(known_tree(record, one, trees[one]) for one in modules)}
        for name, (revision, modules) in makers().items()
        if only is None or only in modules
    }


@cache
def trees() -> dict[str, str]:
    """The digest of each module that decides what one of them makes."""
    names = sorted(set[str]().union(*(modules for _, modules in makers().values())))
    return {name: digest_in_place(MODULES[name]) for name in names}


def recorded() -> dict[str, Any]:
    return tomllib.loads(RECORD.read_text(encoding="utf-8"))


def is_accounted_for(entry: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    known = now["tree"] == entry["tree"] or bool(entry.get("same_output", {}).get(now["tree"], "").strip())
    return known and now["revision"] == entry["revision"]


def brought_up_to_date(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with new entries and raised revisions, and of modules those that no unraised maker is made by."""
    now = current(record, trees())
    kept = {name: entry for name, entry in record.items() if now.get(name, {}).get("revision") == entry.get("revision")}
    made = {name: kept.get(name, now[name]) for name in now}
    stale = set[str]().union(*(makers()[name][1] for name in now if not is_accounted_for(made[name], now[name])))
    before = record.get("modules", {})
    modules = {}
    for name, tree in trees().items():
        is_known = name in before and known_tree(record, name, tree) == before[name]["tree"]
        modules[name] = before[name] if name in before and (is_known or name in stale) else {"tree": tree}
    return {**made, "modules": modules}


def test_every_verb_and_kind_is_recorded():
    if os.environ.get("ORCA_GOLDEN") == "write":
        RECORD.write_text(tomli_w.dumps(brought_up_to_date(recorded())), encoding="utf-8")
    assert set(recorded()) == {*makers(), "modules"}
    assert set(VERBS) == set(REVISIONS)


def test_a_changed_module_has_a_new_revision_or_says_why_its_output_is_the_same():
    record, digests = recorded(), trees()
    now = current(record, digests)
    unaccounted = [name for name in sorted(makers()) if not is_accounted_for(record[name], now[name])]
    changed = [
        f'["modules"."{one}".same_output]\n{digests[one]} = "why"'
        for one in sorted(set[str]().union(*(makers()[name][1] for name in unaccounted)))
        if known_tree(record, one, digests[one]) != record["modules"].get(one, {}).get("tree")
    ]
    assert unaccounted == [], (
        "they changed: raise their revisions and record them with ORCA_GOLDEN=write, or, where equal inputs still give "
        f"equal output, add to {RECORD.name}:\n"
        + "\n".join(f'["{name}".same_output]\n{now[name]["tree"]} = "why"' for name in unaccounted)
        + "\nor, where that is so for all that a module makes:\n"
        + "\n".join(changed)
    )


def test_a_change_needs_a_reason_or_a_revision():
    entry = {"revision": 1, "tree": "old"}
    assert is_accounted_for(entry, {"revision": 1, "tree": "old"})
    assert not is_accounted_for(entry, {"revision": 1, "tree": "new"})
    assert not is_accounted_for(entry, {"revision": 2, "tree": "new"})
    assert not is_accounted_for({**entry, "same_output": {"new": " "}}, {"revision": 1, "tree": "new"})
    assert is_accounted_for({**entry, "same_output": {"new": "a name"}}, {"revision": 1, "tree": "new"})


def test_a_change_planted_in_any_module_is_noticed():
    record = recorded()
    unnoticed = {}
    for name in trees():
        planted = {**trees(), name: digest_in_place(MODULES[name], "\n_PLANTED = 1\n")}
        now = current(record, planted, name)
        unnoticed[name] = [maker for maker in now if is_accounted_for(record[maker], now[maker])]
        assert now, name
    assert len(unnoticed) > 200
    assert {name: found for name, found in unnoticed.items() if found} == {}


def test_a_reason_at_a_module_is_enough_for_all_that_it_makes():
    record, name = recorded(), "orca_recipes.contract.draws"
    planted = {**trees(), name: digest_in_place(MODULES[name], "\n_PLANTED = 1\n")}
    assert not is_accounted_for(record["verb pack"], current(record, planted)["verb pack"])
    record["modules"][name].setdefault("same_output", {})[planted[name]] = "a name"
    assert is_accounted_for(record["verb pack"], current(record, planted)["verb pack"])


def test_no_module_of_a_room_that_makes_stages_is_left_out():
    rooms = {module.rpartition(".")[0] for module in VERBS.values()}
    of_rooms = {name for name in MODULES if name.rpartition(".")[0] in rooms}
    # What they find is in the pins, which fingerprints hold.
    pinned = {
        "lock_file",
        "message_columns",
        "message_lookup",
        "moving_names",
        "pin",
        "plugin_files",
        "plugin_versions",
    }
    assert of_rooms - set(trees()) == {f"orca_recipes.run.pinning.{name}" for name in pinned}


def test_the_digest_sees_code_and_not_words():
    one = '"""One."""\nimport os\n\n\ndef f(a):\n    """Say."""\n    return a + 1  # why\n'
    two = '"""Other."""\nfrom a import b\ndef f(a):\n    return (a + 1)\n'
    three = "def f(a):\n    return a + 2\n"
    assert tree_digest(one) == tree_digest(two) != tree_digest(three)
    assert tree_digest(one, "data") != tree_digest(one)
