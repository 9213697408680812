"""Source `files`: which lines of a block the fast reader may be trusted with."""

import re
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from orca_plugins.sources.files.json_rows import jsonl_trusted_lines as _files_lines
from orca_plugins.sources.files.json_rows.jsonl_trusted_lines import count_feeds, index_lines

BITS = st.lists(
    st.sampled_from([b"Inf", b"I", b"nf", b"-NaN", b"N", b"aN", b"-", b",", b" ", b"]", b"\xff"]), max_size=9
)


@given(bits=st.lists(BITS.map(b"".join), min_size=1, max_size=5), window=st.integers(1, 40))
def test_numbers_that_only_the_fast_reader_knows_are_found_wherever_they_stand(bits: list[bytes], window: int) -> None:
    block = b"\n".join(b'{"x": %s}' % bit for bit in bits)
    with mock.patch.object(_files_lines, "_IN_CACHE", window):
        plain = index_lines(block, first_place=1).sure().plain.tolist()
    assert plain == [not re.search(rb"Inf[ \t\r]*[,\]}]|-NaN", b"%s}" % bit) for bit in bits]


@given(block=st.lists(st.sampled_from([b"{}", b"", b" ", b"\r"]), min_size=1).map(b"\n".join).filter(bool))
def test_a_block_says_which_line_follows_it(block: bytes) -> None:
    feeds = block.count(b"\n")
    assert count_feeds(block) == feeds
    assert index_lines(block, first_place=5).next_place == 5 + feeds
