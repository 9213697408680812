"""A model is trained on a build of format 1 as on one of format 2 with the same tokens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from orca_recipes.shards.layout import index_path
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.writer import write_pair
from orca_recipes.train.processes.rank import train_as_rank
from orca_recipes.train.training_settings import Request
from tests.train.builds import read_steps

Fork = Callable[..., list[Any]]


def test_a_build_of_format_1_is_trained_on_and_guards_change_no_row(old: Path, tmp_path: Path, fork_ranks: Fork):
    run = tmp_path / "run"
    fork_ranks(1, lambda rendezvous: train_as_rank(Request(build=old / "out", out=run, steps=2), rendezvous=rendezvous))
    losses = [step["loss"] for step in read_steps(run)]
    assert len(losses) == 2
    assert losses[1] < losses[0] < 9
    manifest = read_manifest(old / "out")
    views = {"row_tokens": manifest.row_tokens, "align": manifest.align, "pad_id": manifest.pad_id}
    for counts in manifest.datasets["main"].shards:
        shard = Shard.open(old / "out" / counts.prefix, proven=True)
        write_pair(
            prefix=tmp_path / "guarded",
            vocabulary_size=manifest.vocabulary_size,
            blocks=iter([shard.tokens]),
            segment_lengths=shard.segments.lengths,
            segment_modes=shard.segments.modes,
            row_starts=shard.segments.row_starts,
            guarded=True,
        )
        guarded = Shard.open(tmp_path / "guarded", proven=True)
        assert index_path(tmp_path / "guarded").stat().st_size > index_path(shard.prefix).stat().st_size
        for row in range(shard.rows):
            one, other = (opened.training_view(row, **views) for opened in (shard, guarded))
            for name in ("tokens", "labels", "loss_mask", "position_ids", "cu_seqlens"):
                assert np.array_equal(getattr(one, name), getattr(other, name)), name
