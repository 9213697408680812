"""A build and an export of it."""

from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.export.export import export
from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from tests.run.small import STUDENT, SUMS, asked, sums, write_rows


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty sums."""
    folder = tmp_path_factory.mktemp("card")
    (folder / "recipe.toml").write_text(SUMS + STUDENT, encoding="utf-8")
    write_rows(folder / "sums.jsonl", sums(60))
    build(asked(folder / "recipe.toml"), Progress())
    return folder / "out"


@pytest.fixture(scope="session")
def exported(built: Path) -> Path:
    """The same for TRL."""
    catalogue = Catalogue()
    exporter = catalogue.kind("orca_exporters", "hf")(kind="hf")
    place = built.parent / "export"
    export(built, exporter, out=place, datasets=(), kinds=catalogue, progress=Progress())  # type: ignore[arg-type]
    return place
