"""The project from Python: what the command line does, without its prints."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import orca_recipes
from orca_recipes import load_recipe, open_build
from orca_recipes.cli.main import main
from orca_recipes.errors import BuildError, RecipeError, UserError
from tests.run.small import QUICKSTART_TOKENIZER

HOME = Path(__file__).parents[2]
QUICKSTART = HOME / "recipes" / "quickstart.toml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("front")


@pytest.fixture(scope="module")
def build(folder: Path) -> orca_recipes.Build:
    recipe = load_recipe(QUICKSTART)
    return recipe.build(out=folder / "out", store=folder / "store", workers=1, limit=60)


def test_a_build_is_the_command_lines(build: orca_recipes.Build, folder: Path, capsys: pytest.CaptureFixture[str]):
    words = ["build", str(QUICKSTART), "--limit", "60", "--store", str(folder / "store"), "--out", str(folder / "cli")]
    told = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert build.digest == told["digest"]
    assert build.datasets["main"].rows == told["datasets"]["main"]["rows"]
    assert (
        load_recipe(str(QUICKSTART)).build(out=folder / "out", store=folder / "store", limit=60).digest == build.digest
    )
    assert capsys.readouterr() == ("", "")


def test_examples_are_those_that_show_prints(build: orca_recipes.Build):
    lines = CliRunner().invoke(main, ["show", str(build.directory), "--json"]).stdout.splitlines()
    examples = list(build.examples())
    assert len(examples) == len(lines) == 60
    for example, line in zip(examples, map(json.loads, lines), strict=True):
        assert example.tokens.dtype == np.int32
        assert example.trained.dtype == np.bool_
        assert example.tokens.tolist() == [token for segment in line["segments"] for token in segment["tokens"]]
        assert example.text == "".join(segment["text"] for segment in line["segments"])
        assert example.trained.sum() == sum(len(part["tokens"]) for part in line["segments"] if part["trained"])
        for name in ("id", "collection", "task", "file", "place", "row", "at", "turn", "strategy", "teacher"):
            assert getattr(example, name) == line[name], name


def test_arrow_batches_hold_the_same(build: orca_recipes.Build):
    table = build.to_arrow().read_all()
    examples = list(build.datasets["main"].examples())
    assert table.num_rows == len(examples)
    assert table["tokens"].to_pylist() == [example.tokens.tolist() for example in examples]
    assert table["trained"].to_pylist() == [example.trained.tolist() for example in examples]
    assert table["text"].to_pylist() == [example.text for example in examples]
    assert set(table["dataset"].to_pylist()) == {"main"}


def test_a_torch_dataset_gives_rows_as_the_trainer_sees_them(build: orca_recipes.Build):
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    dataset = build.datasets["main"]
    rows = dataset.to_torch()
    assert len(rows) == dataset.rows
    trained = 0
    for number in range(len(rows)):
        row = rows[number]
        view = dataset.shards()[0].training_view(
            number, row_tokens=build.manifest.row_tokens, align=build.manifest.align, pad_id=build.manifest.pad_id
        )
        for name in ("tokens", "labels", "loss_mask", "position_ids", "cu_seqlens"):
            assert torch.equal(row[name], torch.from_numpy(getattr(view, name))), name
        trained += int(row["loss_mask"].sum())
    assert trained == build.manifest.datasets["main"].trained_tokens
    with pytest.raises(IndexError):
        rows[len(rows)]
    batch = next(iter(DataLoader(rows, batch_size=1)))
    assert batch["tokens"].shape == (1, build.manifest.row_tokens)


def test_a_build_proves_and_explains_itself(build: orca_recipes.Build, folder: Path):
    assert build.verify().is_sound
    first = next(build.examples())
    told = build.explain(example=first.id, store=folder / "store").as_json()
    assert told["stories"][0]["origin"]["file"] == first.file
    assert told["stories"][0]["origin"]["place"] == first.place
    with pytest.raises(UserError):
        build.explain()


def test_a_plan_is_the_command_lines(folder: Path, capsys: pytest.CaptureFixture[str]):
    recipe = load_recipe(QUICKSTART)
    told = recipe.plan(store=folder / "store").as_json()
    assert capsys.readouterr() == ("", "")
    printed = CliRunner().invoke(main, ["plan", str(QUICKSTART), "--store", str(folder / "store"), "--json"]).stdout
    assert json.loads(json.dumps(told)) == json.loads(printed)
    declared = recipe.plan(declared=True, store=folder / "store").as_json()
    assert declared["mixtures"].keys() == told["mixtures"].keys()


def test_a_plan_tells_of_a_store_that_holds_nothing_of_what_was_built_before(
    build: orca_recipes.Build, folder: Path, tmp_path: Path
):
    recipe = load_recipe(QUICKSTART)
    assert "holds none of its stages" in str(recipe.plan(store=tmp_path / "elsewhere"))
    assert "holds none of its stages" not in str(recipe.plan(store=folder / "store"))


def test_a_dict_is_a_recipe_and_has_no_lock(build: orca_recipes.Build, folder: Path, monkeypatch: pytest.MonkeyPatch):
    table = tomllib.loads(QUICKSTART.read_text(encoding="utf-8"))
    table["collections"]["reasoning"]["path"] = QUICKSTART.parent / "quickstart" / "tasks.jsonl.gz"
    table["tokenizer"]["path"] = QUICKSTART_TOKENIZER
    monkeypatch.chdir(folder)
    before = set(folder.iterdir())
    recipe = load_recipe(table, set=["packing.row_tokens=1024"])
    assert recipe.check() == ()
    made = recipe.build(out=folder / "of-dict", store=folder / "store", workers=1, limit=60)
    assert made.manifest.row_tokens == 1024
    assert made.manifest.datasets["main"].examples == build.manifest.datasets["main"].examples
    assert set(folder.iterdir()) - before == {folder / "of-dict"}


@pytest.mark.parametrize(
    ("table", "path", "words"),
    [
        ({"name": "x", "colections": {}}, "colections", "did you mean"),
        ({"name": "x", "packing": {"row_tokens": None}}, "packing.row_tokens", "NoneType"),
        ({"name": "x", "packing": {1: 2}}, "packing", "no text"),
    ],
)
def test_a_dict_that_is_no_recipe_says_which_key(table: dict, path: str, words: str):
    try:
        faults = load_recipe(table).check()
    except RecipeError as error:
        faults = error.faults
    fault = next(fault for fault in faults if fault.path == path)
    assert words in fault.sentence


def test_faults_are_those_of_check(tmp_path: Path):
    file = tmp_path / "r.toml"
    file.write_text('name = "x"\n[packing]\nrow_token = 3\n')
    faults = load_recipe(file).check()
    assert [fault.line for fault in faults if fault.path == "packing.row_token"] == [3]
    with pytest.raises(RecipeError):
        load_recipe(file).build(out=tmp_path / "out")
    with pytest.raises(RecipeError):
        load_recipe(file, profile="no").plan()
    assert [path.name for path in tmp_path.iterdir()] == ["r.toml"]


def test_what_is_no_build_says_so(tmp_path: Path):
    with pytest.raises(BuildError, match="not a complete build"):
        open_build(tmp_path)


def test_the_package_alone_is_light():
    heavy = {"polars", "pyarrow", "torch", "pydantic", "numpy"}
    code = f"import sys, orca_recipes\nprint({heavy} & {{*sys.modules}})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
    with pytest.raises(AttributeError):
        orca_recipes.nothing
