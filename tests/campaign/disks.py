"""Builds on small file systems that fill up while they run."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tests.campaign.trial import Trial, promise_of, table

SIZES = 24


def tried_disks(trial: Trial) -> list[str]:
    """Fill disks of growing sizes with a store and a build; what went wrong."""
    trial.begin_anew()
    trial.run().check_returncode()
    promised = promise_of(trial.out)
    needed = sum(path.stat().st_size for path in trial.folder.rglob("*") if path.is_file())
    found, refused = [], 0
    for number in range(1, SIZES + 1):
        trial.begin_anew()
        size = needed * number // SIZES
        try:
            with small_disk(trial.folder, size):
                fault, was_full = _filled(trial, promised)
        except PermissionError:
            click.echo("full disks were not tried: this machine lets nobody mount one\n")
            return found
        refused += was_full
        found += [f"a disk of {size} bytes: {fault}"] if fault else []
    line = (SIZES, refused, SIZES - len(found))
    click.echo(
        table("store and build on one small disk", ("sizes tried", "full on the way", "survived"), [line]) + "\n"
    )
    return found


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes at a folder. Raises: PermissionError where mounting is refused."""
    options = f"size={max(size, 4096)}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True).returncode:
        raise PermissionError("mounting is refused")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _filled(trial: Trial, promised: dict[str, str]) -> tuple[str, bool]:
    """What went wrong ("" for nothing), and whether the disk was too small."""
    first = trial.run()
    if first.returncode == 0:
        return "; ".join(trial.faults(promised)), False
    told = first.stderr.splitlines()
    if first.returncode != 1 or "cannot be written" not in told[-1] or "Traceback" in first.stderr:
        return f"exit status {first.returncode}: {first.stderr}", True
    finished = {line.partition(":")[0] for line in told[:-1]}
    subprocess.run(["mount", "-o", "remount,size=1G", str(trial.folder)], check=True)
    again = trial.run()
    remade = finished & {line.partition(":")[0] for line in again.stderr.splitlines()}
    if again.returncode or remade:
        return f"with more room: exit status {again.returncode}, made again: {sorted(remade)}, {again.stderr}", True
    return "; ".join(trial.faults(promised)), True
