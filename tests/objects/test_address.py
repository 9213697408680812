"""Addresses: what names a place, and what may not stand in one."""

import pytest

from orca_recipes.errors import BucketError
from orca_recipes.objects.address import address_of, is_address


def test_an_address_is_a_scheme_a_bucket_and_a_path():
    found = address_of("s3://data/runs/first/")
    assert (found.scheme, found.bucket, found.path) == ("s3", "data", "runs/first")
    assert str(found) == "s3://data/runs/first"
    assert str(found / "a.json") == "s3://data/runs/first/a.json"
    assert (str(found.parent), found.name) == ("s3://data/runs", "first")
    assert str(address_of("file:///tmp/x")) == "file:///tmp/x"
    assert str(address_of("gs://b")) == "gs://b"


def test_a_path_is_no_address():
    assert is_address("s3://b/x")
    assert is_address("s3:/b/x")
    assert not is_address("build/x")
    assert not is_address("C:/x")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ftp://b/x", "no such kind of address"),
        ("s3:///x", "names no bucket"),
        ("s3://me:hush@b/x", "no user and no password"),
        ("https://me:hush@b/x", "no user and no password"),
        ("s3://me:hush/very+secret@b/x", "no bucket's name holds a colon"),
        ("https://me:hush/very+secret@b/x", "is no address"),
        ("s3:/me:hush@b/x", "begins with two slashes; write s3://NAME/PATH"),
        ("https://b/x?X-Amz-Signature=hush", "no ? and no #"),
        ("file://b/x", "file:///b/x"),
        ("s3://b/a//x", "no empty part"),
        ("s3://b/../x", "no empty part"),
        ("https://b:hush/x", "is no address"),
    ],
)
def test_what_is_no_address_is_told_in_one_sentence_without_a_secret(text: str, told: str):
    with pytest.raises(BucketError) as fault:
        address_of(text)
    assert told in str(fault.value)
    assert "hush" not in str(fault.value)
    assert "\n" not in str(fault.value)
