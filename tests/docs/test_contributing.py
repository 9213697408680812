"""The page for those who change the code knows every room."""

import re

import pytest

from tests.docs.conftest import HOME

PAGE = (HOME / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROOMS = [
    *(HOME / "orca_recipes").glob("*/__init__.py"),
    *(HOME / "orca_recipes" / "run").glob("*/__init__.py"),
]


@pytest.mark.parametrize("room", sorted(str(path.parent.relative_to(HOME)) for path in ROOMS))
def test_each_room_has_its_line(room: str):
    assert f"| `{room}` | " in PAGE


def test_what_it_names_is_there():
    for path in re.findall(r"^\| `([\w/.]+)` \|", PAGE, flags=re.MULTILINE):
        assert (HOME / path).exists(), path


def test_its_command_for_the_site_is_that_of_the_documents():
    command = "pip install -c constraints.txt '.[docs]' && mkdocs build --strict -d site"
    assert command in PAGE
    assert command in (HOME / "docs" / "index.md").read_text(encoding="utf-8")
