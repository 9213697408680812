"""The site builds without a warning, asks no server for anything, and its references name all that there is."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.main import main
from orca_recipes.contract.pieces import PIECES
from orca_recipes.recipe.schema import json_schema
from tests.docs.conftest import DOCS, HOME
from tests.report.browser import opened

pytest.importorskip("mkdocs")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOME)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_site(site: Path):
    assert {path.stem for path in site.glob("*.html")} == {
        *(path.stem for path in DOCS.glob("*.md")),
        *("recipe", "commands", "hooks", "404"),
    }


LOOK = """<script>addEventListener("load", () => {
const root = document.documentElement;
const dead = [...document.querySelectorAll(".md-content a[href^='#']")].map(a => decodeURIComponent(a.hash.slice(1)));
parent.postMessage([location.pathname.split("/").pop(), root.scrollWidth > root.clientWidth,
                    dead.filter(id => id && !document.getElementById(id))], "*");
})</script>"""
"""Has each page say whether it is wider than its window, and which of its links lead to nothing."""

HOLD = """<script>addEventListener("message", event => {
document.body.append(Object.assign(document.createElement("pre"), {textContent: JSON.stringify(event.data)}));
})</script>"""


def test_no_page_is_wider_than_a_phone_or_links_to_nothing(site: Path, tmp_path: Path):
    looked = shutil.copytree(site, tmp_path / "site")
    names = sorted({path.name for path in looked.glob("*.html")} - {"404.html"})
    for name in names:
        page = looked / name
        page.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{LOOK}</body>"), encoding="utf-8")
    frames = "".join(f'<iframe src="{name}" width="390" height="800"></iframe>' for name in names)
    (looked / "held.html").write_text(f"<body>{HOLD}{frames}</body>", encoding="utf-8")
    document = opened(looked / "held.html", tmp_path / "profile")
    assert sorted(map(json.loads, re.findall("<pre>(.*?)</pre>", document))) == [[name, False, []] for name in names]


def test_nothing_but_pages_and_what_they_load_is_in_the_site(site: Path):
    assert not {path.suffix for path in site.rglob("*") if path.is_file()} & {".py", ".pyc", ".md", ".toml"}


def test_its_pages_ask_no_other_server(site: Path):
    for page in site.rglob("*.html"):
        asked = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"(?:https?:)?//[^\"]*", page.read_text())
        assert not asked, page


def test_the_recipe_reference_says_what_the_schema_says(reference: ModuleType):
    page = reference.recipe_page()
    schema = json_schema(Catalogue())
    tables = {name: body for name, body in schema["$defs"].items() if not name.startswith("partial.")}
    tables.pop("profile")
    for table, body in tables.items():
        for name, option in body.get("properties", {}).items():
            if name == "kind":
                continue
            assert f"\n- `{name}` (" in page, (table, name)
            if "description" in option:
                assert option["description"] in page.replace("\\", ""), (table, name)


def test_the_recipe_reference_tells_of_every_kind(reference: ModuleType):
    page, catalogue = reference.recipe_page(), Catalogue()
    for piece in PIECES:
        for offer in catalogue.offers(piece.hook) if piece.is_of_recipe else ():
            assert (f"### {piece.word} `{offer.name}`" in page) == (offer.distribution == "orca-recipes"), offer


def test_the_command_reference_has_every_command(reference: ModuleType):
    page = reference.commands_page()
    for name, command in main.commands.items():
        for path in [f"{name} {inner}" for inner in getattr(command, "commands", ())] or [name]:
            assert f"## orca-recipe {path}\n" in page


def test_the_page_of_hooks_has_every_method_that_a_kind_must_have_and_an_example(reference: ModuleType):
    page = reference.hooks_page()
    for piece in PIECES:
        hook = piece.hook.removeprefix("orca_")
        section = page.split(f"\n## {hook}\n")[1].split("\n## ")[0]
        for method in piece.contract.__abstractmethods__:
            assert f"`{method}(" in section
        assert f'kind: Literal["my_{hook}"]' in section
