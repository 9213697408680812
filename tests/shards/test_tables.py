"""Tables are promised by what they hold, whoever wrote them."""

import hashlib
import struct

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_recipes.errors import DamagedShard
from orca_recipes.shards.records import read_table, records_schema, rejected_schema, stored_table, write_table
from orca_recipes.shards.table_digest import content_digest_of, content_digest_of_table

TABLE = pa.table(
    {
        "text": pa.array(["x", None, "", "é\x00"] * 500),
        "number": pa.array([1, None, -3, 4] * 500, pa.int32()),
        "flag": pa.array([True, None, False, True] * 500),
        "bytes": pa.array([b"a", None, b"", b"\xff"] * 500),
    }
)

ROWS = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(max_size=3),
        "number": st.none() | st.integers(-(2**31), 2**31 - 1),
        "flag": st.none() | st.booleans(),
        "bytes": st.none() | st.binary(max_size=3),
    }
)


def digest(folder, table, **options) -> str:
    path = folder / "table.parquet"
    pq.write_table(table, path, **options)
    return content_digest_of_table(path)


def digest_by_the_book(table: pa.Table) -> str:
    """What is promised, value by value: of each column its name, type, rows, nulls or lengths, and values."""
    whole = hashlib.blake2b(b"table\n", digest_size=32)
    for name in table.column_names:
        column, kind = table[name].to_pylist(), table.schema.field(name).type
        is_text = pa.types.is_string(kind)
        if is_text or pa.types.is_binary(kind):
            values = [value.encode() if is_text and value is not None else value for value in column]
            told = "text" if is_text else "bytes"
            shape = b"".join(struct.pack("<q", -1 if value is None else len(value)) for value in values)
            flat = b"".join(value for value in values if value is not None)
        else:
            told = str(kind)
            shape = bytes(value is None for value in column)
            flat = b"".join(struct.pack({"int32": "<i", "bool": "<?"}[told], v) for v in column if v is not None)
        head = b"%d:%b %b %d\n" % (len(name), name.encode(), told.encode(), len(column))
        streams = [hashlib.blake2b(stream, digest_size=32).digest() for stream in (shape, flat)]
        whole.update(hashlib.blake2b(head + b"".join(streams), digest_size=32).digest())
    return f"blake2b:{whole.hexdigest()}"


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROWS, max_size=30), repeats=st.sampled_from([1, 5000]), start=st.integers(0, 9))
def test_a_digest_is_the_same_read_at_once_or_in_batches(tmp_path_factory, rows, repeats, start):
    table = pa.Table.from_pylist(rows * repeats, schema=TABLE.schema).slice(start)
    path = tmp_path_factory.mktemp("tables") / "table.parquet"
    pq.write_table(table, path, row_group_size=70_000)
    assert content_digest_of(stored_table(path), path) == content_digest_of_table(path) == digest_by_the_book(table)


@pytest.mark.parametrize(
    "options",
    [
        {"row_group_size": 7},
        {"compression": "zstd"},
        {"use_dictionary": False},
        {"version": "1.0"},
        {"store_schema": False},
    ],
)
def test_how_a_table_is_written_leaves_its_digest_alone(tmp_path, options):
    assert digest(tmp_path, TABLE, **options) == digest(tmp_path, TABLE)


def test_another_writer_leaves_the_digest_alone(tmp_path):
    frame = pl.from_arrow(TABLE)
    frame.write_parquet(tmp_path / "polars.parquet")
    assert content_digest_of_table(tmp_path / "polars.parquet") == digest(tmp_path, TABLE)


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_all_kinds_of_text_are_text(tmp_path, kind):
    text = TABLE["text"]
    column = text.dictionary_encode() if pa.types.is_dictionary(kind) else text.cast(kind)
    assert digest(tmp_path, TABLE.set_column(0, "text", column)) == digest(tmp_path, TABLE)


@pytest.mark.parametrize(
    "other",
    [
        TABLE.slice(1),
        TABLE.slice(0, 0),
        TABLE.rename_columns(["txt", "number", "flag", "bytes"]),
        TABLE.select(["number", "text", "flag", "bytes"]),
        TABLE.set_column(1, "number", TABLE["number"].cast(pa.int64())),
        TABLE.set_column(1, "number", TABLE["number"].fill_null(0)),
        TABLE.set_column(0, "text", TABLE["text"].fill_null("")),
        TABLE.set_column(0, "text", TABLE["text"].cast(pa.binary())),
    ],
)
def test_another_content_has_another_digest(tmp_path, other):
    assert digest(tmp_path, other) != digest(tmp_path, TABLE)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.none() | st.text(max_size=4), min_size=1, max_size=8), data=st.data())
def test_values_that_move_between_rows_change_the_digest(tmp_path_factory, texts, data):
    folder = tmp_path_factory.mktemp("tables")
    others = data.draw(st.permutations(texts))
    one, other = (digest(folder, pa.table({"a": pa.array(values, pa.string())})) for values in (texts, others))
    assert (one == other) == (texts == others)


@pytest.mark.parametrize(
    ("column", "told"), [([[1]], 'column "a" has type list'), ([{"b": 1}], 'column "a" has type struct')]
)
def test_a_nested_column_is_refused(tmp_path, column, told):
    with pytest.raises(DamagedShard, match=told):
        digest(tmp_path, pa.table({"a": column}))
    with pytest.raises(DamagedShard, match=told):
        content_digest_of(pa.table({"a": column}), tmp_path / "table.parquet")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_refused_in_a_sentence(tmp_path, data):
    path = tmp_path / "table.parquet"
    path.write_bytes(data)
    for read in (content_digest_of_table, lambda path: read_table(path, records_schema())):
        with pytest.raises(DamagedShard, match=r"table\.parquet: it cannot be read") as refusal:
            read(path)
        assert len(str(refusal.value).splitlines()) == 1
    with pytest.raises(DamagedShard, match="it cannot be read"):
        content_digest_of_table(tmp_path / "nothing.parquet")


def test_a_table_of_either_writer_is_read_with_the_schema_of_records(tmp_path):
    schema = rejected_schema()
    line = {"id": None, "collection": "cot", "file": "a.tsv", "line": 3, "stage": "read", "reason": "empty"}
    line["twin"] = None
    write_table(tmp_path / "arrow.parquet", pa.Table.from_pylist([line], schema=schema))
    pl.DataFrame([line], schema_overrides={"id": pl.String}).write_parquet(tmp_path / "polars.parquet")
    for name in ("arrow", "polars"):
        table = read_table(tmp_path / f"{name}.parquet", schema)
        assert table.schema == schema
        assert table.to_pylist() == [line]


def test_rejected_rows_of_an_older_build_have_no_twins(tmp_path):
    line = {"id": None, "collection": "cot", "file": "a.tsv", "line": 3, "stage": "read", "reason": "empty"}
    schema = pa.schema([field for field in rejected_schema() if field.name != "twin"])
    write_table(tmp_path / "old.parquet", pa.Table.from_pylist([line], schema=schema))
    assert read_table(tmp_path / "old.parquet", rejected_schema()).to_pylist() == [{**line, "twin": None}]
    with pytest.raises(DamagedShard, match="its columns are id"):
        read_table(tmp_path / "old.parquet", records_schema())


def test_a_table_with_other_columns_is_refused_by_their_names(tmp_path):
    write_table(tmp_path / "table.parquet", pa.table({"id": ["a"]}))
    with pytest.raises(DamagedShard, match="its columns are id, not id, collection, file, line, stage, reason"):
        read_table(tmp_path / "table.parquet", rejected_schema())
