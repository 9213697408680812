"""Builds under a clock that was set back, and stores whose files come from the future."""

import os
import subprocess
import sys
import time

import click

from tests.campaign.trial import HOME, Trial, promise_of, table

_SET_BACK = """\
import sys, time
true = time.time, time.time_ns
time.time = lambda: true[0]() - {back}
time.time_ns = lambda: true[1]() - {back} * 10**9
from orca_recipes.cli.main import main
main(sys.argv[1:])
"""
DAY = 86_400


def tried_clocks(trial: Trial) -> list[str]:
    """Set clocks back between builds; what went wrong."""
    trial.begin_anew()
    trial.run().check_returncode()
    promised = promise_of(trial.out)
    lines, found = [], []
    for name, back in (("an hour", DAY // 24), ("a year", 365 * DAY), ("to 1970", int(time.time()) - 60)):
        for step, wanted in (
            ("a first build", "built"),
            ("again", "nothing to do"),
            ("from a store of the future", "built"),
        ):
            if step == "a first build":
                trial.begin_anew()
            elif step == "from a store of the future":
                _age(trial, back)
            fault = _built(trial, back, wanted, promised)
            lines.append((f"{name} back, {step}", "failed" if fault else "survived"))
            found += [f"{name} back, {step}: {fault}"] if fault else []
    click.echo(table("a clock that was set back", ("how", "result"), lines) + "\n")
    return found


def _age(trial: Trial, seconds: int) -> None:
    """Date the store into the future, and take the build away."""
    when = time.time() + seconds
    for path in (trial.folder / "store").rglob("*"):
        os.utime(path, (when, when))
    (trial.out / "manifest.json").unlink()
    for path in sorted(trial.out.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def _built(trial: Trial, back: int, wanted: str, promised: dict[str, str]) -> str:
    command = [sys.executable, "-c", _SET_BACK.format(back=back), *trial.arguments]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True)
    if done.returncode or wanted not in done.stdout:
        return f"exit status {done.returncode}: {done.stdout}{done.stderr}"
    return "; ".join(trial.faults(promised))
