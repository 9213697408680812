"""The commands for authors of plugins: `plugin new`, `plugin test`, `plugin list`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import click

from orca_recipes import __version__
from orca_recipes.cli.options import JSON, print_json, print_text
from orca_recipes.errors import PluginError
from orca_recipes.store.disk_faults import writing


@click.group()
def plugin() -> None:
    """Write, test and list packages that offer kinds of their own."""


@plugin.command()
@click.argument("name")
@click.option("--hook", required=True, metavar="HOOK", help="What it offers: filters, sources, teachers, ...")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="A new or empty folder.  [default: NAME]")
@JSON
def new(name: str, hook: str, out: Path | None, as_json: bool) -> None:
    """Write a package that works as it stands: one kind with options, tests, and a recipe that uses it."""
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.packages.skeleton import new_package

    folder = Path(name) if out is None else out
    with writing(folder.parent, f"the package {folder}", "choose another place with --out"):
        files = new_package(name, hook, folder, catalogue=Catalogue(), version=__version__)
    if as_json:
        print_json({"directory": str(folder), "files": [str(path) for path in files]})
        return
    print_text("\n".join(str(path) for path in files))
    print_text(f"now: pip install -e {folder} && pytest {folder} && orca-recipe plugin test {name}")


@plugin.command()
@click.argument("name", required=False)
@JSON
def test(name: str | None, as_json: bool) -> None:
    """Hold the kinds of an installed package to the contract; without NAME, of the package of this folder.

    Exit status 1 where one breaks a promise; the smallest input that shows it is printed. A kind whose docstring names
    files that are not in the current folder is untried.
    """
    import json

    from orca_recipes.catalogue import Catalogue
    from orca_recipes.cli.options import stdout_as_stderr
    from orca_recipes.packages.conformance import tested

    distribution = name or _named_here()
    with stdout_as_stderr():
        found = tested(distribution, Catalogue(), Path.cwd())
    if as_json:
        print_json({"distribution": distribution, "kinds": [kind.as_json() for kind in found]})
    for kind in () if as_json else found:
        speed = "" if kind.microseconds_a_row is None else f", {kind.microseconds_a_row:.1f} µs a row"
        said = {True: f"sound{speed}", False: "unsound", None: "untried"}[kind.is_sound]
        print_text(f"{kind.hook} {kind.name}: {said}")
        for sentence in kind.untried:
            print_text(f"  {sentence}")
        for failure in kind.failures:
            print_text(f"  {failure.check}\n    on {json.dumps(failure.input, ensure_ascii=False)}")
    if any(kind.failures for kind in found):
        sys.exit(1)


@plugin.command("list")
@JSON
def list_packages(as_json: bool) -> None:
    """List the packages that offer kinds: version, kinds, contract, faults, and the time that importing them takes."""
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.contract import VERSION
    from orca_recipes.packages.listing import packages, packages_page

    found = packages(Catalogue())
    if as_json:
        print_json({"contract": VERSION, "plugins": [package.as_json() for package in found]})
    else:
        print_text(packages_page(found))


def _named_here() -> str:
    """Read the project's name from pyproject.toml in the current folder. Raises: PluginError where there is none."""
    path = Path("pyproject.toml")
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"])
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise PluginError(
            "this folder holds no pyproject.toml with a name; say which package: orca-recipe plugin test NAME"
        ) from fault
