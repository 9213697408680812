"""Texts with known truth for the filters that compare: pairs by kind of edit, and items of benchmarks in disguise.

Made of the real rows of the shared data by a fixed seed; each truth follows from how a text was made, never from what a
filter finds.
"""

import gzip
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tests.bench.alike import question_and_answer

SEED = 20261129
PAIRS_A_KIND = 60
CONTAMINATED, CLEAN = 300, 200
_FEWEST_TO_EDIT = 16
"""Words with letters of an item that is edited: of fewer, an edit makes another item."""
_OF_ONE_FORM = "bbh"
"""A benchmark whose items begin with words that hundreds of them share: their beginning is no item."""
_FILLER = (
    "You are a careful tutor. Read the question below, think about it, and answer in full sentences.",
    "Here is an exercise that one of my students sent me last week. I would like to know how you go about it.",
    "Thank you. Please show every step, and write the final result on a line of its own at the end.",
)

Edit = Callable[[str, random.Random], str]


def one_word(text: str, draw: random.Random) -> str:
    words = text.split(" ")
    words[draw.randrange(len(words))] = "instead"
    return " ".join(words)


def two_words(text: str, draw: random.Random) -> str:
    return one_word(one_word(text, draw), draw)


def word_left_out(text: str, draw: random.Random) -> str:
    words = text.split(" ")
    del words[draw.randrange(len(words))]
    return " ".join(words)


def other_numbers(text: str, draw: random.Random) -> str:
    return re.sub(r"\d+", lambda found: str(int(found[0][:9]) + draw.randint(1, 9)), text)


def case_and_space(text: str, draw: random.Random) -> str:
    return text.upper() if draw.random() < 0.5 else text.replace(" ", "  ").replace(". ", ".\n")


def sentence_more(text: str, draw: random.Random) -> str:
    return f"{text} {draw.choice(_FILLER)}"


def sentences_swapped(text: str, draw: random.Random) -> str:
    sentences = re.split(r"(?<=[.?!]) ", text)
    place = draw.randrange(max(len(sentences) - 1, 1))
    sentences[place : place + 2] = reversed(sentences[place : place + 2])
    return " ".join(sentences)


def marks_and_case(text: str, _draw: random.Random) -> str:
    return re.sub(r"(?<=\w)[.,;!?](?=\s)", " -", text).title()


def embedded(text: str, draw: random.Random) -> str:
    return f"{draw.choice(_FILLER)}\n\n{text}\n\n{draw.choice(_FILLER)}"


def beginning(text: str, _draw: random.Random) -> str:
    words = text.split(" ")
    return " ".join(words[: -(-len(words) * 3 // 4)])


def as_it_is(text: str, _draw: random.Random) -> str:
    return text


_OF_PAIRS: tuple[Edit, ...] = (
    as_it_is,
    one_word,
    two_words,
    word_left_out,
    other_numbers,
    case_and_space,
    sentence_more,
    sentences_swapped,
    beginning,
)
_DISGUISES: tuple[Edit, ...] = (as_it_is, marks_and_case, case_and_space, embedded)
_EDITS: tuple[Edit, ...] = (one_word, word_left_out, beginning)


@click.command()
@click.option(
    "--shared",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help="The shared data, or its folder `data`.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A folder for what is made.")
def plant(shared: Path, out: Path) -> None:
    """Write pairs.jsonl; and train.jsonl, benchmark.jsonl and truth.jsonl."""
    out.mkdir(parents=True, exist_ok=True)
    shared = shared / "data" if (shared / "data").is_dir() else shared
    train = _rows(shared / "gsm8k" / "train.jsonl.gz")
    draw = random.Random(SEED)
    _write(out / "pairs.jsonl", pairs([row["question"] for row in train], draw))
    names = ("gsm8k_test", "bbh", "agieval_en")
    benchmarks = {name: _rows(shared / "eval" / f"{name}.jsonl.gz") for name in names}
    planted, truth = contaminated(benchmarks, train, draw)
    _write(
        out / "benchmark.jsonl",
        [_item(name, number, row) for name in names for number, row in enumerate(benchmarks[name])],
    )
    _write(out / "train.jsonl", [*train, *planted])
    _write(out / "truth.jsonl", [{"place": len(train) + 1 + at, **told} for at, told in enumerate(truth)])


def pairs(texts: Sequence[str], draw: random.Random) -> list[dict[str, str]]:
    """Pairs of a text and what an edit makes of it, and pairs of two texts."""
    kinds = (*_OF_PAIRS, None)
    chosen = draw.sample(texts, PAIRS_A_KIND * (len(kinds) + 1))
    found = []
    for number, edit in enumerate(kinds):
        for text in chosen[number * PAIRS_A_KIND : (number + 1) * PAIRS_A_KIND]:
            other = edit(text, draw) if edit else chosen.pop()
            found.append({"a": text, "b": other, "kind": edit.__name__ if edit else "two_texts"})
    return found


def contaminated(
    benchmarks: Mapping[str, Sequence[Mapping[str, Any]]], train: Sequence[Mapping[str, Any]], draw: random.Random
) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """Rows that hold items, rows that hold none, and the truth of each."""
    rows, truth = [], []
    of_each = CONTAMINATED // len(benchmarks)
    for name, items in benchmarks.items():
        for place in draw.sample(range(len(items)), of_each):
            text, _ = question_and_answer(items[place])
            is_long = sum(word.strip(",.?!:;").isalpha() for word in text.split()) >= _FEWEST_TO_EDIT
            edits = (*_DISGUISES, *(_EDITS if is_long else ()))
            if name == _OF_ONE_FORM:
                edits = tuple(edit for edit in edits if edit is not beginning)
            edit = draw.choice(edits)
            made = edit(text, draw)
            in_answer = draw.random() < 0.2
            rows.append(
                {"question": "What did they ask?", "answer": made} if in_answer else {"question": made, "answer": "?"}
            )
            kind = f"{name}: {edit.__name__}{', in the answer' if in_answer else ''}"
            truth.append({"item": _item(name, place, items[place])["id"], "kind": kind})
    for text in draw.sample([row["question"] for row in train], CLEAN):
        rows.append({"question": embedded(other_numbers(text, draw), draw), "answer": draw.choice(_FILLER)})
        truth.append({"item": None, "kind": "clean"})
    return rows, truth


def _item(name: str, place: int, row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "id": row.get("id", f"{name}/{place}")}


def _rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
