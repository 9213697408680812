"""Archives of older programs go on to give their data, and the page says which release builds which locks."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from orca_recipes import __version__
from orca_recipes.archive.tar_file import FORMAT
from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.pieces import PIECES
from orca_recipes.run.pinning.lock_file import VERSION
from tests.archive.test_archive import orca

HOME = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(path.name for path in (HOME / "tests" / "old").glob("archive-*.tar.xz")))
def test_an_archive_of_an_older_program_gives_the_data_that_it_was_packed_with(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.tar").write_bytes(lzma.decompress((HOME / "tests" / "old" / name).read_bytes()))
    told = json.loads(orca("rebuild", "old.tar", "--out", "B", "--workers", "1", "--json"))
    assert (told["equal"], told["missing"], told["why"]) == (True, [], None)


def test_the_table_of_releases_names_this_one_with_its_revisions() -> None:
    page = (HOME / "docs" / "rebuilding.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {__version__} | ")]
    _, _, locks, archives, revisions, _ = line.split("|")
    assert (locks.strip(), archives.strip()) == (f"version {VERSION}", f"format {FORMAT}")
    catalogue = Catalogue()
    found = []
    for piece in (piece for piece in PIECES if piece.is_of_recipe):
        for offer in catalogue.offers(piece.hook):
            revision = catalogue.kind(piece.hook, f"{offer.distribution}:{offer.name}").revision
            if offer.distribution == "orca-recipes" and revision > 1:
                found.append(f"`{piece.hook.removeprefix('orca_')}:{offer.name}` {revision}")
    assert revisions.strip() == ", ".join(found)
