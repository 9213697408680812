"""What settings of a trainer other than those told would do is counted, as told by the format's own reader."""

from dataclasses import replace
from pathlib import Path

import pytest

from orca_plugins.exporters.axolotl import Axolotl
from orca_plugins.exporters.bridge import Bridge
from orca_plugins.exporters.hf import HF
from orca_plugins.exporters.llamafactory import LlamaFactory
from orca_plugins.exporters.messages_lines import Messages
from orca_plugins.exporters.rl import RL
from orca_plugins.exporters.skyrl import SkyRL
from orca_recipes.contract.exporter import BuildToExport, ShardToExport, Written
from orca_recipes.export.export import Exported
from tests.export import wheels
from tests.export.conftest import quickstart, sums
from tests.export.oracle import Labelled, examples_of, labels_in, rows_of
from tests.export.test_export import exported
from tests.train.builds import make_build

__all__ = ["quickstart", "sums"]

TRAINED_TOO = "tokens trained that are no labels"


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions and answers of many lengths, some of either of more than 512 tokens and some of more than 1,024."""
    pairs = [(f"{'q ' * (at * 97 % 900)}{at}?", f"{'a ' * (at * 61 % 700)}{at}") for at in range(24)]
    return make_build(tmp_path_factory.mktemp("long") / "made", odds=3, pairs=pairs, row_tokens=2048)


@pytest.fixture
def lib(request: pytest.FixtureRequest) -> Path:
    return wheels.unpacked(*request.param)


def counts(told: Exported) -> dict[tuple[str, str], int]:
    return {(str(one["setting"]), str(one["effect"])): int(one["count"]) for one in told.wrong_settings}


def test_trl_settings_that_lose_labels_or_join_examples_are_counted(quickstart: Path, tmp_path: Path):
    rows = list(rows_of(quickstart))
    examples = [example for row in rows for example in row]
    joined = len(examples) - len(rows)
    tokens = sum(len(ids) for ids, _ in examples)
    found = counts(exported(quickstart, HF(packed=True), tmp_path / "packed"))
    whole = [
        (tuple(t for ids, _ in row for t in ids), tuple(label for _, labels in row for label in labels)) for row in rows
    ]
    assert found == {
        ("`max_length` left at TRL's 1,024", "labels cut off"): labels_in([(ids, one[1024:]) for ids, one in whole]),
        (
            "`completion_mask` in place of `labels`, without `completion_only_loss=True`",
            "tokens trained that are no labels",
        ): tokens - len(examples) - labels_in(examples),
        ("`packing=True`", "examples joined to the one before"): joined,
        ("`padding_free=True` left out", "examples joined to the one before"): joined,
    }
    assert joined > 0
    # No example is longer than TRL's default, so that nothing of it is cut where TRL packs.
    assert len(counts(exported(quickstart, HF(), tmp_path / "plain"))) == 1
    page = (tmp_path / "packed" / "README.md").read_text()
    assert f"- `packing=True`: {joined:,} examples joined to the one before\n" in page


def test_bridges_answer_only_loss_is_counted(quickstart: Path, tmp_path: Path):
    examples = examples_of(quickstart)
    ((key, number),) = counts(exported(quickstart, Bridge(), tmp_path / "out")).items()
    assert key[0] == "`answer_only_loss=False`"
    assert number == sum(len(ids) - 1 for ids, _ in examples) - labels_in(examples)


@pytest.mark.parametrize("packed", [False, True])
def test_a_second_export_counts_the_same(quickstart: Path, tmp_path: Path, packed: bool):
    first, second = (exported(quickstart, HF(packed=packed), tmp_path / name) for name in ("one", "two"))
    assert first.wrong_settings == second.wrong_settings


@pytest.mark.slow
@pytest.mark.parametrize("lib", [wheels.AXOLOTL], indirect=True)
def test_axolotl_drops_the_labels_that_are_counted(long: Path, tmp_path: Path, lib: Path):
    told = exported(long, Axolotl(), tmp_path / "out", "sums")
    left = wheels.read_by("axolotl_lengths", tmp_path / "cache", "512", wheels=lib, folder=tmp_path / "out")
    lost = told.trained_labels - left["labels"]
    assert lost == labels_in([one for one in examples_of(long, "sums") if len(one[0]) > 512]) > 0
    assert left["default"] == 512
    rows = list(rows_of(long, "sums"))
    assert counts(told) == {
        ("`sequence_len` left at axolotl's 512", "labels dropped with their examples"): lost,
        (
            "`attn_implementation` left out",
            "examples that see the one before, if they are packed as the build's rows are",
        ): sum(map(len, rows)) - len(rows),
    }


@pytest.mark.slow
@pytest.mark.parametrize("lib", [wheels.LLAMAFACTORY], indirect=True)
def test_llamafactory_pretrains_on_as_many_tokens_as_are_counted(quickstart: Path, tmp_path: Path, lib: Path):
    told = exported(quickstart, LlamaFactory(), tmp_path / "out")
    read = wheels.read_by("llamafactory_pretraining", wheels=lib, folder=tmp_path / "out")
    ours = examples_of(quickstart)
    # A model asks for no first token.
    asked = [[label >= 0 for label in labels[1:]] for _, labels in read]
    wanted = [[label >= 0 for label in labels[1:]] for _, labels in ours]
    pairs = [pair for mine, theirs in zip(wanted, asked, strict=True) for pair in zip(mine, theirs, strict=True)]
    assert [tuple(ids) for ids, _ in read] == [ids for ids, _ in ours]
    lost = pairs.count((True, False))
    found = {("`stage: pt`", TRAINED_TOO): pairs.count((False, True))}
    assert counts(told) == found | ({("`stage: pt`", "labels lost, which are the pad token"): lost} if lost else {})


def test_pretraining_takes_the_labels_of_a_pad_token_that_answers_hold(quickstart: Path, tmp_path: Path):
    pad = examples_of(quickstart)[0][0][-1]

    class Ended(LlamaFactory):
        def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
            return super().write(build=replace(build, pad_id=pad), shard=shard, folder=folder)

    found = counts(exported(quickstart, Ended(), tmp_path / "out"))
    ours = examples_of(quickstart)
    assert found["`stage: pt`", "labels lost, which are the pad token"] == sum(
        label == pad for _, labels in ours for label in labels
    )
    assert found["`stage: pt`", TRAINED_TOO] == sum(
        label < 0 and token != pad for ids, labels in ours for token, label in zip(ids[1:], labels[1:], strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("lib", [wheels.SKYRL], indirect=True)
def test_an_epoch_of_skyrl_over_several_datasets_leaves_out_what_is_counted(sums: Path, tmp_path: Path, lib: Path):
    told = exported(sums, SkyRL(), tmp_path / "out")
    sizes = [len(examples_of(sums, name)) for name in ("sums", "odds")]
    drawn = wheels.read_by("skyrl_epoch", "400", *map(str, sizes), wheels=lib, folder=tmp_path)
    ((key, number),) = counts(told).items()
    assert key == (
        "all datasets in `pretokenized_dataset_paths`",
        "examples that an epoch is not expected to draw",
    )
    # A mean of 400 epochs is off by a quarter of an example, and each of two numbers is rounded.
    assert number == pytest.approx(sum(sizes) - sum(drawn), abs=2)
    assert number > 10
    page = (tmp_path / "out" / "README.md").read_text()
    assert 'pretokenized_dataset_paths: ["odds"]' in page
    assert counts(exported(sums, SkyRL(), tmp_path / "one", "sums")) == {}


@pytest.mark.slow
@pytest.mark.parametrize("lib", [(*wheels.SKYRL, *wheels.VERL)], indirect=True)
def test_rl_trainers_drop_or_cut_as_many_prompts_as_are_counted(long: Path, tmp_path: Path, lib: Path):
    told = exported(long, RL(), tmp_path / "out", "sums")
    files = sorted(path.as_posix() for path in (tmp_path / "out" / "sums").glob("*.jsonl"))
    kept = wheels.read_by("rl_prompts", "512", *files, wheels=lib, folder=tmp_path / "out")
    assert (kept["defaults"], kept["verl filters"]) == ([512, 512, 512], False)
    examples = examples_of(long, "sums")
    prompts = [next(at for at, label in enumerate(labels) if label >= 0) for _, labels in examples]
    lost = sum(prompt > 512 for prompt in prompts)
    assert len(examples) - kept["skyrl"] == len(examples) - kept["verl"] == lost > 0
    unreached = sum(len(ids) - prompt > 512 for (ids, _), prompt in zip(examples, prompts, strict=True))
    assert counts(told) == {
        ("`data.max_prompt_length` left at verl's 512", "prompts without their beginning"): lost,
        ("`trainer.max_prompt_length` left at SkyRL's 512", "prompts dropped"): lost,
        (
            "`max_completion_length` left at TRL's 512, or verl's `data.max_response_length`",
            "references that no answer can reach",
        ): unreached,
    }
    assert unreached > 0


def test_text_that_trl_cuts_off_or_trains_too_is_counted(long: Path, tmp_path: Path):
    examples = examples_of(long, "sums")
    cut: list[Labelled] = [(ids, labels[1024:]) for ids, labels in examples]
    assert counts(exported(long, Messages(), tmp_path / "out", "sums")) == {
        ("`max_length` left at TRL's 1,024", "labels cut off"): labels_in(cut),
        ("`assistant_only_loss` left off (TRL)", TRAINED_TOO): sum(len(ids) - 1 for ids, _ in examples)
        - labels_in(examples),
    }
    assert labels_in(cut) > 0
