"""The command trust, and the question that is asked on a terminal before a secret goes to a new host."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import click

from orca_recipes.cli.options import JSON, print_json, print_text
from orca_recipes.store.disk_faults import writing

if TYPE_CHECKING:
    from orca_recipes.recipe.model import Recipe

_HOST = click.argument("host", metavar="HOST")
_VARIABLE = click.argument("variable", metavar="VARIABLE")


@click.group()
def trust() -> None:
    """Say which hosts recipes may send requests to, and which environment variable's value goes with them.

    \b
    orca-recipe trust add api.openai.com OPENAI_API_KEY
    orca-recipe trust add http://10.0.0.5:8000 -          plain http, no key
    orca-recipe trust list

    A recipe of somebody else may name any host and any variable: `plan` and `collect` name them, and nothing is sent to
    a pair that is not on your list. The list is yours (ORCA_CONFIG, else your configuration folder), never a project's.
    This machine itself needs no entry.
    """


@trust.command()
@_HOST
@_VARIABLE
@JSON
def add(host: str, variable: str, as_json: bool) -> None:
    """Allow requests to HOST with the value of VARIABLE, or with no key where VARIABLE is -."""
    from orca_recipes import trust as allowing

    pair = allowing.destination(host, variable)
    with _writing_list():
        told = "allowed" if allowing.add(pair) else "allowed already"
    _tell(told, pair.host, pair.variable, as_json)


@trust.command()
@_HOST
@_VARIABLE
@JSON
def remove(host: str, variable: str, as_json: bool) -> None:
    """Take the pair off the list: nothing is sent to HOST with VARIABLE any more."""
    from orca_recipes import trust as allowing

    pair = allowing.destination(host, variable)
    with _writing_list():
        told = "not allowed any more" if allowing.remove(pair) else "was not on the list"
    _tell(told, pair.host, pair.variable, as_json)


@trust.command("list")
@JSON
def list_command(as_json: bool) -> None:
    """Print all pairs that are allowed."""
    from orca_recipes import trust as allowing
    from orca_recipes.text_table import in_columns

    pairs = allowing.allowed()
    if as_json:
        print_json({"file": str(allowing.trust_file()), "allowed": allowing.as_json(pairs)})
        return
    for line in in_columns([("host", "variable"), *((each.host, each.variable) for each in pairs)]):
        print_text(line)


def _writing_list() -> AbstractContextManager[None]:
    from orca_recipes.trust import trust_file

    path = trust_file()
    return writing(path.parent, f"your list {path}", "name another folder with ORCA_CONFIG")


def ask_where_new(recipe: Recipe) -> None:
    """Ask, on a terminal, for each pair of host and variable that the recipe's teachers and engine need, if it is new.

    Elsewhere nothing is asked: sending is refused with a sentence when it comes to that.
    """
    from orca_recipes import trust as allowing
    from orca_recipes.plan.used_parts import collects

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    asked = dict.fromkeys(recipe.datasets[each].teacher for each in recipe.datasets if collects(recipe, each))
    senders = {f"teachers.{name}": recipe.teachers[name].destinations() for name in asked}
    for owner, pairs in {**senders, "engine": recipe.engine.destinations()}.items():
        for pair in allowing.not_allowed(pairs):
            print_text(f"{owner} of this recipe sends requests to {pair}.", err=True)
            if click.confirm("Allow that, from now on?", default=False, err=True):
                with _writing_list():
                    allowing.add(pair)


def _tell(what: str, host: str, variable: str, as_json: bool) -> None:
    if as_json:
        print_json({"host": host, "variable": variable, "state": what})
    else:
        print_text(f"{host} {variable}: {what}")
