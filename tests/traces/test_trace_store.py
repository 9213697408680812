"""The trace store: what is kept, what is found again, and what damage costs."""

import asyncio
import errno
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.contract.answers import Answer, Lengths
from orca_recipes.traces.question_claims import KeyClaims
from orca_recipes.traces.trace_lines import Question, Trace, decode, encode
from orca_recipes.traces.trace_segments import SegmentWriter, segments
from orca_recipes.traces.trace_store import DurableAnswers, Standing, TraceStore

ANY_LENGTH = Lengths((None,))


def found(store: TraceStore, trace: Trace, lengths: Lengths = ANY_LENGTH) -> Answer | None:
    """The answer that serves a trace's request."""
    store.refresh()
    key = trace.answer.key
    entry = store.standings([key], lengths)[key].entry
    return None if entry is None else store.read({key: entry})[key]


def test_what_is_kept_is_found_by_everybody_who_opens_the_store(store: TraceStore, trace, tmp_path: Path) -> None:
    store.append([trace("Why?"), trace("How?")])
    with TraceStore(store.root, index=tmp_path / "other.sqlite") as other:
        assert found(other, trace("How?")) == trace("How?").answer
        assert found(other, trace("When?")) is None


def test_each_writer_has_files_of_its_own(store: TraceStore, trace, tmp_path: Path) -> None:
    with TraceStore(store.root, index=tmp_path / "other.sqlite") as other:
        store.append([trace("a")])
        other.append([trace("b")])
        store.append([trace("c")])
        assert [len(path.read_bytes().splitlines()) for path in segments(store.folder)] in ([1, 2], [2, 1])
        assert [found(other, trace(text)) is not None for text in "abc"] == [True] * 3


def test_a_segment_cut_at_any_byte_keeps_every_answer_before_the_cut(trace, tmp_path: Path) -> None:
    traces = [trace(f"{n} ✓\n{'x' * n}") for n in range(3)]
    lines = [encode(each) for each in traces]
    whole = b"".join(lines)
    folder = tmp_path / "traces" / "segments"
    folder.mkdir(parents=True)
    for cut in range(len(whole) + 1):
        (folder / "a.answers").write_bytes(whole[:cut])
        kept = sum(len(b"".join(lines[: n + 1])) <= cut for n in range(3))
        with TraceStore(tmp_path / "traces", index=tmp_path / "index.sqlite") as store:
            store.refresh()
            keys = [each.answer.key for each in traces]
            standings = store.standings(keys, ANY_LENGTH).values()
            assert [stand.entry is not None for stand in standings] == [n < kept for n in range(3)]


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_flipped_bit_costs_its_own_line_and_at_a_line_end_the_next(place: int, bit: int) -> None:
    lines = [
        encode(Trace(Answer(bytes([n]) * 32, "t", "stop", None, 1, 0, 1, "m", "m", "e", 1.0, None, None), None))
        for n in range(3)
    ]
    data = bytearray(b"".join(lines))
    at = place % len(data)
    data[at] ^= 1 << bit
    decoded = [decode(line) for line in bytes(data).split(b"\n")]
    assert sum(each is not None for each in decoded) >= 1
    assert {each.answer.key for each in decoded if each} <= {bytes([n]) * 32 for n in range(3)}


def test_what_a_writer_adds_behind_a_half_written_line_is_found_once_the_line_is_whole(
    store: TraceStore, trace
) -> None:
    store.append([trace("a")])
    (path,) = segments(store.folder)
    line = encode(trace("b"))
    with path.open("ab") as file:
        file.write(line[:50])
        file.flush()
        assert found(store, trace("b")) is None
        file.write(line[50:])
    assert found(store, trace("b")) is not None


def test_the_index_is_made_anew_when_it_is_gone_or_damaged(trace, tmp_path: Path) -> None:
    index = tmp_path / "index.sqlite"
    for damage in (index.unlink, lambda: index.write_bytes(b"no database at all" * 1000)):
        with TraceStore(tmp_path / "traces", index=index) as store:
            if found(store, trace("a")) is None:
                store.append([trace("a")])
            assert found(store, trace("a")) is not None
        for suffix in ("-wal", "-shm"):
            index.with_name(index.name + suffix).unlink(missing_ok=True)
        damage()
    with TraceStore(tmp_path / "traces", index=index) as store:
        assert found(store, trace("a")) is not None
    assert sqlite3.connect(index).execute("SELECT count(*) FROM answers").fetchone() == (1,)


def test_a_segment_that_was_exchanged_under_the_index_is_read_anew(store: TraceStore, trace) -> None:
    store.append([trace("a"), trace("b")])
    assert found(store, trace("b")) is not None
    (path,) = segments(store.folder)
    path.write_bytes(encode(trace("b")) + encode(trace("a")))
    key = trace("b").answer.key
    entry = store.standings([key], ANY_LENGTH)[key].entry
    assert entry is not None
    assert store.read({key: entry}) == {}
    assert found(store, trace("b")) == trace("b").answer


def test_where_no_index_can_be_written_it_is_kept_in_memory(trace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with TraceStore(tmp_path / "traces", index=tmp_path / "file" / "index.sqlite") as store:
        store.append([trace("a")])
        assert found(store, trace("a")) is not None


def test_of_two_answers_the_earlier_is_used_and_of_equal_times_always_the_same(trace, tmp_path: Path) -> None:
    answers = [trace("a", text=text, time=time) for text, time in (("x", 3.0), ("y", 2.0), ("z", 2.0))]
    used = set()
    for number, order in enumerate(([0, 1, 2], [2, 1, 0], [1, 0, 2])):
        with TraceStore(tmp_path / str(number), index=tmp_path / f"{number}.sqlite") as store:
            store.append([answers[place] for place in order])
            answer = found(store, answers[0])
            assert answer is not None
            used.add(answer.text)
    assert used in ({"y"}, {"z"})


@pytest.mark.parametrize(
    ("words", "max_tokens", "serves"),
    [
        ({}, None, True),
        ({}, 10, True),
        ({}, 3, True),
        ({}, 2, False),
        ({"output_tokens": None}, 10, True),
        ({"output_tokens": None}, 11, True),
        ({"output_tokens": None}, 9, False),
        ({"output_tokens": None, "max_tokens": None}, 100, False),
        ({"finish_reason": "length"}, 10, True),
        ({"finish_reason": "length"}, 11, False),
        ({"finish_reason": "length"}, None, False),
        ({"text": None, "reason": "content filter"}, 10, True),
        ({"text": None, "reason": "content filter"}, 100, False),
    ],
)
def test_a_finished_answer_serves_any_limit_above_its_length_a_cut_one_only_its_own(
    store: TraceStore, trace, words: dict, max_tokens: int | None, serves: bool
) -> None:
    kept = trace("a", **words)
    store.append([kept])
    assert (found(store, kept, Lengths((max_tokens,))) is not None) == serves == kept.answer.serves(max_tokens)


def test_an_answer_that_was_cut_is_asked_again_under_the_next_limit(store: TraceStore, trace) -> None:
    lengths = Lengths((10, 20, 40))
    key = trace("a").answer.key

    def standing() -> Standing:
        store.refresh()
        return store.standings([key], lengths)[key]

    assert standing() == Standing(None, 10)
    store.append([trace("a", finish_reason="length", max_tokens=10)])
    assert standing() == Standing(None, 20)
    store.append([trace("a", finish_reason="length", max_tokens=20)])
    assert standing() == Standing(None, 40)
    store.append([trace("a", text="Long.", max_tokens=40, output_tokens=33)])
    entry = standing().entry
    assert entry is not None
    assert not entry.is_cut


def test_an_answer_counts_when_it_is_on_the_disk(store: TraceStore, trace, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    sync = os.fsync

    def counting(file: int) -> None:
        sync(file)
        flushed.append(os.fstat(file).st_size)

    monkeypatch.setattr(os, "fsync", counting)
    sizes: list[int] = []

    async def keep_all() -> None:
        durable = DurableAnswers(store)

        async def keep(number: int) -> None:
            await durable.keep(trace(str(number)))
            sizes.append(flushed[-1])

        await asyncio.gather(*(keep(number) for number in range(300)))

    asyncio.run(keep_all())
    assert len(sizes) == 300
    assert sizes[-1] == segments(store.folder)[0].stat().st_size
    assert len(flushed) < 20, "answers that come together are brought to the disk together"


def test_a_full_disk_refuses_the_answer_and_leaves_what_was_kept(
    store: TraceStore, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append([trace("a")])
    write = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) > 100:
            return write(file, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            store.append([trace("b")])
    assert segments(store.folder)[0].read_bytes() == encode(trace("a"))
    store.append([trace("b")])
    assert found(store, trace("a")) is not None
    assert found(store, trace("b")) is not None


def test_an_answer_behind_a_torn_line_that_could_not_be_cut_off_is_kept(
    store: TraceStore, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append([trace("a")])
    write = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) > 100:
            return write(file, data[:100])
        raise OSError(errno.EIO, "Input/output error")

    def refused(file: int, size: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        patch.setattr(os, "ftruncate", refused)
        with pytest.raises(OSError, match="Input/output error"):
            store.append([trace("b")])
    store.append([trace("c")])
    assert found(store, trace("a")) is not None
    assert found(store, trace("c")) is not None


def test_whoever_waits_for_an_answer_that_cannot_be_written_hears_of_it(
    store: TraceStore, trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(traces: object) -> None:
        raise ValueError("no JSON")

    monkeypatch.setattr(store, "append", refuse)
    with pytest.raises(ValueError, match="no JSON"):
        asyncio.run(asyncio.wait_for(DurableAnswers(store).keep(trace("a")), 10))


def test_halves_of_surrogate_pairs_do_not_keep_an_answer_from_being_kept(store: TraceStore, trace) -> None:
    store.append([trace("a", text="half \ud83d and whole \U0001f600")])
    answer = found(store, trace("a"))
    assert answer is not None
    assert answer.text == "half � and whole 😀"


def test_a_request_that_one_build_asks_is_not_asked_by_another(store: TraceStore, tmp_path: Path) -> None:
    keys = [bytes([n]) * 32 for n in range(4)]
    with TraceStore(store.root, index=tmp_path / "index.sqlite") as other, KeyClaims(other.index) as theirs:
        with KeyClaims(store.index) as ours:
            assert ours.claim(keys[:3]) == set(keys[:3])
            assert theirs.claim(keys) == {keys[3]}
            theirs.release_of_the_dead()
            assert theirs.claim(keys) == {keys[3]}
        assert theirs.claim(keys) == set(keys)


def test_claims_of_a_build_that_was_killed_count_for_nothing(store: TraceStore) -> None:
    keys = [b"k" * 32]
    assert store.index.claim(keys, "somebody who is gone") == set(keys)
    with KeyClaims(store.index) as ours:
        assert ours.claim(keys) == set(keys)


def test_a_full_segment_is_followed_by_another(trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orca_recipes.traces.trace_segments.SEGMENT_BYTES", 1000)
    writer = SegmentWriter(tmp_path)
    for number in range(6):
        writer.append(encode(trace(str(number))))
    writer.close()
    assert 1 < len(segments(tmp_path)) < 6


def test_a_key_is_of_messages_model_options_and_sample_alone() -> None:
    asked = Question((("user", "Why?"),), {"model": "m", "temperature": 0.5}, 0)
    same = Question((("user", "Why?"),), {"temperature": 0.5, "model": "m"}, 0)
    assert asked.key() == same.key()
    others = [
        replace(asked, messages=(("user", "Why"), ("user", "?"))),
        replace(asked, messages=(("system", "Why?"),)),
        replace(asked, sampling={"model": "m", "temperature": 0.6}),
        replace(asked, sample=1),
    ]
    assert len({asked.key(), *(other.key() for other in others)}) == 5
    assert asked.key().hex() == "d466db27180bfe1682fc17c74906e0e5929cf9dd78f506b11971d0e5ed42efe8", (
        "else all is bought anew"
    )
