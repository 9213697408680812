"""The account of one collection's rows on their way to one dataset, stage by stage.

Each stage's part `account` holds what the stages before it held and its own, so that whoever packs tokens needs no
earlier stage: those may be gone from the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orca_recipes.contract.frames import completed
from orca_recipes.store.arrow_files import hexadecimal, read_frame, write_frame
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

ACCOUNT = "account"


@dataclass(frozen=True)
class Account:
    """Reports of stages and the rows they rejected.

    Attributes:
        reports: verb to what its stage reported, in the order in which they ran.
        rejected: one line a lost row: id_hi, id_lo (null where it was never read), file, place, stage, reason; and
            twin_hi, twin_lo, the id of the row that holds a duplicate's context, null elsewhere.
    """

    reports: Mapping[str, Mapping[str, Any]]
    rejected: pl.DataFrame

    def followed_by(self, verb: str, report: Mapping[str, Any], rejected: Sequence[pl.DataFrame]) -> Account:
        """Return the account with one more stage added."""
        import polars as pl

        schema = rejected_schema()
        frames = [completed(frame, schema) for frame in (self.rejected, *rejected)]
        return Account({**self.reports, verb: report}, pl.concat(frames))


def keep_account(folder: StageFolder, account: Account) -> str:
    """Store an account as a part of a stage, and give the part's name."""
    writer = PartWriter(folder.path, ACCOUNT)
    write_frame(writer.path(".arrow"), account.rejected)
    writer.keep([".arrow"], {"reports": [[verb, report] for verb, report in account.reports.items()]})
    return ACCOUNT


def read_account(folder: StageFolder) -> Account:
    """Read the account stored in a finished stage."""
    part = folder.part(ACCOUNT)
    return Account(dict(part.report["reports"]), read_frame(part.file(".arrow")))


def rejected_schema() -> dict[str, Any]:
    """Return the columns of the rejection table of an account, with their polars types."""
    import polars as pl

    ids = {"id_hi": pl.UInt64, "id_lo": pl.UInt64}
    told = {"file": pl.String, "place": pl.Int64, "stage": pl.String, "reason": pl.String}
    return {**ids, **told, "twin_hi": pl.UInt64, "twin_lo": pl.UInt64}


def ids_of(table: pl.DataFrame, name: str = "id") -> pl.Series:
    """Format the ids of rejected rows, or of their twins, in hexadecimal; null where there is none."""
    import polars as pl

    known = table[f"{name}_hi"].is_not_null()
    text = hexadecimal(table[f"{name}_hi"].fill_null(0), table[f"{name}_lo"].fill_null(0))
    return pl.DataFrame({"known": known, "text": text}).select(id=pl.when("known").then("text"))["id"]


def count_reasons(reasons: pl.Series) -> dict[str, int]:
    """Reason to number of rows, most frequent first."""
    counts = reasons.value_counts().sort(["count", reasons.name], descending=[True, False])
    return dict(counts.iter_rows())


def joined_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add up counts by reason."""
    total: dict[str, int] = {}
    for part in counts:
        for reason, number in part.items():
            total[reason] = total.get(reason, 0) + number
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
