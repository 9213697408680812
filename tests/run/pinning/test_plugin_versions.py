"""A plugin of a stranger is known by its version and its files: nothing of it changes without a word."""

import json
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import LockError
from orca_recipes.plan.plugins import PluginPin
from orca_recipes.preview.preview import preview
from orca_recipes.progress import Progress
from orca_recipes.run.build import Prepared, build, pinned_plugins, prepare
from orca_recipes.run.pinning.lock_file import read_lock
from orca_recipes.shards.manifest import read_manifest
from tests.run.small import STUDENT, SUMS, Heard, asked, sums, write_rows
from tests.run.strangers import FORMS, HOOKS, Stranger

WHOLE = f"""{SUMS}
[strategies.asked]
kind = "direct"

[teachers.told]
kind = "reference"

[[rules]]
strategy = "asked"

[datasets.main]
teacher = "told"
filters = [{{ kind = "length", max_chars = 2000 }}]
{STUDENT}kind = "best_fit"
[output]
kind = "megatron"

[engine]
kind = "local"
"""
STAGES = {
    "sources": "read sums",
    "strategies": "converse main/sums",
    "teachers": "converse main/sums",
    "filters": "converse main/sums",
    # What pins is pinned by `plan` already; what follows from it says why it runs.
    "templates": "tokenize main/sums",
    "tokenizers": "tokenize main/sums",
    "packers": "pack main",
    "writers": "write main",
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stranger]:
    """`install("wheel", "1.0")`: a stranger's package on this process's path, until the test ends."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def installed(form: str, version: str, *, name: str = "stranger") -> Stranger:
        stranger = Stranger(tmp_path / "site", form, name=name)
        stranger.install(version)
        for place in reversed(stranger.on_path):
            monkeypatch.syspath_prepend(place)
        return stranger

    return installed


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe with a kind for every hook, and its data."""
    folder = tmp_path / "project"
    folder.mkdir()
    write_rows(folder / "sums.jsonl", sums(60))
    (folder / "recipe.toml").write_text(WHOLE, encoding="utf-8")
    return folder / "recipe.toml"


def use(recipe: Path, *hooks: str) -> None:
    """Let the recipe choose the stranger's kinds for these hooks."""
    text = WHOLE
    for hook in hooks:
        text = text.replace(f'kind = "{HOOKS[hook][0]}"', 'kind = "strange"')
    assert text.count('"strange"') == len(hooks)
    recipe.write_text(text, encoding="utf-8")


def states(recipe: Path) -> dict[str, tuple[str, str]]:
    this = asked(recipe)
    return {view.name: (view.state, view.why) for view in preview(this, prepared(recipe)).stages}


def prepared(recipe: Path) -> Prepared:
    return prepare(asked(recipe))


def pins(recipe: Path) -> dict[str, PluginPin]:
    return pinned_plugins(asked(recipe))


@pytest.mark.parametrize("hook", STAGES)
def test_an_upgrade_reruns_what_its_kind_decides_and_locked_refuses_it(hook: str, recipe: Path, install):
    stranger = install("wheel", "1.0")
    use(recipe, hook)
    build(asked(recipe), Progress())
    assert {state for state, _ in states(recipe).values()} == {"cached"}
    build(asked(recipe, locked=True), Progress())
    stranger.install("2.0")
    changed = states(recipe)
    state, why = changed[STAGES[hook]]
    assert state == "will run"
    assert re.search(r"changed: stranger 1\.0 -> 2\.0", why)
    assert changed["write main"][0] == "will run"
    with pytest.raises(LockError, match=r"plugins\.stranger: version 1\.0 is locked, 2\.0 is installed"):
        build(asked(recipe, locked=True), Progress())
    heard = Heard()
    manifest, fresh = build(asked(recipe), heard)
    assert fresh
    assert any("plugins.stranger: version 1.0 is locked, 2.0 is installed" in said for said in heard.said)
    assert manifest.plugins["stranger"].version == "2.0"


def test_an_engine_never_decides_bytes(recipe: Path, install):
    stranger = install("wheel", "1.0")
    use(recipe, "engines")
    build(asked(recipe), Progress())
    stranger.install("2.0")
    assert not build(asked(recipe, locked=True), Progress())[1]
    assert pins(recipe) == {}


def test_recipes_without_strangers_keep_their_locks(recipe: Path, install):
    build(asked(recipe), Progress())
    before, plan = recipe.with_suffix(".lock").read_bytes(), prepared(recipe).plan
    install("wheel", "1.0")
    assert prepared(recipe).plan == plan
    assert not build(asked(recipe), Progress())[1]
    assert recipe.with_suffix(".lock").read_bytes() == before
    assert b"plugins" not in before


def test_lock_and_manifest_list_the_plugins_that_decide_bytes(recipe: Path, install):
    install("wheel", "1.0")
    use(recipe, "filters", "packers", "engines")
    manifest, _ = build(asked(recipe), Progress())
    lock = read_lock(recipe.with_suffix(".lock"))
    assert lock is not None
    (pin,) = lock.pins.plugins.values()
    assert pin.version == "1.0"
    assert dict(pin.kinds) == {
        "filters:strange": "stranger:StrangeLength",
        "packers:strange": "stranger:StrangeBestFit",
    }
    assert manifest.plugins["stranger"].model_dump() == pin.as_json()
    assert read_manifest(recipe.parent / "out").plugins == manifest.plugins


@pytest.mark.parametrize("form", FORMS)
def test_however_it_is_installed_its_files_are_what_it_is(form: str, recipe: Path, install):
    stranger = install(form, "1.0")
    use(recipe, "filters")
    build(asked(recipe), Progress())
    before = pins(recipe)["stranger"]
    stranger.install("1.0")
    assert pins(recipe)["stranger"] == before
    assert not build(asked(recipe, locked=True), Progress())[1]
    stranger.install("2.0")
    assert states(recipe)["converse main/sums"][1].startswith("changed: stranger 1.0 -> 2.0")


def test_a_file_that_was_changed_in_place_is_seen_though_the_version_stays(recipe: Path, install):
    stranger = install("wheel", "1.0")
    use(recipe, "filters")
    build(asked(recipe), Progress())
    words = stranger.site / "stranger" / "words.txt"
    words.write_text("of the strangest\n", encoding="utf-8")  # of the same length
    assert states(recipe)["converse main/sums"] == ("will run", "changed: stranger 1.0 has other files")
    with pytest.raises(LockError, match=r"plugins\.stranger: version 1\.0 is locked with other files"):
        build(asked(recipe, locked=True), Progress())
    words.write_text("of the package\n", encoding="utf-8")
    assert not build(asked(recipe, locked=True), Progress())[1]


def test_a_file_that_no_installer_listed_counts_and_a_compiled_one_does_not(recipe: Path, install):
    stranger = install("wheel", "1.0")
    use(recipe, "filters")
    before = pins(recipe)
    cache = stranger.site / "stranger" / "__pycache__"
    cache.mkdir()
    (cache / "words.pyc").write_bytes(b"compiled")
    assert pins(recipe) == before
    added = stranger.site / "stranger" / "more"
    added.mkdir()
    (added / "extra.py").write_text("", encoding="utf-8")
    assert pins(recipe) != before


def test_what_else_lies_in_a_namespace_belongs_to_others(recipe: Path, install):
    stranger = install("namespace", "1.0")
    use(recipe, "filters")
    before = pins(recipe)
    other = Stranger(stranger.site, "namespace", name="neighbour")
    other.install("1.0")
    (stranger.site / "neighbour-1.0.dist-info" / "entry_points.txt").unlink()
    assert (stranger.site / "acme" / "neighbour.py").is_file()
    assert pins(recipe) == before


def test_all_packages_of_an_editable_tree_count_and_nothing_that_is_built_there(recipe: Path, install):
    stranger = install("editable of several packages", "1.0")
    use(recipe, "filters")
    before = pins(recipe)
    for name in ("recipe.lock", "build/quickstart/manifest.json", ".git/HEAD", "src/stranger.egg-info/PKG-INFO"):
        (stranger.project / name).parent.mkdir(parents=True, exist_ok=True)
        (stranger.project / name).write_text("new", encoding="utf-8")
    assert pins(recipe) == before
    (stranger.project / "src" / "stranger_core" / "deep" / "words.txt").write_text("others\n", encoding="utf-8")
    assert pins(recipe) != before


def test_a_working_copy_that_comes_first_on_the_path_is_what_counts(
    recipe: Path, tmp_path: Path, install, monkeypatch: pytest.MonkeyPatch
):
    stranger = install("wheel", "1.0")
    use(recipe, "filters")
    before = pins(recipe)
    copy = tmp_path / "copy" / "stranger"
    copy.mkdir(parents=True)
    (copy / "__init__.py").write_text((stranger.site / "stranger" / "__init__.py").read_text() + "# mine\n")
    monkeypatch.syspath_prepend(copy.parent)
    stranger.forget()
    assert metadata.version("stranger") == "1.0"
    assert pins(recipe)["stranger"].version == "1.0"
    assert pins(recipe) != before


def test_another_package_that_offers_the_same_name_is_named(recipe: Path, install):
    stranger = install("wheel", "1.0")
    use(recipe, "filters")
    build(asked(recipe), Progress())
    stranger.remove()
    install("one module", "3.1", name="rival")
    with pytest.raises(
        LockError,
        match=r"plugins\.rival: rival 3\.1 offers filters:strange here, and the lock pins stranger 1\.0 for that",
    ):
        build(asked(recipe, locked=True), Progress())
    assert states(recipe)["converse main/sums"][1].startswith("changed: rival 3.1 is new; stranger is gone")


def test_a_lock_that_pins_no_plugins_is_refused_by_name(recipe: Path, install):
    install("wheel", "1.0")
    use(recipe, "filters")
    build(asked(recipe), Progress())
    lock = recipe.with_suffix(".lock")
    kept = [part for part in lock.read_text(encoding="utf-8").split("\n\n") if not part.startswith("[pins.plugins")]
    lock.write_text("\n\n".join(kept), encoding="utf-8")
    with pytest.raises(LockError, match=r"stranger 1\.0 offers filters:strange here, and the lock does not pin it"):
        build(asked(recipe, locked=True), Progress())


def test_a_kind_of_no_distribution_is_known_by_its_module(recipe: Path, tmp_path: Path, install):
    stranger = install("one module", "1.0")
    for notes in stranger.site.glob("*.dist-info"):
        for path in notes.iterdir():
            path.unlink()
        notes.rmdir()
    stranger.forget()
    use(recipe, "filters")

    def pinned() -> dict[str, PluginPin]:
        stranger.forget()
        import stranger as module

        return pinned_plugins(asked(recipe, catalogue=Catalogue(plugins=[module])))

    before = pinned()
    assert before["stranger"].version == ""
    assert pinned() == before
    path = stranger.site / "stranger.py"
    path.write_text(path.read_text(encoding="utf-8") + "# more\n", encoding="utf-8")
    assert pinned() != before


def test_plan_says_it_to_programs_too(recipe: Path, install):
    stranger = install("wheel", "1.0")
    use(recipe, "filters")
    build(asked(recipe), Progress())
    stranger.install("2.0")
    told = json.loads(json.dumps(preview(asked(recipe), prepared(recipe)).as_json()))
    (stage,) = [stage for stage in told["stages"] if stage["name"].startswith("converse")]
    assert stage["state"] == "will run"
    assert "stranger 1.0 -> 2.0" in stage["why"]
