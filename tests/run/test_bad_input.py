"""Bad input through the whole path: right rows in right places, rejections with a reason, or one sentence and no build.

What each reader does with each fault is tested beside the sources; here the same faults meet the path as a user does.
"""

import csv
import gzip
import io
import json
import re
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import OrcaError, SourceError
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.reader import Shard
from orca_recipes.store.store import Store

TOKENIZER = Path(__file__).parents[2] / "recipes" / "quickstart" / "tokenizer.json"
RECIPE = """\
name = "bad"
[collections.rows]
kind = "files"
path = {path}
on_bad_row = "reject"
{options}
[tokenizer]
kind = "hf"
path = {tokenizer}
[template]
kind = "chatml"
[packing]
row_tokens = {row_tokens}
"""
TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.DOTALL)
GOOD = [{"question": f"Why {number}?", "answer": f"So {number}."} for number in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in GOOD).encode()
FINE = [(number + 1, f"Why {number}?", f"So {number}.") for number in range(3)]


@dataclass(frozen=True)
class Built:
    """A build of one collection, and what became of each of its rows."""

    directory: Path

    @property
    def rows(self) -> list[tuple[int, str, str]]:
        """Line, question and answer of each example, as its tokens say, in the order of lines."""
        return sorted((line, *(text for _, text in turns)) for line, turns in self.talks)

    @property
    def talks(self) -> list[tuple[int, list[tuple[str, str]]]]:
        """Line, and role and text of each message, of each example."""
        tokenizer, found = Tokenizer.from_file(str(TOKENIZER)), []
        for path in sorted(self.directory.glob("main/*.idx")):
            shard = Shard.open(path.with_suffix(""))
            records = pl.read_parquet(path.with_suffix(".records.parquet"), glob=False)
            for row, place, line, tokens in records.select("row", "place", "line", "tokens").rows():
                ids = shard.row(row).tokens[place : place + tokens].tolist()
                text = tokenizer.decode(ids, skip_special_tokens=False)
                found.append((line, TURN.findall(text)))
        return found

    @property
    def rejected(self) -> list[tuple[int, str]]:
        """Line and reason of each rejected row."""
        table = pl.read_parquet(self.directory / "main" / "rejected.parquet", glob=False)
        assert set(table["file"]) <= {self.directory.parent.name}
        return [(line, reason) for line, reason in table.select("line", "reason").rows()]

    @property
    def shards(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.directory.glob("main/*.[bi][id][nx]")}


@pytest.fixture
def built(tmp_path: Path):
    """Writes a file and builds a recipe on it; options are lines of TOML of its collection."""

    def make(name: str, content: bytes, options: str = "", row_tokens: int = 512) -> Built:
        folder = tmp_path / "projects" / name
        (folder / "data").mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_bytes(content)
        return build_at(folder, name, options, row_tokens)

    return make


def build_at(folder: Path, name: str, options: str = "", row_tokens: int = 512) -> Built:
    """Build a recipe in a folder on its data/NAME; what is left is held to be sound, or nothing at all."""
    recipe = folder / "recipe.toml"
    texts = {"path": json.dumps(f"data/{name}"), "tokenizer": json.dumps(str(TOKENIZER)), "row_tokens": row_tokens}
    recipe.write_text(RECIPE.format(options=options, **texts), encoding="utf-8")
    asked = Asked(load_recipe(recipe, catalogue=Catalogue()), Store(folder / "store"), folder / "out", workers=1)
    try:
        build(asked, Progress())
    except OrcaError:
        left = [path.name for path in folder.iterdir() if path.name not in ("data", "store", "recipe.toml")]
        assert not left, "a refused build leaves nothing behind"
        raise
    assert verify(folder / "out").findings == ()
    return Built(folder / "out")


def test_good_rows_stand_where_the_file_says(built):
    assert built("rows.jsonl", LINES).rows == FINE


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"question": "\xff"}', "invalid UTF-8"),
        (b'{"question": "\\ud800"}', "question: half of a surrogate pair"),
        (b'{"question": "a\x00b"}', "bad JSON"),
        (b'{"question": "a"} {"question": "b"}', "a line that goes on after its object"),
        (b'["question"]', "a row that is not an object"),
        (b'{"answer": "a"}', "question: there is none"),
        (b'{"question": null}', "question: there is none"),
        (b'{"question": ""}', "question: it is empty"),
        (b'{"question": true}', "question: a boolean where text should be"),
        (b'{"question": NaN}', "question: NaN or Infinity, which JSON does not know"),
        (b'{"question": 1.5}', "question: a number with a fraction or exponent"),
        (b'{"question": "a", "question": "b"}', "question: a key given twice"),
        (b'{"question": ' + b"[" * 9000 + b"]" * 9000 + b"}", "brackets nested more than 100 deep"),
        (b'\xef\xbb\xbf{"question": "a"}', "bad JSON"),
    ],
    ids=lambda value: ascii(value[:40]) if isinstance(value, bytes) else None,
)
def test_a_bad_line_is_listed_with_its_place_and_the_rest_is_built(built, line: bytes, reason: str):
    found = built("rows.jsonl", LINES + line + b"\n" + b'{"question": "last", "answer": "x"}\n')
    assert found.rows == [*FINE, (5, "last", "x")]
    assert found.rejected == [(4, reason)]


@pytest.mark.parametrize(
    "text",
    ["a\u2028b\u2029c\x85d", "a\x00b\x1b[31mc", "tab\tand\r\nreturn", "two\n\nlines", "\ufeffmark", "漢字 👩‍🔬 ẞ"],
    ids=ascii,
)
def test_odd_characters_reach_the_tokens_as_they_are(built, text: str):
    row = json.dumps({"question": text, "answer": text}, ensure_ascii=True).encode()
    assert built("rows.jsonl", LINES + row).rows == [*FINE, (4, text, text)]


def test_a_mark_at_the_start_and_carriage_returns_at_line_ends_are_no_content(built):
    assert built("rows.jsonl", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n")).rows == FINE


def test_an_integer_past_64_bits_keeps_its_digits(built):
    number = "123456789012345678901234567890"
    row = f'{{"question": {number}, "answer": -{number}}}\n'.encode()
    assert built("rows.jsonl", LINES + row).rows == [*FINE, (4, number, f"-{number}")]


def test_quotes_and_line_ends_inside_fields_keep_the_places_of_what_follows(built):
    text = 'question,answer\n"He said ""so"",\nand went","a\r\nb"\nWhy?,"1,2"\n'
    assert built("rows.csv", text.encode()).rows == [(2, 'He said "so",\nand went', "a\r\nb"), (5, "Why?", "1,2")]


def test_ragged_lines_of_a_table_are_listed(built):
    found = built("rows.csv", b"question,answer\nWhy?,So.\na\nb,c,d\n")
    assert found.rows == [(2, "Why?", "So.")]
    assert found.rejected == [(3, "fewer fields than the first row"), (4, "more fields than the first row")]


def test_a_row_whose_id_is_taken_is_listed_and_equal_rows_stay(built):
    rows = [("x", "a", "1"), ("x", "b", "2"), ("y", "c", "3"), ("y", "c", "3")]
    named = "".join(json.dumps({"id": i, "question": q, "answer": a}) + "\n" for i, q, a in rows)
    plain = named.replace('"id": "y", ', "")
    found = built("rows.jsonl", plain.encode())
    assert found.rows == [(1, "a", "1"), (3, "c", "3"), (4, "c", "3")]
    assert found.rejected == [(2, "id: an earlier row has the same id and other content")]
    ids = pl.read_parquet(found.directory / "main" / "00000.records.parquet")["id"]
    assert ids.n_unique() == 3


REFUSED = {
    "broken.jsonl.gz": (b"\x1f\x8b\x08\x00rubbish" * 9, "the gzip data is damaged"),
    "cut.jsonl.gz": (gzip.compress(LINES)[:-12], "the gzip data ends too early"),
    "sum.jsonl.gz": (gzip.compress(LINES)[:-8] + b"\0\0\0\0" + gzip.compress(LINES)[-4:], "the gzip data is damaged"),
    "plain.jsonl.gz": (LINES, "the gzip data is damaged"),
    "none.jsonl.gz": (b"", "the file is empty"),
    "broken.jsonl.zst": (b"\x28\xb5\x2f\xfdrubbish" * 9, "the zstd data"),
    "cut.jsonl.zst": (pa.compress(LINES * 99, codec="zstd", asbytes=True)[:-9], "the zstd data ends too early"),
    "twice.csv": (b"question,question\na,b\n", 'two columns are called "question"'),
    "broken.parquet": (b"PAR1 rubbish PAR1", "this is broken Parquet"),
    "none.parquet": (b"", "this is broken Parquet"),
    "list.json": (b'[{"question": "a"}, {"question', "the file was cut off"),
    "wide.jsonl": (LINES.decode().encode("utf-16"), "this text is UTF-16"),
    "none.jsonl": (b"", "no example is left"),
    "other.jsonl": (b'{"ask": "a"}\n', 'no column "question"'),
    "bad.jsonl": (b"rubbish\n" * 3, "no example is left to train on (3 bad JSON)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_read_is_one_sentence_and_leaves_nothing(built, name: str):
    content, sentence = REFUSED[name]
    with pytest.raises(OrcaError) as caught:
        built(name, content)
    told = str(caught.value)
    assert sentence in told
    assert name in told or "datasets.main" in told
    assert "\n" not in told
    assert caught.value.exit_status == 2


def test_a_folder_a_link_to_elsewhere_and_a_loop_are_sentences(tmp_path: Path):
    (tmp_path / "secret.jsonl").write_bytes(LINES)
    data = tmp_path / "data"
    (data / "folder.jsonl").mkdir(parents=True)
    (data / "out.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (data / "loop.jsonl").symlink_to("loop.jsonl")
    for name, sentence in {
        "folder.*": "this is a folder, not a file",
        "out.jsonl": "this is a link out of",
        "loop.jsonl": "this leads to no file that can be read",
    }.items():
        with pytest.raises(SourceError, match=sentence):
            build_at(tmp_path_of(tmp_path, name, data), name)


def tmp_path_of(root: Path, name: str, data: Path) -> Path:
    """A project of its own whose data folder is a link to the given one."""
    folder = root / "project" / name.rstrip("*.")
    folder.mkdir(parents=True)
    (folder / "data").symlink_to(data)
    return folder


@pytest.mark.parametrize("name", ["-rows.jsonl", "two words.jsonl", "a..b.jsonl", "数据.jsonl", "é\u2028[1]*.jsonl"])
def test_odd_file_names_are_read_and_kept(built, name: str):
    found = built(name, LINES + b"{")
    assert found.rows == FINE
    table = pl.read_parquet(found.directory / "main" / "rejected.parquet", glob=False)
    assert table["file"].to_list() == [name]


def written(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    """The same rows in every format."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), table)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return {
        "rows.jsonl": lines,
        "rows.json": json.dumps(rows).encode(),
        "rows.csv": text.getvalue().encode(),
        "rows.parquet": table.getvalue(),
        "rows.jsonl.gz": gzip.compress(lines),
        "rows.jsonl.zst": pa.compress(lines, codec="zstd", asbytes=True),
        "rows.parquet.gz": gzip.compress(table.getvalue()),
    }


def test_the_same_rows_in_any_format_give_the_same_shards_byte_for_byte(built):
    odd = ["", "a,b", 'say "so"', "two\nlines", "漢字", "a\u2028b", "-0", "123456789012345678901234567890", "null"]
    rows = [{"question": f"Why {text}?", "answer": text or "So."} for text in odd] * 2
    made = {name: built(name, content).shards for name, content in written(rows).items()}
    assert all(shards == made["rows.jsonl"] for shards in made.values())


def test_a_record_of_eight_megabytes_takes_the_whole_path(built):
    long = "x" * (8 << 20)
    line = json.dumps({"question": "long", "answer": long}).encode()
    found = built("rows.jsonl", LINES + line + b"\n", row_tokens=16 << 20)
    assert found.rows == [*FINE, (4, "long", long)]


def test_a_record_longer_than_a_row_is_listed_in_bounded_memory(built):
    line = json.dumps({"question": "long", "answer": "x" * (8 << 20)}).encode()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = built("rows.jsonl", LINES + line + b"\n")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (found.rows, found.rejected) == (FINE, [(4, "longer than a row")])
    assert grown < 1 << 20, "kilobytes"


@pytest.mark.slow
def test_a_conversation_of_two_thousand_turns_takes_the_whole_path(built):
    turns = [(("user", "assistant")[turn % 2], f"turn {turn}") for turn in range(2000)]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    found = built("rows.jsonl", json.dumps(row).encode(), row_tokens=1 << 15)
    assert found.talks == [(1, turns)]
