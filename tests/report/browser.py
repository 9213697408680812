"""A real browser without a screen, where this machine has one.

It is driven over a pipe of its own, by Chromium's DevTools protocol: messages of JSON that end with a zero byte, which
it reads at descriptor 3 and writes at descriptor 4.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Tab:
    """One page in a browser."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._rest, self._calls, self._session = b"", 0, None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")

    def show(self, page: Path, *, width: int, dark: bool = False) -> None:
        """Open a page in a window of this width, under a light or a dark scheme, and wait until it is there."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self._call("Page.navigate", url=page.as_uri())
        while self._read().get("method") != "Page.loadEventFired":
            pass

    def value(self, script: str) -> Any:
        """The value of an expression in the page."""
        told = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def picture(self) -> bytes:
        """A screenshot of what the window shows: PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot")["data"])

    def _call(self, method: str, **words: Any) -> Any:
        self._calls += 1
        told = {"id": self._calls, "method": method, "params": words}
        if self._session is not None:
            told["sessionId"] = self._session
        os.write(self._to, json.dumps(told).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._calls:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self) -> Any:
        while b"\0" not in self._rest:
            more = os.read(self._from, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        first, _, self._rest = self._rest.partition(b"\0")
        return json.loads(first)


_BECOME = """
import fcntl, os, sys
# Above 9 first, so that neither end lies where the other goes.
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, place in zip(ends, (3, 4)):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


def opened(page: Path, profile: Path) -> str:
    """The document as a browser has it after its scripts ran; skips where there is no browser."""
    # Pages within frames send what they found when they are loaded: the browser's own clock gives them time for it.
    command = [*_command(profile), "--dump-dom", "--virtual-time-budget=20000", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A browser with one page; skips where there is none."""
    program, *words = _command(profile)
    words.append("--remote-debugging-pipe")
    (to_read, to_browser), (from_browser, to_write) = os.pipe(), os.pipe()
    command = [sys.executable, "-c", _BECOME, str(to_read), str(to_write), program, *words]
    started = subprocess.Popen(command, pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL)
    os.close(to_read)
    os.close(to_write)
    try:
        yield Tab(to_browser, from_browser)
    finally:
        os.close(to_browser)
        started.wait()
        os.close(from_browser)


def _command(profile: Path) -> list[str]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no browser: apt-get install chromium")
    return [program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
