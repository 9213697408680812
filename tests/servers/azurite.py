"""Microsoft's emulator of Azure's blobs on loopback: `npm install azurite`, found by PATH or named by ORCA_AZURITE."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from itertools import count

ACCOUNT = "devstoreaccount1"
# Public: the emulator's documents name it, and it opens nothing else.
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_VERSION = "2021-12-02"
_NUMBERS = count()


def command() -> str | None:
    """The emulator's command, None where it is not installed."""
    return os.environ.get("ORCA_AZURITE") or shutil.which("azurite-blob")


@contextmanager
def serving_azure(program: str) -> Iterator[str]:
    """Run the emulator in memory; gives its address."""
    words = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry", "--silent"]
    process = subprocess.Popen(
        [program, *words, "--skipApiVersionCheck"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            if found := re.search(r"listens on (http://127\.0\.0\.1:\d+)", line):
                yield f"{found[1]}/{ACCOUNT}"
                return
        raise RuntimeError(f"the emulator did not start: {said}")
    finally:
        process.terminate()
        process.stdout.close()
        process.wait()


def environment(address: str) -> dict[str, str]:
    """What a process needs to reach it."""
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
        "AZURE_STORAGE_ENDPOINT": address,
    }


def new_container(address: str) -> str:
    """Make a container; gives its name."""
    name = f"container-{os.getpid()}-{next(_NUMBERS)}"
    date = formatdate(usegmt=True)
    # The order of the parts is that of Azure's "Authorize with Shared Key"; most headers are empty here.
    told = (
        "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{_VERSION}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    )
    signed = hmac.new(base64.b64decode(_KEY), told.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date,
        "x-ms-version": _VERSION,
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}",
        "Content-Length": "0",
        "Content-Type": "",
    }
    request = urllib.request.Request(f"{address}/{name}?restype=container", method="PUT", headers=headers, data=b"")
    with urllib.request.urlopen(request):
        return name
