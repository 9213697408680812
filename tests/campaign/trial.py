"""A build run as a user runs it, in a folder of its own, and what must be equal of two builds."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HOME = Path(__file__).parents[2]


@dataclass(frozen=True)
class Trial:
    """A folder with a store and a build; the recipe lies elsewhere, beside its data.

    environment: what the command finds set, beside what is set here.
    """

    folder: Path
    recipe: Path
    workers: int = 1
    more: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def arguments(self) -> list[str]:
        store = str(self.folder / "store")
        return [
            "build",
            str(self.recipe),
            "--out",
            str(self.out),
            "--store",
            store,
            "--workers",
            str(self.workers),
            *self.more,
        ]

    def run(self) -> subprocess.CompletedProcess[str]:
        """The command, to its end."""
        command = [sys.executable, "-m", "orca_recipes.cli", *self.arguments]
        return subprocess.run(command, cwd=HOME, capture_output=True, text=True, env=os.environ | self.environment)

    def begin(self) -> subprocess.Popen[str]:
        """The command, running in a process group of its own."""
        command = [sys.executable, "-m", "orca_recipes.cli", *self.arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        environment = os.environ | self.environment
        return subprocess.Popen(command, cwd=HOME, text=True, start_new_session=True, env=environment, **streams)

    def run_traced(self, log: Path, stop: str = "-") -> subprocess.CompletedProcess[str]:
        """The command under the tracer; see `traced`."""
        command = [sys.executable, "-m", "tests.campaign.traced", str(log), stop, *self.arguments]
        return subprocess.run(command, cwd=HOME, capture_output=True, text=True)

    def begin_anew(self) -> None:
        """Remove what earlier runs left, the recipe's lock too."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.recipe.with_suffix(".lock").unlink(missing_ok=True)

    def faults(self, promised: dict[str, str]) -> list[str]:
        """Why the build that lies here, or its surroundings, are not those of an undisturbed build."""
        return ([] if promise_of(self.out) == promised else ["other bytes"]) + self.left_over()

    def left_over(self) -> list[str]:
        """What an ended build should not have left lying about."""
        left = [path.name for path in self.folder.iterdir() if path.name.startswith(".out.")]
        left += [str(path) for path in (self.folder / "store" / "stages").rglob(".*")]
        return [f"left over: {path}" for path in left]


def promise_of(directory: Path) -> dict[str, str]:
    """Digest of every file whose bytes are promised, and the manifest's own, which covers the tables' contents."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.suffix != ".parquet"]
    found = {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != "manifest.json"
    }
    return found | {"manifest": json.loads((directory / "manifest.json").read_bytes())["digest"]}


def copied_recipe(name: str, folder: Path) -> Path:
    """One of the project's recipes with its data in a folder of its own, paths out of the project kept."""
    folder.mkdir(parents=True)
    for path in (HOME / "recipes").glob(f"{name}*"):
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        elif path.suffix == ".toml":
            text = path.read_text(encoding="utf-8").replace("../../shared", (HOME.parent / "shared").as_posix())
            (folder / path.name).write_text(text, encoding="utf-8")
    return folder / f"{name}.toml"


def end_group(process: "subprocess.Popen[str]", how: signal.Signals) -> None:
    """Signal a build and all of its workers, as a terminal or the kernel does."""
    os.killpg(process.pid, how)


def table(title: str, head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """A table as plain text."""
    rows = [[str(cell) for cell in line] for line in (head, *lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    told = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([title, *told])
