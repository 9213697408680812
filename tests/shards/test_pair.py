"""A pair is read as it was written, by our reader and by Megatron's own, and garbage is refused in a sentence."""

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_recipes.errors import DamagedShard
from orca_recipes.shards.idx_file import HEADER, Index, write_index
from orca_recipes.shards.layout import STARTS, TRAINED
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.writer import write_pair

Segment = tuple[int, list[int]]
Row = list[Segment]


@st.composite
def rows_of_segments(draw, vocabulary_size: int) -> list[Row]:
    """Rows of (mode, tokens); the first segment of each row starts an example."""
    tokens = st.lists(st.integers(0, vocabulary_size - 1), min_size=1, max_size=5)
    mode = st.builds(lambda role, flags: role << 2 | flags, st.integers(0, 4), st.integers(0, 3))
    rows = draw(st.lists(st.lists(st.tuples(mode, tokens), min_size=1, max_size=6), min_size=1, max_size=6))
    return [[(row[0][0] | STARTS, row[0][1]), *row[1:]] for row in rows]


def write(prefix: Path, rows: list[Row], vocabulary_size: int, block: int = 3) -> None:
    flat = [segment for row in rows for segment in row]
    tokens = np.array([token for _, ids in flat for token in ids], dtype=np.uint32)
    write_pair(
        prefix=prefix,
        vocabulary_size=vocabulary_size,
        blocks=iter(np.array_split(tokens, block)),
        segment_lengths=np.array([len(ids) for _, ids in flat], dtype=np.int32),
        segment_modes=np.array([mode for mode, _ in flat], dtype=np.int8),
        row_starts=np.cumsum([0, *map(len, rows)]),
    )


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


ROWS: list[Row] = [
    [(STARTS | 2 << 2, [1, 2, 3]), (TRAINED | 3 << 2, [4, 5])],
    [(STARTS | 2 << 2, [6]), (TRAINED | 3 << 2, [7, 8]), (STARTS | 2 << 2, [9]), (TRAINED | 3 << 2, [10])],
]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), vocabulary_size=st.sampled_from([7, 65_499, 65_500, 150_000]))
def test_a_pair_gives_back_what_was_written(data, vocabulary_size):
    rows = data.draw(rows_of_segments(vocabulary_size))
    with folder() as here:
        write(here / "00000", rows, vocabulary_size, block=data.draw(st.integers(1, 5)))
        shard = Shard.open(here / "00000")
        assert shard.rows == len(rows)
        for number, row in enumerate(rows):
            found = shard.row(number)
            assert found.tokens.tolist() == [token for _, ids in row for token in ids]
            assert found.segments.lengths.tolist() == [len(ids) for _, ids in row]
            assert found.segments.modes.tolist() == [mode for mode, _ in row]


@settings(max_examples=40, deadline=None)
@given(rows=rows_of_segments(70_000))
def test_columns_of_all_examples_agree_with_the_rows(rows):
    with folder() as here:
        write(here / "00000", rows, 70_000)
        shard = Shard.open(here / "00000")
        found = []
        for number in range(shard.rows):
            segments = shard.row(number).segments
            for example in range(segments.examples):
                start, stop = segments.example_starts[example : example + 2]
                trained = [
                    int(length) - (at == start)
                    for at, (length, mode) in enumerate(
                        zip(segments.lengths[start:stop], segments.modes[start:stop], strict=True), start=start
                    )
                    if mode & TRAINED
                ]
                place, end = segments.example_bounds[example : example + 2]
                found.append((number, int(place), int(end - place), sum(trained)))
        columns = shard.segments
        told = (columns.example_rows, columns.example_places, columns.example_tokens, columns.example_trained_tokens)
        assert list(zip(*(column.tolist() for column in told), strict=True)) == found
        assert columns.examples == len(found)


@pytest.mark.parametrize("vocabulary_size", [300, 100_000])
def test_stock_megatron_opens_the_pair_and_agrees(tmp_path, indexed_dataset, vocabulary_size):
    chance = np.random.default_rng(3)
    rows = [
        [
            (int(chance.integers(0, 5)) << 2 | int(chance.integers(0, 2)) | STARTS * (at == 0),
             chance.integers(0, vocabulary_size, chance.integers(1, 9)).tolist())
            for at in range(chance.integers(1, 7))
        ]
        for _ in range(50)
    ]  # fmt: skip
    prefix = tmp_path / "00000"
    write(prefix, rows, vocabulary_size, block=7)
    dataset, shard = indexed_dataset.IndexedDataset(str(prefix), multimodal=True), Shard.open(prefix)
    assert dataset.index.sequence_modes.tolist() == shard.segments.modes.tolist()
    assert dataset.sequence_lengths.tolist() == shard.segments.lengths.tolist()
    assert dataset.index.sequence_pointers.tolist() == shard.offsets.tolist()
    assert dataset.document_indices.tolist() == shard.segments.row_starts.tolist()
    assert dataset.index.dtype == shard.dtype
    # Items die with the dataset, so each is copied.
    stored = [np.array(dataset[at][0]).tolist() for at in range(len(dataset))]
    assert stored == [ids for row in rows for _, ids in row]
    del dataset
    assert [token for ids in stored for token in ids] == shard.tokens.tolist()


def test_a_pair_without_rows_can_be_written_and_read(tmp_path):
    write_pair(
        prefix=tmp_path / "00000",
        vocabulary_size=300,
        blocks=iter([]),
        segment_lengths=np.zeros(0, dtype=np.int32),
        segment_modes=np.zeros(0, dtype=np.int8),
        row_starts=np.zeros(1, dtype=np.int64),
    )
    segments = Shard.open(tmp_path / "00000").segments
    assert (segments.rows, segments.examples) == (0, 0)
    columns = (segments.example_rows, segments.example_places, segments.example_trained_tokens)
    assert [column.tolist() for column in columns] == [[], [], []]


def test_an_index_may_point_into_its_tokens_in_any_order(tmp_path):
    write(tmp_path / "unpacked", ROWS, 300)
    source = Shard.open(tmp_path / "unpacked")
    order = np.array([5, 4, 0, 1, 2, 3])[[1, 0, 2, 3, 4, 5]]
    packed = Index(
        dtype=source.dtype,
        lengths=source.segments.lengths[order],
        offsets=source.offsets[order],
        row_starts=np.array([0, 4, 6]),
        modes=source.segments.modes[order],
    )
    (tmp_path / "packed.bin").hardlink_to(tmp_path / "unpacked.bin")
    write_index(tmp_path / "packed.idx", packed)
    shard = Shard.open(tmp_path / "packed")
    assert not shard.index.is_contiguous()
    assert shard.row(0).tokens.tolist() == [9, 10, 1, 2, 3, 4, 5]
    assert shard.row(1).tokens.tolist() == [6, 7, 8]
    assert shard.training_view(0, row_tokens=8, align=1, pad_id=0).tokens.tolist() == [9, 10, 1, 2, 3, 4, 5, 0]


@pytest.mark.parametrize(("vocabulary_size", "token"), [(60_000, 60_000), (60_000, 70_000), (70_000, 70_000)])
def test_a_token_outside_the_vocabulary_is_never_written(tmp_path, vocabulary_size, token):
    with pytest.raises(DamagedShard, match=f"token {token} at place 4 is outside the vocabulary of {vocabulary_size}"):
        write(tmp_path / "00000", [[(3, [1, 2, 3, 4, token])]], vocabulary_size, block=2)


def test_tokens_and_segments_must_agree(tmp_path):
    with pytest.raises(DamagedShard, match="4 tokens were handed over for segments of 5 tokens in all"):
        write_pair(
            prefix=tmp_path / "00000",
            vocabulary_size=300,
            blocks=iter([np.arange(4, dtype=np.uint32)]),
            segment_lengths=np.array([5], dtype=np.int32),
            segment_modes=np.array([3], dtype=np.int8),
            row_starts=np.array([0, 1]),
        )
    assert not (tmp_path / "00000.idx").exists()


@pytest.mark.parametrize(
    ("lengths", "modes", "row_starts", "told"),
    [
        ([], [], [], "its list of rows is empty"),
        ([1], [3], [0, 2], "its rows cover segments 0 to 2, not 0 to 1"),
        ([1], [3], [0, 0, 1], "row 0 holds no segment"),
        ([1, 0], [3, 1], [0, 2], "segment 1 has length 0"),
        ([1], [1], [0, 1], "row 0 does not begin with the start of an example"),
        ([1], [3 | 5 << 2], [0, 1], "segment 0 has mode 23, which the format does not know"),
        ([1], [-125], [0, 1], "segment 0 has mode -125, which the format does not know"),
    ],
)
def test_rows_that_could_not_be_read_are_never_written(tmp_path, lengths, modes, row_starts, told):
    with pytest.raises(DamagedShard, match=told):
        write_pair(
            prefix=tmp_path / "00000",
            vocabulary_size=300,
            blocks=iter([np.zeros(sum(lengths), dtype=np.uint32)]),
            segment_lengths=np.array(lengths, dtype=np.int32),
            segment_modes=np.array(modes, dtype=np.int8),
            row_starts=np.array(row_starts, dtype=np.int64),
        )
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_is_not_there_is_an_index_error(tmp_path):
    write(tmp_path / "00000", ROWS, 300)
    for row in (-1, 2):
        with pytest.raises(IndexError, match="has rows 0 to 1"):
            Shard.open(tmp_path / "00000").row(row)


def index_of(lengths: list[int], offsets: list[int], row_starts: list[int], modes: list[int]) -> bytes:
    head = HEADER.pack(b"MMIDIDX\0\0", 1, 8, len(lengths), len(row_starts))
    arrays = ((lengths, "<i4"), (offsets, "<i8"), (row_starts, "<i8"), (modes, "i1"))
    return head + b"".join(np.array(values, dtype=kind).tobytes() for values, kind in arrays)


@pytest.mark.parametrize(
    ("index", "told"),
    [
        (b"", "0 bytes are too few"),
        (b"MMIDIDX\0\0", "9 bytes are too few"),
        (b"X" * 40, "its first bytes are not those of a Megatron index"),
        (struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 2, 8, 1, 2), "it has version 2"),
        (struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, 6, 1, 2), "dtype code 6"),
        (struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, 8, 2**63, 2**64 - 1), "its header tells of 9223372036854775808"),
        (index_of([2], [0], [0, 1], [3]) + b"x", "where its header tells of 1 segments"),
        (index_of([2], [0], [1, 1], [3]), "its rows cover segments 1 to 1"),
        (index_of([2, 2], [0, 4], [0, 5, 2], [3, 3]), "row 1 holds no segment"),
        (index_of([-1], [0], [0, 1], [3]), "segment 0 has length -1"),
        (index_of([2], [1], [0, 1], [3]), "segment 0 lies at byte 1, outside"),
        (index_of([2], [-2], [0, 1], [3]), "segment 0 lies at byte -2, outside"),
        (index_of([5], [2], [0, 1], [3]), "segment 0 lies at byte 2, outside the 10 bytes"),
        (index_of([2], [2**63 - 2], [0, 1], [3]), "outside the 10 bytes"),
        (index_of([2], [0], [0, 1], [32]), "segment 0 has mode 32"),
    ],
)
def test_a_damaged_index_is_refused_with_its_name_and_what_is_wrong(tmp_path, index, told):
    (tmp_path / "00000.bin").write_bytes(bytes(10))
    (tmp_path / "00000.idx").write_bytes(index)
    with pytest.raises(DamagedShard, match=told) as refusal:
        Shard.open(tmp_path / "00000")
    assert str(refusal.value).startswith(f"{tmp_path / '00000.idx'}: ")


def test_tokens_that_are_missing_empty_or_halved_are_refused(tmp_path):
    write(tmp_path / "00000", ROWS, 300)
    tokens = tmp_path / "00000.bin"
    for data, told in (
        (tokens.read_bytes()[:-1], "are not whole uint16 tokens"),
        (b"", "outside the 0 bytes of tokens"),
    ):
        tokens.write_bytes(data)
        with pytest.raises(DamagedShard, match=told):
            Shard.open(tmp_path / "00000")
    tokens.unlink()
    with pytest.raises(DamagedShard, match="there is no such file"):
        Shard.open(tmp_path / "00000")
    tokens.mkdir()
    with pytest.raises(DamagedShard, match="it cannot be read"):
        Shard.open(tmp_path / "00000")


def complaint(prefix: Path) -> str | None:
    """Read everything; what was complained of, if anything was."""
    try:
        shard = Shard.open(prefix, vocabulary_size=300, check=True)
        for row in range(min(shard.rows, 20)):
            shard.training_view(row, row_tokens=16, align=2, pad_id=0)
    except DamagedShard as refusal:
        return str(refusal)
    return None


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_garbage_only_ever_gives_one_sentence(data):
    sound = index_of([3, 2, 1, 2], [0, 6, 10, 12], [0, 2, 4], [10, 13, 10, 13])
    garbage = data.draw(st.one_of(st.binary(max_size=200), st.binary(max_size=160).map(lambda tail: sound[:34] + tail)))
    changed = bytearray(sound)
    for _ in range(data.draw(st.integers(0, 6))):
        changed[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    with folder() as here:
        (here / "00000.bin").write_bytes(np.arange(8, dtype="<u2").tobytes())
        for index in (garbage, bytes(changed)):
            (here / "00000.idx").write_bytes(index)
            told = complaint(here / "00000")
            assert told is None or (str(here) in told and len(told.splitlines()) == 1)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            [[(STARTS | 2 << 2, [1, 2]), (2 << 2, [3]), (TRAINED | 3 << 2, [4])]],
            "has role and mask of the one before it",
        ),
        ([[(STARTS | 2 << 2, [1, 2])]], "no token after its first is trained"),
        ([[(STARTS | TRAINED | 3 << 2, [1])]], "no token after its first is trained"),
        ([[(STARTS | TRAINED | 3 << 2, [1, 2]), (2 << 2, [3])]], "it goes on after its last trained turn"),
        ([[(STARTS | TRAINED | 3 << 2, [1, 250])]], "token 250 is outside the vocabulary of 200"),
    ],
)
def test_debug_mode_refuses_a_row_that_breaks_an_invariant(tmp_path, rows, told):
    write(tmp_path / "00000", ROWS[:1] + rows, 300)
    shard = Shard.open(tmp_path / "00000", vocabulary_size=200, check=True)
    shard.row(0)
    with pytest.raises(DamagedShard, match=f"00000.idx: row 1: .*{told}"):
        shard.row(1)
    assert Shard.open(tmp_path / "00000").row(1).tokens.tolist() == [token for _, ids in rows[0] for token in ids]
