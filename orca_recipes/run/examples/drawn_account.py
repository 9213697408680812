"""The account of a draw: where rows went that were read and drawn, before anything is made of them."""

from __future__ import annotations

from orca_recipes.run.examples.duplicates import read_duplicates, rejected_duplicates
from orca_recipes.run.work.account import Account
from orca_recipes.store.arrow_files import IDS, read_frame
from orca_recipes.store.stage_folder import StageFolder


def account_of_drawing(read: StageFolder, mix: StageFolder) -> Account:
    """Begin the account, from finished stages `read` and `mix`."""
    import polars as pl

    table = read_frame(read.file(f"{IDS}.rejected.arrow"))
    no_id = [pl.lit(None, dtype=pl.UInt64).alias(name) for name in ("id_hi", "id_lo")]
    rejected = table.select(*no_id, "file", "place", pl.lit("read").alias("stage"), "reason")
    return Account({"read": read.receipt["report"]}, rejected).followed_by(
        "mix", mix.receipt["report"], [rejected_duplicates(read, read_duplicates(mix))]
    )
