"""Where the rows of one collection went on their way to one dataset, stage by stage.

Each stage's part `account` holds what the stages before it held and its own, so that whoever packs tokens needs no
earlier stage: those may be gone from the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orca_recipes.run.arrow import read_frame, write_frame
from orca_recipes.run.read import IDS
from orca_recipes.run.store import PartWriter, StageFolder
from orca_recipes.run.tell import hexadecimal

if TYPE_CHECKING:
    import polars as pl

ACCOUNT = "account"


@dataclass(frozen=True)
class Account:
    """What became of rows.

    Attributes:
        reports: verb to what its stage reported, in the order in which they ran.
        rejected: one line a lost row: id_hi, id_lo (null where it was never read), file, place, stage, reason.
    """

    reports: Mapping[str, Mapping[str, Any]]
    rejected: pl.DataFrame

    def followed_by(self, verb: str, report: Mapping[str, Any], rejected: Sequence[pl.DataFrame]) -> Account:
        """The account after one more stage."""
        import polars as pl

        frames = [self.rejected, *(frame.select(self.rejected.columns) for frame in rejected)]
        return Account({**self.reports, verb: report}, pl.concat(frames))


def account_of_reading(read: StageFolder) -> Account:
    """The account as it begins, from a finished `read` stage."""
    import polars as pl

    table = read_frame(read.path / f"{IDS}.rejected.arrow")
    no_id = [pl.lit(None, dtype=pl.UInt64).alias(name) for name in ("id_hi", "id_lo")]
    rejected = table.select(*no_id, "file", "place", pl.lit("read").alias("stage"), "reason")
    return Account({"read": read.receipt["report"]}, rejected)


def keep_account(folder: StageFolder, account: Account) -> str:
    """Store an account as a part of a stage, and give the part's name."""
    writer = PartWriter(folder.path, ACCOUNT)
    write_frame(writer.path(".arrow"), account.rejected)
    writer.keep([".arrow"], {"reports": [[verb, report] for verb, report in account.reports.items()]})
    return ACCOUNT


def read_account(folder: StageFolder) -> Account:
    """The account that a finished stage holds."""
    part = folder.part(ACCOUNT)
    return Account(dict(part.report["reports"]), read_frame(part.file(".arrow")))


def ids_of(table: pl.DataFrame) -> pl.Series:
    """The ids of lost rows as people read them, null for those that were never read."""
    import polars as pl

    known = table["id_hi"].is_not_null()
    text = hexadecimal(table["id_hi"].fill_null(0), table["id_lo"].fill_null(0))
    return pl.DataFrame({"known": known, "text": text}).select(id=pl.when("known").then("text"))["id"]
