"""The walls: who may import whom (STYLE), which imports are heavy, and that every hook is used and described."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from orca_recipes.contract.pieces import PIECES
from tests.house import circles, measured, statements_of, tree_of

HOME = Path(__file__).parents[1]
CORE = HOME / "orca_recipes"
PLUGINS = HOME / "plugins" / "orca_plugins"
HEAVY = {
    "awkward",
    "datasets",
    "gigatoken",
    "huggingface_hub",
    "jinja2",
    "megatron",
    "obstore",
    "openai",
    "polars",
    "pyarrow",
    "reasoning_gym",
    "rich",
    "sentencepiece",
    "tokenizers",
    "torch",
    "transformers",
}
RUN = {
    *("work", "pinning", "examples", "mixtures", "conversations", "comparisons", "answers"),
    *("segments", "renderers", "tokens", "rows"),
}
"""The rooms of run/."""
EVERYONES = {"errors", "counted", "json_text", "text_table"}
OUTSIDE = {"recipe", "plan", "contract", "shards", "progress"}
"""What every room of run/ may import beside other rooms."""
ROOMS = {
    "errors": set(),
    "counted": set(),
    "json_text": set(),
    "text_table": set(),
    "shards": {"objects"},
    "objects": set(),
    "contract": {"objects", "shards"},
    "recipe": {"contract"},
    "catalogue": {"contract"},
    "trust": {"contract"},
    "plan": {"recipe", "contract"},
    "progress": {"shards"},
    "traces": {"contract", "shards", "objects", "store"},
    "store": {"plan", "contract", "shards", "objects"},
    "run/work": OUTSIDE | {"store"},
    "run/examples": OUTSIDE | {"run/work", "store"},
    "run/segments": OUTSIDE | {"run/work", "store"},
    "run/renderers": OUTSIDE | {"run/work", "run/segments", "store"},
    "run/tokens": OUTSIDE | {"run/work", "run/segments", "run/renderers", "store"},
    "run/pinning": OUTSIDE | {"run/work", "run/segments", "run/renderers", "store"},
    "run/conversations": OUTSIDE | {"run/work", "run/examples", "run/segments", "store"},
    "run/comparisons": OUTSIDE | {"run/work", "run/examples", "store"},
    "run/mixtures": OUTSIDE | {"run/work", "run/examples", "run/conversations", "run/renderers", "store"},
    "run/answers": OUTSIDE
    | {"run/work", "run/examples", "run/conversations", "run/comparisons", "store", "traces", "trust"},
    "run/rows": OUTSIDE | {"run/work", "run/segments", "run/tokens", "run/answers", "store"},
    "prove": OUTSIDE | {"run/segments", "run/renderers", "run/tokens", "run/conversations", "store"},
    "run": OUTSIDE | {f"run/{room}" for room in RUN} | {"store", "traces", "trust", "prove"},
    "preview": OUTSIDE | {"run"} | {f"run/{room}" for room in RUN} | {"store", "traces", "trust"},
    "explain": OUTSIDE | {f"run/{room}" for room in RUN} | {"store", "traces", "prove"},
    "packages": {"contract", "catalogue"},
    "archive": OUTSIDE | {"run", "store", "traces"} | {f"run/{room}" for room in RUN},
    "diff": OUTSIDE | {"run/pinning"},
    "report": OUTSIDE | {"diff", "explain", "prove", "run"},
    "card": {"shards"},
    "export": OUTSIDE | {"run/renderers", "prove", "store"},
    "push": {"contract", "export", "progress", "shards", "trust"},
    "train": {"shards"},
    "front": OUTSIDE
    | {"catalogue", "explain", "preview", "prove", "run", "store", "traces"}
    | {f"run/{room}" for room in RUN},
    "cli": OUTSIDE
    | {
        "objects",
        "card",
        "catalogue",
        "diff",
        "explain",
        "export",
        "front",
        "packages",
        "preview",
        "prove",
        "push",
        "report",
        "run",
        "store",
        "traces",
        "train",
    }
    | {"archive", "trust"}
    | {f"run/{room}" for room in RUN},
}
"""Each room, and the rooms that it may import: none that imports it, by whatever way."""


def room_of(module: str) -> str:
    """The room of a dotted name below `orca_recipes`."""
    parts = module.split(".")
    return f"run/{parts[2]}" if parts[1] == "run" and len(parts) > 2 and parts[2] in RUN else parts[1]


def modules() -> Iterator[Path]:
    yield from sorted(CORE.rglob("*.py"))
    yield from sorted(PLUGINS.rglob("*.py"))


@cache
def imports(path: Path, *, top_only: bool = False) -> set[str]:
    tree = tree_of(path)
    found = set()
    for node in tree.body if top_only else statements_of(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def test_a_room_imports_only_its_neighbours_and_never_a_plugin():
    found = {}
    for path in CORE.rglob("*.py"):
        room = room_of(".".join(("orca_recipes", *path.relative_to(CORE).with_suffix("").parts)))
        if room != "__init__":
            allowed = {room, *EVERYONES} | ROOMS[room] | ({"__version__"} if room == "cli" else set())
            ours = {room_of(name) for name in imports(path) if name.startswith("orca_recipes.")}
            found[str(path)] = ours - allowed | {name for name in imports(path) if name.startswith("orca_plugins")}
    assert len(found) > 300
    assert_none(found)


def test_no_rooms_import_each_other():
    above = {room: {other for other in others if other != "run"} for room, others in ROOMS.items()}
    assert circles(above) == []


def test_no_modules_import_each_other():
    assert measured()["circles"] == []


def test_a_plugin_imports_the_contract_and_never_another_plugin():
    found = {}
    for path in PLUGINS.rglob("*.py"):
        allowed = {
            "orca_recipes": {"contract", "shards", *EVERYONES},
            "orca_plugins": {path.relative_to(PLUGINS).parts[0]},
        }
        parts = {name: name.split(".") for name in imports(path)}
        found[str(path)] = {name for name, (root, *rest) in parts.items() if {*rest[:1]} - allowed.get(root, {*rest})}
    assert len(found) > 100
    assert_none(found)


def test_heavy_packages_are_imported_where_they_are_used():
    # The whole room of the trainer is heavy, and is imported where it is used.
    light = [path for path in modules() if not path.is_relative_to(CORE / "train")]
    assert_none({str(path): {name.split(".")[0] for name in imports(path, top_only=True)} & HEAVY for path in light})


def assert_none(found: dict[str, set[str]]) -> None:
    """No module has a fault, by what the module imports and may not."""
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize("command", [["--help"], ["build", "--help"], ["check", "recipes/quickstart.toml"], ["kinds"]])
def test_light_commands_import_nothing_heavy(command: list[str]):
    assert heavy_imports_of(*command) == "heavy: []"


def test_a_build_with_nothing_to_do_imports_nothing_heavy(tmp_path: Path):
    words = [
        "build",
        "recipes/quickstart.toml",
        "--limit",
        "20",
        "--store",
        str(tmp_path / "s"),
        "--out",
        str(tmp_path / "b"),
    ]
    assert "polars" in heavy_imports_of(*words)
    assert heavy_imports_of(*words) == "heavy: []"


def heavy_imports_of(*command: str) -> str:
    script = (
        "import sys\n"
        "from orca_recipes.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print('heavy:', sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, cwd=HOME)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_every_hook_is_offered_by_a_built_in_plugin_and_described():
    import orca_recipes.contract.hooks as hooks

    for piece in PIECES:
        assert getattr(hooks, piece.hook).__doc__, piece.hook
        folder = piece.hook.removeprefix("orca_")
        assert f"def {piece.hook}()" in (PLUGINS / folder / "__init__.py").read_text(encoding="utf-8")
        assert piece.hook in (HOME / "README.md").read_text(encoding="utf-8")


def test_the_top_level_is_the_house_as_designed():
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=HOME)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    assert top == {
        ".ci",
        ".gitignore",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "README.md",
        "constraints.txt",
        "docs",
        "findings",
        "mkdocs.yml",
        "orca_recipes",
        "plugins",
        "pyproject.toml",
        "recipes",
        "tests",
    }
