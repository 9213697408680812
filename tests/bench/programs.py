"""The program that is measured, and another commit of this repository that is measured beside it."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path

import click

HOME = Path(__file__).parents[2]


@dataclass(frozen=True)
class Program:
    """A commit, and its command line."""

    commit: str
    command: Path


def here() -> Program:
    """What is installed; a plus stands behind the commit of a tree that was changed since."""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return Program(_git("rev-parse", "--short", "HEAD") + ("+" if changed else ""), _command(Path(sys.prefix)))


def installed(revision: str, folder: Path) -> Program:
    """Install another commit in an environment of its own, which sees the libraries of this one.

    Raises: UsageError where there is no such commit; CalledProcessError where it cannot be installed.
    """
    try:
        commit = _git("rev-parse", "--short", "--verify", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError as error:
        raise click.UsageError(f"there is no commit {revision} in {HOME}: name one of `git log`") from error
    tree, environment = folder / commit, folder / f"{commit}-venv"
    tree.mkdir(parents=True)
    archive = folder / f"{commit}.tar"
    _git("archive", "--output", str(archive), commit)
    with tarfile.open(archive) as members:
        members.extractall(tree, filter="data")
    venv.create(environment)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text("\n".join(_libraries()) + "\n", encoding="utf-8")
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", str(tree)]
    subprocess.run([sys.executable, "-m", "pip", "--python", environment / "bin" / "python", *words], check=True)
    # Its own code alone may be imported, not what lies in the tree it was made of.
    shutil.rmtree(tree)
    return Program(commit, _command(environment))


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", HOME, *words], check=True, capture_output=True, text=True).stdout.strip()


def _command(environment: Path) -> Path:
    return environment / "bin" / "orca-recipe"


def _libraries() -> list[str]:
    """Where libraries lie that this interpreter imports, but for this project itself."""
    standard = Path(sysconfig.get_path("stdlib"))
    left_out = {HOME, HOME / "plugins", standard, standard / "lib-dynload"}
    return [place for place in sys.path[1:] if Path(place).is_dir() and Path(place) not in left_out]
