"""Data files of every format, spoilt, through the source `files`: the rows are those of the slow readers, or none."""

import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orca_plugins.sources.files.kind import Files
from orca_recipes.errors import OrcaError
from tests.campaign import slow_readers
from tests.campaign.fuzz_world import World, one_line, require
from tests.campaign.mutation import TEXTS, lines, row, spoilt


def json_lines(world: World, chance: random.Random) -> bool:
    """JSON lines, plain or compressed, in slices of any size."""
    data = lines(chance) if chance.random() < 0.4 else spoilt(lines(chance), chance)
    expected = slow_readers.json_lines(data)
    slice_bytes = chance.choice([1, 40, 1 << 20])
    match chance.randrange(6):
        case 0:
            return same_rows(world.write("rows.jsonl.gz", gzip.compress(data, 1)), expected, slice_bytes)
        case 1:
            zst = pa.compress(data, codec="zstd", asbytes=True) if data else b""
            return same_rows(world.write("rows.jsonl.zst", zst), expected, slice_bytes)
        case _:
            return same_rows(world.write("rows.jsonl", data), expected, slice_bytes)


def json_list(world: World, chance: random.Random) -> bool:
    """A list of rows."""
    data = json.dumps([row(chance) for _ in range(chance.randrange(5))]).encode()
    data = spoilt(data, chance) if chance.random() < 0.7 else data
    expected = slow_readers.json_list(data)
    return same_rows(world.write("rows.json", data), expected)


def tables(world: World, chance: random.Random) -> bool:
    """CSV and TSV."""
    comma = chance.random() < 0.6
    header = ["question", "answer", "reference", *chance.choice([[], ["id"], ["x", "y"]])]
    records = [header, *([chance.choice(TEXTS) for _ in header] for _ in range(chance.randrange(5)))]
    if comma:
        texts = [",".join('"' + field.replace('"', '""') + '"' for field in record) for record in records]
    else:
        texts = ["\t".join(field.replace("\n", " ") for field in record) for record in records]
    data = "\n".join(texts).encode()
    data = spoilt(data, chance) if chance.random() < 0.7 else data
    expected = slow_readers.delimited(data) if comma else slow_readers.tabbed(data)
    return same_rows(world.write("rows.csv" if comma else "rows.tsv", data), expected)


def parquet(world: World, chance: random.Random) -> bool:
    """Parquet, with and without checksums of pages: a spoilt file with checksums never gives another row."""
    rows = [
        {"question": chance.choice(TEXTS), "answer": chance.choice([None, *TEXTS])}
        for _ in range(chance.randrange(1, 9))
    ]
    sink = io.BytesIO()
    sums = chance.random() < 0.5
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=3, write_page_checksum=sums)
    data = sink.getvalue()
    expected = None
    if chance.random() < 0.1:
        held = {n: {k: v for k, v in one.items() if v is not None} for n, one in enumerate(rows, start=1)}
        expected = held, set[int]()
    else:
        data = spoilt(data, chance)
    return same_rows(world.write("rows.parquet", data), expected, chance.choice([1, 1 << 20]))


def compressed(world: World, chance: random.Random) -> bool:
    """gzip and zstd, spoilt after they were packed: all rows or none."""
    plain = lines(chance)
    kind = chance.choice(["gz", "zst"])
    # A zstd frame without a checksum may be spoilt unseen: then the rows are what its bytes say, and no oracle knows.
    packed = gzip.compress(plain, 1) if kind == "gz" else pa.compress(plain, codec="zstd", asbytes=True)
    data = spoilt(packed, chance)
    unpacked = slow_readers.gunzipped(data) if kind == "gz" and data else None
    expected = None if unpacked is None else slow_readers.json_lines(unpacked)
    return same_rows(world.write(f"rows.jsonl.{kind}", data), expected)


def same_rows(path: Path, expected: slow_readers.Read | None, slice_bytes: int = 1 << 20) -> bool:
    """Read a file and hold what comes against what is expected, where that is known; places are never doubled."""
    source = Files(path=path)
    try:
        readings = [found for piece in source.slices(slice_bytes=slice_bytes) for found in source.read(slice=piece)]
    except OrcaError as refused:
        require(one_line(refused), f"the sentence {refused}")
        rows = [] if expected is None else list(expected[0].values())
        sought = any("question" in found or "messages" in found for found in rows[:100])
        named = "UTF-16" in str(refused) or "two columns" in str(refused) or "messages cannot" in str(refused)
        require(not sought or named, f"it refuses a file with rows: {refused}")
        return False
    rows, bad = {}, []
    for reading in readings:
        bad += reading.rejected["place"].to_list()
        for held in reading.rows.to_dicts():
            require(held["place"] not in rows, f"place {held['place']} comes twice")
            rows[held.pop("place")] = plain(held)
    require(
        len(set(bad)) == len(bad) and not set(bad) & set(rows), "a row is both kept and rejected, or rejected twice"
    )
    if expected is not None:
        require(rows == expected[0], f"rows {rows} where there are {expected[0]}")
        require(set(bad) == expected[1], f"rejected {sorted(bad)} where {sorted(expected[1])} are bad")
    return True


def plain(held: dict[str, Any]) -> dict[str, Any]:
    """A row as the slow readers give it."""
    if held.get("references") is not None:
        held["reference"] = held["references"]
    if held.get("messages") is not None:
        held["messages"] = [(one["role"], one["content"]) for one in held["messages"]]
    return {name: held[name] for name in slow_readers.COLUMNS if held.get(name) is not None}
