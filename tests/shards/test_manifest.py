"""The manifest says what was made, in one way to write it, and tells every edit."""

import json

import jsonschema
import pytest
from pydantic import ValidationError

from orca_recipes.errors import BuildError, DamagedShard
from orca_recipes.shards.digests import canonical_json, file_digest, json_digest
from orca_recipes.shards.manifest import (
    Contents,
    Made,
    Manifest,
    data_digest,
    fill,
    read_manifest,
    sealed,
    write_manifest,
)
from orca_recipes.shards.table_digest import content_digest_of_table


def test_a_manifest_is_read_as_it_was_written(build):
    manifest = read_manifest(build)
    before = (build / "manifest.json").read_bytes()
    write_manifest(build, manifest)
    assert (build / "manifest.json").read_bytes() == before
    assert read_manifest(build) == manifest


def test_a_manifest_fits_its_published_schema(build):
    schema = Manifest.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    told = json.loads((build / "manifest.json").read_bytes())
    jsonschema.validate(told, schema)
    assert set(told["datasets"]["main"]["stages"][0]) == {
        "name",
        "in",
        "created",
        "out",
        "rejected",
        "passed_over",
        "unused_columns",
    }
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**told, "more": 1}, schema)


def test_timings_and_versions_leave_the_digest_alone(build):
    manifest = read_manifest(build)
    contents = Contents.model_validate_json(
        manifest.model_dump_json(by_alias=True, exclude={"data_digest", "digest", "made", "seal"})
    )
    other = sealed(contents, made=Made(timings={"pack": 9.0}, versions={}, table_files=()))
    assert other.digest == manifest.digest
    assert other.seal != manifest.seal


def test_other_words_for_the_same_data_change_the_digest_and_not_the_digest_of_the_data(build, reseal):
    manifest = read_manifest(build)
    reseal(build, name="another", recipe={"name": "another", "seed": 2}, plan=[], set=["seed=2"])
    assert read_manifest(build).digest != manifest.digest
    assert read_manifest(build).data_digest == manifest.data_digest


def test_the_digest_of_the_data_is_of_files_and_contents_of_tables_by_their_names(build):
    told = json.loads((build / "manifest.json").read_bytes())
    held = {
        "files": {path.relative_to(build).as_posix(): file_digest(path) for path in _data_files(build)},
        "tables": {
            path.relative_to(build).as_posix(): content_digest_of_table(path) for path in build.rglob("*.parquet")
        },
    }
    assert len(held["files"]) == 8
    assert told["data_digest"] == json_digest(held)


def _data_files(build):
    yield from (build / "tokenizer").iterdir()
    yield build / "curriculum.json"
    yield from build.rglob("0*.bin")
    yield from build.rglob("0*.idx")


@pytest.mark.parametrize("change", ["file", "table", "path"])
def test_other_data_has_another_digest(build, change):
    manifest = read_manifest(build)
    files, tables = list(manifest.files), list(manifest.tables)
    other = json_digest("other")
    if change == "file":
        files[0] = files[0].model_copy(update={"digest": other})
    elif change == "table":
        tables[0] = tables[0].model_copy(update={"content_digest": other})
    else:
        files[0] = files[0].model_copy(update={"path": "main/00007.bin"})
    assert data_digest(manifest.files, manifest.tables) == manifest.data_digest
    assert data_digest(files, tables) != manifest.data_digest


def test_a_manifest_is_never_seen_half_written(build):
    write_manifest(build, read_manifest(build))
    assert not list(build.glob("*.partial"))


def test_a_directory_without_a_manifest_is_no_build(tmp_path):
    with pytest.raises(BuildError, match="is not a complete build"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"align": NaN}',
        b'{"align": ' + b"9" * 5000 + b"}",
        b'"\\ud800"',
    ],
)
def test_garbage_is_refused_in_a_sentence(tmp_path, data):
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(DamagedShard, match=r"manifest\.json: it is no"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"seed": 1', '"seed": 2'),
        ('"seed": 1', '"seed": 1.0'),
        ('"pack": 0.5', '"pack": 0.6'),
        ('"pack": 0.5', '"pack": NaN'),
        ('"seed": 1', '"seed": 1, "seed": 1'),
        ('"seed": 1', '"seed": "\\ud800"'),
    ],
)
def test_an_edited_manifest_is_refused(build, old, new):
    path = build / "manifest.json"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DamagedShard, match=r"manifest\.json: it (was|is)"):
        read_manifest(build)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "", "a\\b", "C:/a", "a\0b"])
def test_a_path_outside_the_build_is_refused(build, path):
    told = json.loads((build / "manifest.json").read_bytes())
    told["files"][0]["path"] = path
    with pytest.raises(ValidationError, match="must be a path inside the build"):
        Manifest.model_validate_json(json.dumps(told))


@pytest.mark.parametrize(
    ("tokens", "rows", "expected"),
    [(0, 0, "0.000000"), (1, 3, "0.333333"), (2, 3, "0.666667"), (3, 3, "1.000000"), (1, 2_000_000, "0.000001")],
)
def test_fill_is_a_rounded_decimal(tokens, rows, expected):
    assert fill(tokens=tokens, rows=rows, row_tokens=1) == expected


def test_json_has_one_way_to_be_written():
    assert canonical_json({"b": [1, "é"], "a": None}) == '{\n "a": null,\n "b": [\n  1,\n  "é"\n ]\n}\n'.encode()
    assert json_digest({"a": 1, "b": 2}) == json_digest({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})
