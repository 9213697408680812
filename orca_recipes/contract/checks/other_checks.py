"""Checks of teachers, templates, tokenizers, writers and engines: what each promises beside what every kind does."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.checks.promises import check_kind, expect
from orca_recipes.contract.draws import splitmix64
from orca_recipes.contract.frames import answers_schema
from orca_recipes.contract.kinds import Encoder, Engine, Teacher, Template, Tokenizer, Vocabulary, Writer
from orca_recipes.contract.markup import START, Markup, assemble_text, markup_from_json
from orca_recipes.contract.messages import Turn, conversations_of
from orca_recipes.contract.samples import TEXTS, sample_examples
from orca_recipes.contract.templates.chat_template import ChatTemplate
from orca_recipes.shards.layout import segment_modes

if TYPE_CHECKING:
    import polars as pl

_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<bos>", "<eos>", "<|eot_id|>", "[[PAD]]")


def check_teacher(teacher: Teacher, examples: pl.DataFrame | None = None) -> None:
    """Check a teacher that answers at once: each answer is its own row's, whatever stands beside it. Of one that
    collects, or is told its answers by collections: that it says the same each time.

    Args:
        examples: columns of `frames.EXAMPLES`; unset, questions with references.
    """
    check_kind(teacher)
    if teacher.collects:
        expect(dict(teacher.sampling()) == dict(teacher.sampling()), "sampling differs each time it is asked for")
        return
    if teacher.collections():
        return
    frame = sample_examples() if examples is None else examples
    whole = _answers(teacher, frame)
    expect(whole.equals(_answers(teacher, frame)), "answer answers otherwise the second time")
    shuffled = np.argsort(splitmix64(np.arange(len(frame), dtype=np.uint64)), kind="stable")
    expect(whole[shuffled].equals(_answers(teacher, frame[shuffled])), "answer depends on the order of rows")
    import polars as pl

    parts = [_answers(teacher, frame.slice(start, 5)) for start in range(0, len(frame), 5)]
    expect(not parts or whole.equals(pl.concat(parts)), "answer depends on which rows come together")
    _answers(teacher, frame.head(0))
    both = whole["answer"].is_not_null() & whole["reason"].is_not_null()
    expect(not both.any(), "a row has an answer and a reason why it has none")


def _answers(teacher: Teacher, frame: pl.DataFrame) -> pl.DataFrame:
    asked = conversations_of([Turn("user", frame["question"])])
    answers = teacher.answer(examples=frame, requests=asked, seed=1)
    expect(dict(answers.schema) == answers_schema(), f"answer returns {dict(answers.schema)}, not frames.ANSWERS")
    expect(len(answers) == len(frame), f"answer returns {len(answers)} rows for {len(frame)}")
    return answers


def check_template(template: Template, vocabulary: Vocabulary | None = None) -> None:
    """Check a template: its joints print the text jinja renders from its shipped template.

    Args:
        vocabulary: unset, one with control tokens of many models.
    """
    check_kind(template)
    known = sample_vocabulary() if vocabulary is None else vocabulary
    markup = template.markup(vocabulary=known)
    expect(markup == template.markup(vocabulary=known), "markup differs each time it is asked for")
    expect(markup_from_json(markup.as_json()) == markup, "the markup does not come out of JSON as it went in")
    held = [text for text in known.control if text in markup.terminator]
    expect(bool(held), "the terminator holds no control token, so that an answer could end by chance")
    variables = {"bos_token": known.bos, "eos_token": known.eos, "pad_token": known.pad}
    shipped = ChatTemplate(markup.chat_template, variables, None)
    for conversation in _conversations(markup):
        found = assemble_text(markup, conversation, generation_prompt=True)
        wanted = shipped.render(conversation, generation_prompt=True)
        expect(found == wanted, f"joints print {found!r}, and jinja {wanted!r}")


def sample_vocabulary() -> Vocabulary:
    """Make a vocabulary with the control tokens of many models."""
    return Vocabulary(
        size=1000 + len(_CONTROL),
        control={text: 1000 + at for at, text in enumerate(_CONTROL)},
        other_added={},
        eats_space=frozenset(),
        bos="<s>",
        eos="</s>",
        pad="[[PAD]]",
        chat_template=None,
    )


def _conversations(markup: Markup) -> Iterator[list[dict[str, str]]]:
    """Yield questions, with and without a system message and a turn before them, that the joints can print."""
    turns = (("user",), ("system", "user"), ("user", "assistant", "user"), ("system", "user", "assistant", "user"))
    for roles in turns:
        if all(pair in markup.joints for pair in zip((START, *roles), (*roles, "assistant"), strict=True)):
            yield [{"role": role, "content": f"Say {at}."} for at, role in enumerate(roles)]


def check_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Check a tokenizer: the same files and ids each time, text to ids and back, no text a control token.

    Args:
        folder: an empty one, to write in.
    """
    check_kind(tokenizer)
    files = list(tokenizer.files())
    written = []
    for name in ("first", "second"):
        (folder / name).mkdir()
        tokenizer.materialize(files=files, folder=folder / name)
        written.append({path.name: path.read_bytes() for path in (folder / name).iterdir()})
    expect(written[0] == written[1], "materialize writes other bytes the second time")
    missing = {"tokenizer.json", "tokenizer_config.json"} - set(written[0])
    expect(not missing, f"materialize does not write {' and '.join(sorted(missing))}")
    encoder = pickle.loads(pickle.dumps(tokenizer)).open(folder=folder / "first")
    # The unknown token may come out of text: it stands for what the model cannot spell.
    control = set(encoder.vocabulary.control.values()) - {encoder.vocabulary.unknown_id}
    for opens in (True, False):
        _check_runs(encoder, opens, control)
    expect(bool(encoder.verdict().strip()), "verdict says nothing")


def _check_runs(encoder: Encoder, opens: bool, control: set[int]) -> None:
    import pyarrow as pa

    plain = [text for text in TEXTS if not any(mark in text for mark in encoder.vocabulary.control)]
    texts = pa.array(plain, pa.large_string())
    ids, offsets = encoder.encode(texts=texts, opens=opens)
    expect(len(offsets) == len(plain) + 1 and offsets[-1] == len(ids), "encode returns offsets that bound no runs")
    expect(int(ids.max(initial=0)) < encoder.vocabulary.size, "encode returns an id beyond the vocabulary")
    expect(not control & set(ids.tolist()), "a text becomes a control token")
    again = encoder.encode(texts=texts, opens=opens, exact=True)
    expect(np.array_equal(ids, again[0]), "the reference gives other ids than the fast tokenizer")
    for at, text in enumerate(plain):
        alone, _ = encoder.encode(texts=pa.array([text], pa.large_string()), opens=opens)
        same = np.array_equal(alone, ids[offsets[at] : offsets[at + 1]])
        expect(same, f"the ids of a text depend on the texts beside it: {text[:40]!r}")
    none, bounds = encoder.encode(texts=pa.array([], pa.large_string()), opens=opens)
    expect(len(none) == 0 and list(bounds) == [0], "no texts must give no ids and the one offset 0")
    back = encoder.decode_runs(ids=ids, offsets=offsets, opens=opens)
    expect(
        back.to_pylist() == encoder.normalized(texts=texts, opens=opens).to_pylist(), "ids do not give back the text"
    )


def check_writer(writer: Writer, folder: Path) -> None:
    """Check a writer: the files that it names, the same bytes each time and however tokens come in blocks.

    Args:
        folder: an empty one, to write in.
    """
    check_kind(writer)
    found = []
    for name, blocks in (("first", 1), ("second", 1), ("third", 7)):
        (folder / name).mkdir()
        paths = _written(writer, folder / name / "shard", blocks)
        expect(bool(paths), "write names no file")
        inside = all(path.parent == folder / name and path.name.startswith("shard") for path in paths)
        expect(inside, "write makes files elsewhere than at its prefix")
        expect({*paths} == {*(folder / name).iterdir()}, "write makes other files than it names")
        found.append({path.name: path.read_bytes() for path in paths})
    expect(found[0] == found[1], "writing twice gives other bytes")
    expect(found[0] == found[2], "how tokens come in blocks changes what is written")


def _written(writer: Writer, prefix: Path, parts: int) -> Sequence[Path]:
    lengths = np.array([3, 2, 4, 1, 5, 2], dtype=np.int32)
    trained = np.array([False, True] * 3)
    modes = segment_modes(trained=trained, starts=~trained, roles=np.where(trained, 3, 2).astype(np.int8))
    tokens = (splitmix64(np.arange(lengths.sum(), dtype=np.uint64)) % np.uint64(900)).astype(np.uint16)
    return writer.write(
        prefix=prefix,
        vocabulary_size=1000,
        blocks=iter(np.array_split(tokens, parts)),
        segment_lengths=lengths,
        segment_modes=modes,
        row_starts=np.array([0, 4, 6]),
    )


def check_engine(engine: Engine) -> None:
    """Check an engine: every task is answered once with its position, and what a task raises is raised."""
    check_kind(engine)
    try:
        for workers in (1, 2):
            found = sorted(engine.map(function=math.factorial, tasks=[3, 1, 4, 0], workers=workers))
            expect(found == [(0, 6), (1, 1), (2, 24), (3, 1)], f"map answers {found} with {workers} workers")
            expect(list(engine.map(function=math.factorial, tasks=[], workers=workers)) == [], "no tasks give answers")
            expect(_raises(engine, workers), f"what a task raises is lost with {workers} workers")
    finally:
        engine.close()


def _raises(engine: Engine, workers: int) -> bool:
    tasks: list[Any] = [2, -1]
    try:
        list(engine.map(function=math.factorial, tasks=tasks, workers=workers))
    except ValueError:
        return True
    return False
