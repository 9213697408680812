"""Whatever rows and conversations a recipe finds, every one is in the build, word for word, or listed with a reason."""

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import BuildError
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.show.spans import SpanDecoder
from orca_recipes.store.store import Store

TOKENIZER = Path(__file__).parents[3] / "recipes" / "quickstart" / "tokenizer.json"
STORE = tempfile.TemporaryDirectory(prefix="any-rows-")
"""One store for all recipes: stages of one must never be taken for another's."""

RECIPE = """\
name = "any"
seed = {seed}
[collections.rows]
kind = "files"
path = "rows.jsonl"
on_bad_row = "reject"
[mixtures.main]
take.rows = {take}
[datasets.main]
filters = [{{ kind = "length", max_chars = {max_chars} }}]
allow_empty = ["rows", "rows/*"]
[tokenizer]
kind = "hf"
path = {tokenizer}
[template]
kind = "chatml"
[packing]
kind = "{packer}"
row_tokens = {row_tokens}
overlong = "{overlong}"
[output]
shard_tokens = {shard_tokens}
"""
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(["<|im_end|>", "<|im_start|>user\n", " a ", "word " * 60, "\n", "7" * 90, "é́", "👩‍🔬"]),
)
ROLES = st.sampled_from(["user", "assistant", "user", "assistant", "system", "tool"])
MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLES, "content": TEXT}), max_size=6)
ROWS = st.one_of(
    st.fixed_dictionaries(
        {"question": TEXT}, optional={"answer": TEXT, "system": TEXT, "task": TEXT, "reference": TEXT}
    ),
    st.fixed_dictionaries({"messages": MESSAGES}),
    st.fixed_dictionaries({"question": TEXT, "answer": TEXT}),
    st.sampled_from([None, 5, {"question": 1.5}, {"messages": [{"role": "human", "content": "a"}]}]),
)
OPTIONS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 3),
        "take": st.sampled_from(["{ all = true }", "{ rows = 1 }"]),
        "max_chars": st.sampled_from([60, 100_000]),
        "packer": st.sampled_from(["best_fit", "one_per_row"]),
        "row_tokens": st.sampled_from([32, 64, 512]),
        "overlong": st.sampled_from(["drop", "drop_turns", "truncate"]),
        "shard_tokens": st.sampled_from([200, 100_000]),
    }
)


def built(rows: list[Any], options: dict[str, Any], folder: Path) -> Path | None:
    """Build the rows; None where none is left to train on."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = folder / "any.toml"
    recipe.write_text(RECIPE.format(tokenizer=json.dumps(str(TOKENIZER)), **options), encoding="utf-8")
    asked = Asked(load_recipe(recipe, catalogue=Catalogue()), Store(Path(STORE.name)), folder / "out", workers=1)
    try:
        build(asked, Progress())
    except BuildError as refused:
        if "no example is left to train on" not in str(refused):
            raise
        return None
    return folder / "out"


def texts(out: Path) -> dict[int, str]:
    """The text of each example, by the line it was read from."""
    decoder, found = SpanDecoder(out / "tokenizer" / "tokenizer.json"), {}
    for path in sorted(out.glob("main/*.idx")):
        shard = Shard.open(path.with_suffix(""), check=True)
        records = pl.read_parquet(path.with_suffix(".records.parquet"))
        for row, place, line, tokens, flags in records.select("row", "place", "line", "tokens", "flags").rows():
            ids = shard.row(row).tokens[place : place + tokens].tolist()
            assert line not in found
            found[line] = "" if flags else decoder.texts(ids, [0, len(ids)])[0]
    return found


def chatml(row: dict[str, Any]) -> str:
    """A row as inference would see it, up to the end of its last answer."""
    messages = row.get("messages") or [
        *([{"role": "system", "content": row["system"]}] if row.get("system") else []),
        {"role": "user", "content": row["question"]},
        {"role": "assistant", "content": row["answer"] if "answer" in row else row["reference"]},
    ]
    ends = max(place for place, message in enumerate(messages) if message["role"] == "assistant")
    turns = (f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages[: ends + 1])
    return "".join(turns).removesuffix("\n")


@settings(deadline=None, max_examples=12)
@given(rows=st.lists(ROWS, min_size=1, max_size=10), options=OPTIONS)
def test_every_row_is_in_the_build_word_for_word_or_listed_with_a_reason(rows: list[Any], options: dict[str, Any]):
    with tempfile.TemporaryDirectory() as name:
        try:
            out = built([{"question": "Why?", "answer": "So."}, *rows], options, Path(name))
        finally:
            (Path(name) / "any.lock").unlink(missing_ok=True)
        if out is None:
            return
        assert prove(out, kinds=Catalogue(), sample=None, progress=Progress()).findings == ()
        kept = texts(out)
        rejected = Counter(pl.read_parquet(out / "main" / "rejected.parquet")["line"].to_list())
        drawn_only = options["take"] != "{ all = true }"
        assert not set(kept) & set(rejected)
        assert set(rejected.values()) <= {1}
        assert drawn_only or set(kept) | set(rejected) == set(range(1, len(rows) + 2))
        for line, text in kept.items():
            row = ([{"question": "Why?", "answer": "So."}, *rows])[line - 1]
            assert text in ("", chatml(row))
