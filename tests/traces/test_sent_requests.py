"""What was sent and not answered, as a process leaves it that was killed."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orca_recipes.traces.sent_requests import SUFFIX, Sending, SentRequests
from orca_recipes.traces.trace_segments import segments

KILLED = """
import os, signal, sys
from pathlib import Path
from orca_recipes.traces.sent_requests import SentRequests
with SentRequests(Path(sys.argv[1])) as sent:
    sent.begin(b"answered", "here", once=False)
    sent.begin(b"flying", "here", once=False)
    sent.begin(b"refused", "here", once=False)
    sent.begin(b"twice", "here", once=False)
    sent.begin(b"twice", "here", once=False)
    sent.answered(b"answered")
    sent.answered(b"twice")
    sent.refused(b"refused")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_what_was_in_flight_and_what_nobody_was_told(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL
    with SentRequests(tmp_path) as sent:
        assert {key: sending.tries for key, sending in sent.open.items()} == {b"flying": 1}
        assert sent.untold == {b"twice": 1}
        assert len(segments(tmp_path, SUFFIX)) == 1
        sent.begin(b"flying", "here", once=False)
        sent.answered(b"flying")
        assert [sent.tell(key) for key in (b"flying", b"twice", b"twice", b"never sent")] == [1, 1, 0, 0]
    assert not list(tmp_path.iterdir())


def test_what_lives_is_left_alone(tmp_path: Path) -> None:
    with SentRequests(tmp_path) as living:
        living.begin(b"flying", "here", once=False)
        with SentRequests(tmp_path) as other:
            assert not other.open
        living.answered(b"flying")
    assert not list(tmp_path.iterdir())


def test_an_endpoint_that_answers_one_token_once_is_sent_the_same_one_until_something_comes_back(
    tmp_path: Path,
) -> None:
    with SentRequests(tmp_path) as sent:
        first = sent.begin(b"a", "here", once=True)
    with SentRequests(tmp_path) as sent:
        assert sent.begin(b"a", "here", once=True) == first
        assert sent.begin(b"a", "elsewhere", once=True) != first
        sent.answered(b"a")
        assert sent.tell(b"a") == 1
        again = sent.begin(b"a", "here", once=True)
        assert again != first
        sent.answered(b"a")
        assert sent.tell(b"a") == 0


def test_a_file_begins_anew_with_what_is_open_and_a_torn_line_says_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("orca_recipes.traces.sent_requests._MOST_BYTES", 200)
    with SentRequests(tmp_path) as sent:
        for number in range(50):
            key = number.to_bytes(32)
            sent.begin(key, "here", once=False)
            if number:
                sent.answered(key)
    (path,) = segments(tmp_path, SUFFIX)
    assert path.stat().st_size < 1000
    with path.open("ab") as file:
        file.write(b'{"key": "00')
    with SentRequests(tmp_path) as sent:
        held = sent.open[bytes(32)]
        assert sent.open == {bytes(32): Sending(1, "here", held.token, counted=False)}


def test_a_folder_that_cannot_be_written_is_read_by_nobody(tmp_path: Path, monkeypatch) -> None:
    with SentRequests(tmp_path) as sent:
        sent.begin(b"a", "here", once=False)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with SentRequests(tmp_path) as sent:
        assert not sent.open
    assert len(segments(tmp_path, SUFFIX)) == 1


def test_a_disk_that_takes_half_a_line_costs_no_other_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def half(file: int, data: bytes) -> int:
        if len(data) > 20:
            return write(file, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    sent = SentRequests(tmp_path)
    sent.begin(b"a", "here", once=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            sent.begin(b"b", "here", once=False)
        with pytest.raises(OSError, match="No space left"):
            sent.begin(b"c", "here", once=False)
    assert len(list(tmp_path.iterdir())) == 1
    sent.begin(b"d", "here", once=False)
    (path,) = segments(tmp_path, SUFFIX)
    held = [json.loads(line)["key"] for line in path.read_bytes().splitlines()]
    assert held == [key.hex() for key in (b"a", b"b", b"c", b"d")]
    os.close(sent._file)
