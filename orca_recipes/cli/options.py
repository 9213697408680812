"""Arguments, options, recipe loading and printing shared by the commands."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from orca_recipes.errors import PluginError
from orca_recipes.objects.address import is_address
from orca_recipes.shards.show.visible import visible

# Keys of click's `meta`, which all plugins of click share: so they begin with our name.
_LOADED = "orca_recipes.loaded"
_COPIES = "orca_recipes.copies"

OWN_PROCESS = "orca_recipes.own_process"
"""The object of a command line that is all that its process does."""

if TYPE_CHECKING:
    from orca_recipes.recipe.load import LoadedRecipe
    from orca_recipes.run.build import Asked

Command = TypeVar("Command", bound=Callable[..., Any])

RECIPE = click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))


class _Store(click.Path):
    """A folder, or a store's address, converted to the folder of its local cache."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_address(value):
            from orca_recipes.store.shared_store import shared_root

            return shared_root(value)
        return super().convert(value, param, ctx)


class _Traces(click.Path):
    """A folder, or the address of a trace store, converted to the folder of its local cache."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_address(value):
            from orca_recipes.traces.shared_traces import shared_traces_root

            return shared_traces_root(value)
        return super().convert(value, param, ctx)


class BuildPlace(click.Path):
    """The place of a build to be written: a folder, or an address, converted to the folder of its local copy."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_address(value):
            found = self.place(value)
            if ctx is not None:
                ctx.find_root().meta.setdefault(_COPIES, {})[str(found)] = value.rstrip("/")
            return found
        return super().convert(value, param, ctx)

    def place(self, address: str) -> Path:
        from orca_recipes.store.shared_build import build_place

        return build_place(address)


class BuildPath(BuildPlace):
    """A build that is read: as `BuildPlace`, with the files that every reader needs, or all of them."""

    def __init__(self, *, whole: bool = True) -> None:
        super().__init__(path_type=Path)
        self._whole = whole

    def place(self, address: str) -> Path:
        from orca_recipes.store.shared_build import looked_at

        return looked_at(address, whole=self._whole)


class DiskPath(click.Path):
    """A folder or file of a disk, and no address."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_address(value):
            self.fail("an address will not do here; name a place on a disk.", param, ctx)
        return super().convert(value, param, ctx)


class _Late(click.Path):
    """A folder, or an address as it was given: `ask` converts it, behind the fork that its client would forbid."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, str) and is_address(value) else super().convert(value, param, ctx)


BUILD = click.argument("directory", metavar="DIR", type=BuildPath())
LAZY_BUILD = click.argument("directory", metavar="DIR", type=BuildPath(whole=False))
"""As BUILD, for commands that read a part of a build: of one at an address, files are fetched when they are opened."""


def _store(kind: click.Path) -> Callable[[Command], Command]:
    return click.option(
        "--store",
        type=kind,
        metavar="PLACE",
        default=Path(".orca/store"),
        envvar="ORCA_STORE",
        show_default=True,
        show_envvar=True,
        help="Where finished stages are kept: a folder, or an address as s3://BUCKET/PATH.",
    )


STORE = _store(_Store(path_type=Path, file_okay=False))

TRACES = click.option(
    "--traces",
    type=_Traces(path_type=Path, file_okay=False),
    metavar="PLACE",
    envvar="ORCA_TRACES",
    show_envvar=True,
    help="Where bought answers are kept: a folder, or an address as s3://BUCKET/PATH.  [default: this user's data "
    "directory]",
)

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def recipe_options(command: Command) -> Command:
    """Add the argument and options of every command that reads a recipe."""
    options = [
        RECIPE,
        click.option("--profile", metavar="NAME", help="Merge [profiles.NAME] into the recipe."),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="PATH=VALUE",
            help="Override one value: packing.row_tokens=4096.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def store_options(command: Command) -> Command:
    """Add the options of every command that uses the store, for `ask`."""
    options = [
        _store(_Late(path_type=Path, file_okay=False)),
        click.option(
            "--out",
            type=_Late(path_type=Path),
            metavar="PLACE",
            help="The build directory: a folder, or an address as s3://BUCKET/PATH.  [default: build/<name>]",
        ),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Take at most N examples a collection."),
        click.option("--rehash", is_flag=True, help="Read every source file again, changed or not."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def load(recipe: Path, profile: str | None, overrides: tuple[str, ...]) -> LoadedRecipe:
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.recipe.load import load_recipe

    loaded = load_recipe(recipe, catalogue=Catalogue(), profile=profile, overrides=overrides)
    click.get_current_context().find_root().meta[_LOADED] = loaded
    return loaded


def warn(loaded: LoadedRecipe) -> tuple[str, ...]:
    """Say on stderr what a recipe asks for and hardly means; return the sentences."""
    from orca_recipes.plan.warnings import warnings

    found = warnings(loaded.recipe)
    for sentence in found:
        print_text(f"warning: {loaded.with_line(sentence)}", err=True)
    return found


def with_line(context: click.Context, sentence: str) -> str:
    """Add its line to a fault of the recipe that the command loaded."""
    loaded: LoadedRecipe | None = context.find_root().meta.get(_LOADED)
    return sentence if loaded is None else loaded.with_line(sentence)


def ask(loaded: LoadedRecipe, **options: Any) -> Asked:
    """Resolve the options of a command to a request for a build; a process that does nothing else goes on in a fork.

    Not where answers are bought: an interrupt that came twice would not wait for those under way.
    """
    from orca_recipes.front.recipe import asked_of
    from orca_recipes.plan.used_parts import collects

    context = click.get_current_context()
    is_own = context.find_root().obj == OWN_PROCESS
    if is_own and not any(collects(loaded.recipe, name) for name in loaded.recipe.datasets):
        from orca_recipes.run.work.watched import watched

        options["work"] = watched()
    for name, kind in (("store", _Store(path_type=Path)), ("out", BuildPlace(path_type=Path))):
        if isinstance(options[name], str):
            options[name] = kind.convert(options[name], None, context)
    return asked_of(loaded, **options)


def print_text(text: str, *, err: bool = False) -> None:
    """Print what may hold names and texts out of data sets: none of it steers a terminal."""
    click.echo(visible(with_addresses(text), keep="\n\t"), err=err)


def with_addresses(text: str) -> str:
    """Replace the folders of builds' local copies in a text by the addresses the user gave."""
    context = click.get_current_context(silent=True)
    copies: Mapping[str, str] = context.find_root().meta.get(_COPIES, {}) if context is not None else {}
    for folder, address in copies.items():
        text = text.replace(folder, address)
    return text


def print_json(value: Any) -> None:
    """Print JSON in ASCII: nothing in it steers a terminal, and no value is changed."""
    click.echo(json.dumps(value, indent=1))


def print_json_lines(values: Iterable[Any]) -> None:
    """Print each value as one line of ASCII JSON."""
    for value in values:
        click.echo(json.dumps(value))


def peak_bytes() -> int:
    """Return this process's peak memory in bytes."""
    from orca_recipes.run.work.usage import peak_bytes

    return peak_bytes()


@contextmanager
def stdout_as_stderr() -> Iterator[None]:
    """Redirect stdout to stderr meanwhile, for child processes too."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def need_the_trainer() -> None:
    """Check that what the trainer stands on is installed, before it is imported, and silence its warnings about itself.

    Raises: PluginError where it is not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in ("torch", "megatron", "safetensors")):
        raise PluginError("the trainer needs an extra package: pip install 'orca-recipes[train]'")
    warnings.simplefilter("ignore")
