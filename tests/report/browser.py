"""A real browser without a screen, where this machine has one."""

import shutil
import subprocess
from pathlib import Path

import pytest


def opened(page: Path, profile: Path) -> str:
    """The document as a browser has it after its scripts ran; skips where there is no browser."""
    # Pages within frames send what they found when they are loaded: the browser's own clock gives them time for it.
    return _chromium(page, profile, "--dump-dom", "--virtual-time-budget=20000")


def pictured(page: Path, profile: Path, *, width: int, dark: bool) -> bytes:
    """A screenshot: PNG."""
    picture = profile / f"{width}-{dark}.png"
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    _chromium(page, profile, f"--screenshot={picture}", f"--window-size={width},1200", *scheme)
    return picture.read_bytes()


def _chromium(page: Path, profile: Path, *options: str) -> str:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no browser: apt-get install chromium")
    profile.mkdir(exist_ok=True)
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile / 'user'}"]
    done = subprocess.run([browser, *words, *options, page.as_uri()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
