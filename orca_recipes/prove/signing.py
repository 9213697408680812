"""Signatures of a build by an SSH key, in OpenSSH's own format: whoever has `ssh-keygen` can check them without us.

What is signed is `manifest.json`, whose seal covers all of itself and whose digests cover every other file.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from orca_recipes.errors import PluginError, UserError
from orca_recipes.shards.files import read_whole, write_whole
from orca_recipes.shards.manifest import NAME, read_manifest

# ssh-keygen checks it, so a signature made for another purpose is refused.
NAMESPACE = "orca-recipe"
# ssh-keygen looks a key up by a name in a file of allowed signers; we write a file of one line, under this name.
_SIGNER = "signer"


def sign(directory: Path, *, key: Path, out: Path) -> None:
    """Sign a build's manifest with an SSH private key, or a public one whose private half an agent holds.

    Raises: BuildError, DamagedShard where there is no sound manifest; UserError where ssh-keygen cannot sign.
    """
    read_manifest(directory)
    _need(key)
    done = _ssh_keygen("-Y", "sign", "-f", str(key), "-n", NAMESPACE, given=read_whole(directory / NAME))
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise UserError(f"{key}: ssh-keygen cannot sign with it: {_words(done)}; name an SSH private key with --key")
    write_whole(out, done.stdout)


def is_signed(file: Path, *, signature: Path, key: Path) -> bool:
    """Tell whether a file is the one signed, by this public key.

    Raises: UserError where signature or key cannot be read; PluginError where ssh-keygen is missing.
    """
    _need(signature)
    _need(key)
    if b"PRIVATE KEY" in (told := key.read_bytes()):
        raise UserError(f"{key}: it is a private key; give the public one, as {key.name}.pub, which checks as well")
    with tempfile.TemporaryDirectory() as folder:
        signers = Path(folder) / "signers"
        signers.write_bytes(_SIGNER.encode() + b' namespaces="' + NAMESPACE.encode() + b'" ' + told.strip() + b"\n")
        told_by = ("-f", str(signers), "-I", _SIGNER, "-n", NAMESPACE, "-s", str(signature))
        return _ssh_keygen("-Y", "verify", *told_by, given=read_whole(file)).returncode == 0


def _need(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; check the path")


def _ssh_keygen(*words: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *words], input=given, capture_output=True, check=False)
    except FileNotFoundError:
        raise PluginError("signatures need ssh-keygen, which is not installed; install OpenSSH 8.2 or newer") from None


def _words(done: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join(done.stderr.decode(errors="replace").split()) or f"exit status {done.returncode}"
