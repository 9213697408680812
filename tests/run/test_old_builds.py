"""What an older program made goes on to be proven, shown, explained and served."""

import io
import json
import re
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orca_recipes import open_build
from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import DamagedShard
from orca_recipes.explain.explain import explain_example, explain_place
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.run.pinning.lock_file import read_lock
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.checks.verify_report import Report
from orca_recipes.shards.digests import file_digest, json_digest
from orca_recipes.shards.manifest import Manifest, data_digest, read_manifest
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import read_records
from orca_recipes.shards.show.show import show
from orca_recipes.shards.show.show_lines import example_lines, rejected_lines
from orca_recipes.store.store import Store
from tests.run.small import Heard

SHARDS = ("asked/00000", "held/00000", "main/00000", "main/00001")


def proven(directory: Path) -> Report:
    return prove(directory, kinds=Catalogue(), progress=Progress())


def rebuilt(folder: Path, progress: Progress, **more: str) -> Manifest:
    asked = Asked(
        loaded=load_recipe(folder / "old.toml", catalogue=Catalogue()),
        store=Store(folder / more.get("store", "store")),
        directory=folder / "new",
        workers=1,
        traces=folder / "traces",
    )
    return build(asked, progress)[0]


def test_a_build_of_format_1_is_proven(old: Path):
    report = proven(old / "out")
    assert report.findings == ()
    assert (report.checked["texts"], report.checked["erased_prompts"]) == (69, 13)
    manifest = read_manifest(old / "out")
    assert (manifest.format, len(manifest.terminators), len(manifest.terminators[0])) == (1, 1, 1)
    assert report.data_digest == manifest.data_digest == data_digest(manifest.files, manifest.tables)
    written = json.loads((old / "out/manifest.json").read_bytes())
    assert written["digest"] == manifest.digest
    assert manifest.terminators == (tuple(written["terminator_ids"]),)


def test_its_records_are_read_in_the_words_of_format_2(old: Path):
    for prefix in SHARDS:
        path = old / "out" / f"{prefix}.records.parquet"
        written = pq.read_table(path)
        records, faults = read_records(path)
        assert records is not None
        assert faults == []
        assert records.ids_digests is None
        assert set(records.column("turn").tolist()) == {-1}
        readable = records.readable().select(written.column_names)
        assert readable.to_pylist() == written.to_pylist(), "digits as they were written"
        assert [records.example_id(at) for at in range(len(written))] == written["id"].to_pylist()


def test_it_is_shown_and_explained(old: Path):
    out = io.StringIO()
    show(old / "out", out=out)
    assert out.getvalue().startswith(f"build old: format 1, data {read_manifest(old / 'out').data_digest}\n")
    lines = list(example_lines(old / "out"))
    assert len(lines) == 69
    example = lines[-1]["id"]
    assert re.fullmatch("[0-9a-f]{32}", example)
    assert {line["turn"] for line in lines} == {-1}
    assert [line["reason"] for line in rejected_lines(old / "out")] == ["longer than a row"] * 3
    (story,) = explain_example(old / "out", example, store=old / "store", traces=old / "traces").stories
    assert (story.origin.id, story.origin.file) == (example, lines[-1]["file"])
    place = f"{story.origin.file}:{story.origin.place}"
    (again,) = explain_place(old / "out", place, store=old / "store", traces=old / "traces").stories
    assert again.origin.id == example


@pytest.mark.parametrize("value", ["A" * 32, "a" * 31, "g" * 32])
@pytest.mark.parametrize("column", ["id", "text_digest", "question_digest"])
def test_digits_that_are_none_are_refused(old: Path, column: str, value: str):
    path = old / "out/main/00000.records.parquet"
    table = pq.read_table(path)
    values = [value, *table[column].to_pylist()[1:]]
    changed = table.set_column(table.column_names.index(column), column, pa.array(values, pa.large_string()))
    pq.write_table(changed, path)
    with pytest.raises(DamagedShard, match=f'column "{column}" holds values that are not 32 hexadecimal digits'):
        read_records(path)


def test_damage_to_it_is_found(old: Path):
    path = old / "out/main/00000.bin"
    data = bytearray(path.read_bytes())
    data[9] ^= 1
    path.write_bytes(data)
    assert {finding.file for finding in proven(old / "out").findings} >= {"main/00000.bin"}


def test_an_edit_of_its_manifest_is_found(old: Path):
    path = old / "out/manifest.json"
    path.write_text(path.read_text().replace('"name": "old"', '"name": "odd"', 1))
    assert any("it was changed after the build" in str(finding) for finding in verify(old / "out").findings)


def test_its_words_in_a_manifest_of_format_2_are_refused(old: Path):
    path = old / "out/manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2', 1))
    (found,) = verify(old / "out").findings
    assert found.sentence.startswith("it is no manifest: terminators: Field required")


def test_its_store_and_its_answers_serve_a_build_of_format_2_with_the_same_tokens(old: Path):
    heard = Heard()
    manifest = rebuilt(old, heard)
    answers = manifest.made.answers["asked"]
    assert (answers.stored, answers.asked) == (15, 0), "nobody listens where the teacher was: all was stored"
    assert manifest.format == 2
    assert proven(old / "new").findings == ()
    assert [Shard.open(old / "new" / prefix).index.guards for prefix in SHARDS] == [1] * len(SHARDS)
    assert [Shard.open(old / "out" / prefix).index.guards for prefix in SHARDS] == [0] * len(SHARDS)
    assert examples(old / "new") == examples(old / "out")
    assert told(old / "new").equals(told(old / "out"))


def examples(directory: Path) -> list[tuple[str, str, list[int], list[bool]]]:
    """Dataset, id, tokens and loss of every example, sorted: in which row each lies is for the packing to say."""
    return sorted(
        (name, example.id, example.tokens.tolist(), example.trained.tolist())
        for name, dataset in open_build(directory).datasets.items()
        for example in dataset.examples()
    )


def told(directory: Path) -> pl.DataFrame:
    """What the records of a build say of its examples, but where each lies and what format 2 alone has."""
    found = [records for prefix in SHARDS if (records := read_records(directory / f"{prefix}.records.parquet")[0])]
    frames = [pl.DataFrame(records.readable().drop_columns(["ids_xxh3", "row", "place"])) for records in found]
    return pl.concat(frames).sort("id", "tokens", "text_digest")


def test_a_stage_of_its_store_is_used_again_or_made_again_and_never_misread(old: Path):
    with_it, without = Heard(), Heard()
    one = rebuilt(old, with_it)
    old.joinpath("new").rename(old / "first")
    two = rebuilt(old, without, store="another store")
    assert one.data_digest == two.data_digest
    assert json_digest(one.model_dump(mode="json", exclude={"made", "seal"})) == json_digest(
        two.model_dump(mode="json", exclude={"made", "seal"})
    )
    assert any(stage.startswith("tokenize") for stage in with_it.stages), "records of format 1 lack what format 2 tells"


def test_its_lock_is_read_and_the_examples_that_it_promises_are_built(old: Path):
    before = read_lock(old / "old.lock")
    rebuilt(old, Progress())
    after = read_lock(old / "old.lock")
    assert before is not None
    assert after is not None
    assert after.pins.collections == before.pins.collections
    assert after.outcomes["answers"] == before.outcomes["answers"]
    assert all(
        after.outcomes["shards"][f"{prefix}.bin"] == file_digest(old / "new" / f"{prefix}.bin") for prefix in SHARDS
    )
    assert all(
        before.outcomes["shards"][f"{prefix}.bin"] == file_digest(old / "out" / f"{prefix}.bin") for prefix in SHARDS
    )
    assert examples(old / "new") == examples(old / "out")
