"""What became of the trials of a campaign, by kind, and how it is told."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tests.campaign.trial import table


@dataclass
class Met:
    """What became of inputs; found: refused with a sentence. failed: number, what it was, and what went wrong."""

    tried: int = 0
    found: int = 0
    unknowable: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        return {"tried": self.tried, "found": self.found, "unknowable": self.unknowable, "failed": self.failed}


def joined(several: Sequence[Met]) -> Met:
    """What several processes met of one kind."""
    return Met(
        sum(one.tried for one in several),
        sum(one.found for one in several),
        [line for one in several for line in one.unknowable],
        [line for one in several for line in one.failed],
    )


def tell(by_kind: Mapping[str, Met], heads: tuple[str, str, str], json_file: Path | None) -> None:
    """Print a table of what was tried and each failure, write the sum where it is asked for, and end the program.

    Args:
        heads: the table's title, and the heads of its first and third columns.
    """
    title, kind, found = heads
    rows = [(name, one.tried, one.found, len(one.failed)) for name, one in by_kind.items()]
    click.echo(table(title, (kind, "tried", found, "failed"), rows))
    told = Met()
    for one in by_kind.values():
        told.tried, told.found = told.tried + one.tried, told.found + one.found
        told.failed += one.failed
    for line in told.failed:
        click.echo(f"FAILED {line}")
    if json_file is not None:
        json_file.write_text(json.dumps(told.told()))
    sys.exit(1 if told.failed else 0)
