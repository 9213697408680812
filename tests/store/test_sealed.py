"""What receipts promise of files."""

from pathlib import Path

import blake3

from orca_recipes.shards.digests import file_digest
from orca_recipes.store.sealed import is_promised, promise


def test_a_promise_is_the_digest_of_all_bytes(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(bytes(range(256)) * 5000)
    assert promise(path) == f"blake3:{blake3.blake3(path.read_bytes()).hexdigest()}"


def test_a_receipt_of_either_digest_is_kept_or_broken(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"as written")
    promised = [promise(path), file_digest(path)]
    assert all(is_promised(path, digest) for digest in promised)
    path.write_bytes(b"as damaged")
    assert not any(is_promised(path, digest) for digest in promised)
