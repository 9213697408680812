"""Files of a copy that are read by ranges: what is asked for comes, of one and the same object."""

from pathlib import Path

import numpy as np
import pytest

from orca_recipes.errors import ObjectsError
from orca_recipes.objects.address import address_of
from orca_recipes.objects.copies import Copy, PromisedFile
from orca_recipes.objects.objects import Objects
from orca_recipes.objects.ranges import RangedFile, is_elsewhere, ranged_file, sizes_at_address

DATA = bytes(range(256)) * 1024


@pytest.fixture
def folder(bucket: str, tmp_path: Path) -> Path:
    """A copy of one file, of which nothing is here."""
    address = address_of(f"s3://{bucket}/build")
    Objects(address).put("main/00000.bin", DATA)
    Copy(tmp_path / "here" / "build", address, {"main/00000.bin": PromisedFile(len(DATA), "blake2b:0")}).keep()
    return tmp_path / "here" / "build"


def opened(folder: Path) -> RangedFile:
    found = ranged_file(folder / "main" / "00000.bin")
    assert found is not None
    return found


def test_what_is_asked_for_comes_and_nothing_else(folder: Path):
    file = opened(folder)
    assert len(file.data) == len(DATA)
    file.bring(np.array([70_000, 5, len(DATA) - 3]), np.array([100_001, 6, len(DATA)]))
    assert file.data[70_000:100_001].tobytes() == DATA[70_000:100_001]
    assert file.data[5] == DATA[5]
    assert file.data[-3:].tobytes() == DATA[-3:]
    assert not file.data[160_000:200_000].any()
    file.bring(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    assert not (folder / "main").exists()


def test_an_object_that_is_replaced_while_it_is_read_is_refused(folder: Path, bucket: str):
    file = opened(folder)
    Objects.at(f"s3://{bucket}/build").put("main/00000.bin", DATA[::-1])
    with pytest.raises(ObjectsError, match="it changed while it was read"):
        file.bring(np.array([0]), np.array([9]))


def test_an_object_of_another_size_is_told(folder: Path, bucket: str):
    Objects.at(f"s3://{bucket}/build").put("main/00000.bin", b"short")
    with pytest.raises(ObjectsError, match=f"has 5 bytes, where {len(DATA)} are promised"):
        opened(folder)
    Objects.at(f"s3://{bucket}/build").delete(["main/00000.bin"])
    with pytest.raises(ObjectsError, match=r"00000\.bin is missing"):
        opened(folder)


def test_what_is_here_is_read_here(folder: Path, tmp_path: Path):
    path = folder / "main" / "00000.bin"
    assert is_elsewhere(path)
    assert sizes_at_address(folder) == {"main/00000.bin": len(DATA)}
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    assert not is_elsewhere(path)
    assert ranged_file(path) is None
    assert ranged_file(tmp_path / "elsewhere.bin") is None
    assert sizes_at_address(tmp_path) is None
