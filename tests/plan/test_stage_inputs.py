"""Plans of thousands of collections: what a draw depends on is told without a list of all earlier ones."""

from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.plan import stage_inputs, stages
from orca_recipes.plan.compile import compile_plan
from orca_recipes.plan.pins import FilePin, Pins, SourcePin
from orca_recipes.plan.stages import Plan
from orca_recipes.recipe.load import load_recipe

LISTED = 20

BY_RATE = '{ draw = "proportional" }'


@pytest.fixture(autouse=True)
def few_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_inputs, "LISTED", LISTED)
    monkeypatch.setattr("orca_recipes.plan.mixing.LISTED", LISTED)


def planned(folder: Path, count: int, take: str = "{ all = true }", *, other: int | None = None) -> Plan:
    """Plan a mixture of `count` collections; other: the place of one whose file has other content."""
    tables = [f'[collections.c{place}]\nkind = "files"\npath = "c{place}.jsonl"\n' for place in range(count)]
    takes = [f"take.c{place} = {take}" for place in range(count)]
    path = folder / "many.toml"
    path.write_text(
        "\n".join(['name = "many"', *tables, "[mixtures.main]", "rows = 100" if "all" not in take else "", *takes])
        + '\n[tokenizer]\nkind = "hf"\npath = "t.json"\n[template]\nkind = "chatml"\n[packing]\nrow_tokens = 8\n'
    )
    files = {f"c{place}": f"blake2b:{place + (1000 if place == other else 0):064x}" for place in range(count)}
    pins = {name: SourcePin((FilePin(f"{name}.jsonl", 1, digest),)) for name, digest in files.items()}
    recipe = load_recipe(path, catalogue=Catalogue()).recipe
    return compile_plan(recipe, Pins(pins, SourcePin(), "blake2b:0", "blake2b:1", {}))


def draws(plan: Plan) -> list[str]:
    return [stage.fingerprint for stage in plan if stage.verb == "mix"]


@pytest.mark.parametrize("take", ["{ all = true }", BY_RATE])
def test_what_tells_the_stages_grows_with_the_collections_and_not_with_their_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, take: str
):
    told: list[int] = []

    def counting(text: str) -> str:
        told.append(len(text))
        return f"{len(told):064x}"

    monkeypatch.setattr(stages, "digest_of_text", counting)
    sums = []
    for count in (100, 200, 400):
        told.clear()
        planned(tmp_path, count, take)
        sums.append(sum(told))
    assert sums[2] - sums[1] < 2.1 * (sums[1] - sums[0])


def test_a_draw_holds_no_list_of_its_own_of_all_earlier_collections(tmp_path: Path):
    last = planned(tmp_path, 40)["mix main/c39"]
    assert isinstance(last.inputs, stage_inputs.ManyInputs)
    names = list(last.inputs)
    assert names[0] == "read c39"
    assert sorted(names) == sorted([f"{verb} c{place}" for place in range(40) for verb in ("read", "contexts")])


def test_a_collection_added_at_the_end_leaves_all_other_draws_as_they_are(tmp_path: Path):
    for count in (9, 10, 11, 12, 40):
        assert draws(planned(tmp_path, count + 1))[:count] == draws(planned(tmp_path, count))


@pytest.mark.parametrize("other", [0, 12, 30])
def test_other_content_of_a_collection_reruns_its_own_draw_and_all_later_ones(tmp_path: Path, other: int):
    before, after = draws(planned(tmp_path, 40)), draws(planned(tmp_path, 40, other=other))
    assert [old == new for old, new in zip(before, after, strict=True)] == [place < other for place in range(40)]


def test_by_rate_other_content_of_any_collection_reruns_all_draws(tmp_path: Path):
    before, after = draws(planned(tmp_path, 40, BY_RATE)), draws(planned(tmp_path, 40, BY_RATE, other=39))
    assert not set(before) & set(after)


def test_other_tasks_of_earlier_collections_draw_later_ones_anew(tmp_path: Path):
    one, two = (
        planned(tmp_path, 3, f'{{ all = true, tasks = "{task}" }}')["mix main/c2"].decisive for task in ("one", "two")
    )
    assert one["duplicates_in"] != two["duplicates_in"]
    assert "duplicates_in" not in planned(tmp_path, 3)["mix main/c2"].decisive
