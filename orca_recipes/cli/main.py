"""The command `orca-recipe`.

Nothing heavy is imported before a command needs it, so that `--help`, `check` and a build with nothing to do answer at
once. A user's mistake is one sentence and exit status 2, a failure one sentence and 1; `--traceback` shows the rest.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any, NoReturn

import click

from orca_recipes import __version__
from orca_recipes.cli.archives import archive, rebuild
from orca_recipes.cli.exports import export
from orca_recipes.cli.first_recipe import init
from orca_recipes.cli.look import env, explain, kinds, schema, show, verify
from orca_recipes.cli.memory_limit import require_memory, without_memory
from orca_recipes.cli.models import export_hf, import_hf
from orca_recipes.cli.options import (
    print_text,
    with_line,
)
from orca_recipes.cli.plugin_at_fault import plugin_at_fault
from orca_recipes.cli.plugin_packages import plugin
from orca_recipes.cli.recipe_commands import build, check, clean, lock, plan
from orca_recipes.cli.reports import card, report
from orca_recipes.cli.sharing import diff, push, sign
from orca_recipes.cli.teachers import ask_command, collect, traces
from orca_recipes.cli.train import sample, train
from orca_recipes.cli.trusted_hosts import trust
from orca_recipes.errors import OrcaError
from orca_recipes.store.disk_faults import KEPT

_COMMANDS = {
    "From data to a build": {
        "init": "look at data and write the recipe that reads it",
        "check": "say every fault of a recipe, each with its line",
        "plan": "say what a build would do, why, and what it costs",
        "build": "build it; again, only what changed",
        "lock": "pin files, tokenizer and versions without building",
    },
    "Look at a build": {
        "show": "print rows as text, with what is trained; --rejected",
        "explain": "say why a token or row is there, or where it went",
        "verify": "prove that nothing is damaged or forged",
        "report": "write one page to look at in a browser",
        "diff": "say what differs between two recipes, locks or builds",
    },
    "Train, or hand it on": {
        "train": "train a model on a build",
        "sample": "ask a trained checkpoint a question",
        "import-hf": "begin from a Hugging Face model",
        "export-hf": "make a Hugging Face model of a checkpoint",
        "export": "write a build for another trainer (--to hf)",
        "push": "upload a build or an export to a hub",
        "card": "write the files that tell a hub what a build holds",
    },
    "Answers of models": {
        "ask": "print or send the requests of one example",
        "collect": "buy the answers that a recipe needs, build nothing",
        "traces": "look at stored answers, export or drop them",
        "trust": "allow hosts to be sent requests and keys",
    },
    "Keep": {
        "archive": "pack a recipe with all that it reads",
        "rebuild": "build an archive and compare the result",
        "sign": "sign a build with an SSH key",
        "clean": "free the store of stages that no build uses",
    },
    "Look up and extend": {
        "kinds": "list what a recipe can choose; NAME shows one",
        "schema": "print the JSON Schema that editors complete with",
        "plugin": "write, test and list packages of kinds of your own",
        "env": "print what a report of a bug needs",
    },
}
"""The lines of `orca-recipe --help`, in the order in which a newcomer needs them."""
_OBJECTS_A_COLLECTION = 1_000_000
_IN_STEPS = frozenset({"build", "plan", "lock", "collect", "rebuild", "train"})
"""Commands that go on, when they are given again, from the steps that were finished."""
_MOST_CHARS = 4_000
"""Of a line of a sentence."""


class _Group(click.Group):
    """Turns every fault into a sentence and an exit status."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands by what they are for; click would cut the first sentence of each docstring at 80 columns."""
        for title, lines in _COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(max(map(len, self.commands))), line) for name, line in lines.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        # click ends these itself, with its own sentences and exit statuses.
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except OrcaError as error:
            _fail(ctx, with_line(ctx, str(error)), error.exit_status)
        except KeyboardInterrupt:
            _stop(ctx)
        except BrokenPipeError:
            # Python flushes stdout once more at exit, and would print a second error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            # 128 + SIGPIPE, as a shell reports it.
            sys.exit(141)
        except OSError as error:
            _fail(ctx, without_memory(error) or _told(ctx, error), 1)
        except Exception as error:
            if sentence := without_memory(error):
                _fail(ctx, sentence, 1)
            said = f"{type(error).__name__}: {error} (--traceback shows where)"
            if plugin := plugin_at_fault(error):
                _fail(ctx, f"plugin {plugin} failed: {said}; tell its author, or choose another kind", 1)
            _fail(ctx, f"orca-recipe failed: {said}; report it, with what `orca-recipe env` prints", 1)


def _fail(ctx: click.Context, sentence: str, status: int) -> NoReturn:
    if ctx.params.get("traceback"):
        print_text(traceback.format_exc(), err=True)
    print_text("\n".join(map(_bounded, sentence.splitlines())), err=True)
    sys.exit(status)


def _bounded(line: str) -> str:
    """Cut the middle out of a line longer than 4,000 characters, as the text it quotes may be endless."""
    half = _MOST_CHARS // 2
    return line if len(line) <= _MOST_CHARS else f"{line[:half]} [...] {line[-half:]}"


def _stop(ctx: click.Context) -> NoReturn:
    try:
        # 130 is 128 + SIGINT, as a shell reports it.
        way_on = f"; {KEPT}: run the same command again to go on" if _keeps(ctx) else ""
        _fail(ctx, f"stopped{way_on}", 130)
    finally:
        if any(thread.daemon for thread in threading.enumerate()):
            # A stage that is still deep in a library would meet an interpreter that is being taken down, and might
            # crash: the process ends as a whole, which the store survives at any moment.
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(130)


def _told(ctx: click.Context, error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    kept = f"{KEPT}: " if _keeps(ctx) else ""
    return f"{where}{error.strerror or error}; {kept}mend this and run the same command again"


def _keeps(ctx: click.Context) -> bool:
    return ctx.invoked_subcommand in _IN_STEPS


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="orca-recipe")
@click.option("--traceback", is_flag=True, help="Show where in the program a fault was raised.")
def main(traceback: bool) -> None:
    """Compile instruction-tuning data: one recipe becomes packed Megatron shards.

    \b
    orca-recipe init data.jsonl -o recipe.toml   first; then check, plan and
    orca-recipe build recipe.toml                which makes build/NAME
    orca-recipe show build/NAME                  and verify, explain, train
    orca-recipe COMMAND --help                   every option of a command
    """
    require_memory()
    # Parts are what runs side by side: more threads inside a process cost CPU and gain nothing. Read when polars and
    # numpy load; the threads of numpy's linear algebra, which nothing here needs, wait by spinning.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    # Whoever starts a process of Python, we or a library: modules that lie in the current folder do not run in it.
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imports and a tokenizer's JSON are a million objects and no garbage: looking through them again and again was a
    # tenth of a short command.
    gc.set_threshold(_OBJECTS_A_COLLECTION, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)  # nor when all of it goes anyway: a sixth of a second


for command in (
    init,
    build,
    plan,
    lock,
    check,
    kinds,
    schema,
    env,
    verify,
    show,
    explain,
    diff,
    report,
    card,
    sign,
    export,
    push,
    clean,
    archive,
    rebuild,
    plugin,
    import_hf,
    export_hf,
    ask_command,
    collect,
    traces,
    trust,
    train,
    sample,
):
    main.add_command(command)
