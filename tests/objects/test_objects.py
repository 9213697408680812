"""Objects of a real S3 server on loopback, and of a folder: whole or not there, and who was first."""

import os
import pickle
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import pytest

from orca_recipes.errors import BucketError, ObjectsError
from orca_recipes.objects.objects import Objects
from tests.servers.objects import failing


@pytest.fixture(params=["s3", "file"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "file":
        return Objects.at(f"file://{tmp_path}/place")
    return Objects.at(f"s3://{request.getfixturevalue('bucket')}/a/place")


def test_an_object_is_what_was_written(objects: Objects, tmp_path: Path):
    objects.put("x/one %41 ü.json", b"0123456789")
    assert objects.get("x/one %41 ü.json") == b"0123456789"
    assert objects.get_range("x/one %41 ü.json", 2, 5) == b"234"
    facts = objects.fetch("x/one %41 ü.json", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"0123456789"
    head = objects.head("x/one %41 ü.json")
    assert head is not None
    assert (head.bytes, head.etag) == (10, facts.etag)
    assert [one.key for one in objects.listed()] == ["x/one %41 ü.json"]
    assert objects.listed("y") == []
    assert pickle.loads(pickle.dumps(objects)).get("x/one %41 ü.json") == b"0123456789"
    objects.delete(["x/one %41 ü.json", "never there"])
    assert objects.head("x/one %41 ü.json") is None


def test_one_of_many_creates_an_object(objects: Objects):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: objects.create("claim", b"%d" % number), range(8)))
    assert made.count(True) == 1
    assert objects.get("claim") == b"%d" % made.index(True)


def test_an_object_is_replaced_only_while_it_is_the_one_that_was_seen(objects: Objects):
    objects.put("claim", b"a")
    seen = objects.head("claim")
    assert seen is not None
    assert objects.replace("claim", b"bb", seen)
    assert not objects.replace("claim", b"ccc", seen)
    assert objects.get("claim") == b"bb"


def test_a_large_file_goes_up_in_parts_and_comes_back(objects: Objects, tmp_path: Path):
    data = os.urandom(9 * 2**20)
    (tmp_path / "large").write_bytes(data)
    objects.upload("large", tmp_path / "large")
    objects.fetch("large", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == data
    assert objects.get_range("large", 9 * 2**20 - 3, 9 * 2**20) == data[-3:]


def test_an_upload_that_is_no_longer_allowed_leaves_what_was_there(objects: Objects, tmp_path: Path):
    (tmp_path / "large").write_bytes(os.urandom(9 * 2**20))
    objects.put("large", b"older")
    asked: list[None] = []

    def allowed() -> None:
        asked.append(None)
        if len(asked) == 3:
            raise KeyError("lapsed")

    with pytest.raises(KeyError, match="lapsed"):
        objects.upload("large", tmp_path / "large", allowed=allowed)
    assert objects.get("large") == b"older"
    assert [one.key for one in objects.listed()] == ["large"]


def test_an_upload_that_failed_is_not_taken_for_done_by_an_older_object_of_its_size(
    objects: Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    older, newer = os.urandom(9 * 2**20), os.urandom(9 * 2**20)
    (tmp_path / "large").write_bytes(newer)
    objects.put("large", older)
    put, faults = obstore.put, [FileNotFoundError("no such upload")]

    def failing_first(*args: Any, **options: Any) -> Any:
        if faults:
            raise faults.pop()
        return put(*args, **options)

    monkeypatch.setattr(obstore, "put", failing_first)
    objects.upload("large", tmp_path / "large")
    assert objects.get("large") == newer


def test_what_is_not_there_or_another_by_now_is_told(objects: Objects, tmp_path: Path):
    objects.put("x", b"abc")
    seen = objects.head("x")
    assert seen is not None
    with pytest.raises(ObjectsError, match="there is no such object"):
        objects.fetch("gone", tmp_path / "gone")
    with pytest.raises(ObjectsError, match="ends before byte 7"):
        objects.get_range("x", 1, 7)
    objects.put("x", b"other")
    with pytest.raises(ObjectsError, match="changed while it was read"):
        objects.get("x", etag=seen.etag)
    assert list(tmp_path.glob("*gone*")) == []


def test_in_spite_of_faults_on_the_way_all_is_as_asked(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with failing(os.environ["AWS_ENDPOINT_URL"], share=0.15, seed=3) as (address, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        objects = Objects.at(f"s3://{bucket}/place")
        data = os.urandom(9 * 2**20)
        (tmp_path / "large").write_bytes(data)
        objects.upload("large", tmp_path / "large")
        objects.fetch("large", tmp_path / "again")
        for number in range(10):
            assert objects.create(f"x/{number}", b"%d" % number)
            assert not objects.create(f"x/{number}", b"other")
            seen = objects.head(f"x/{number}")
            assert seen is not None
            assert objects.replace(f"x/{number}", b"new %d" % number, seen)
            assert objects.get(f"x/{number}") == b"new %d" % number
        assert len(objects.listed("x")) == 10
        assert (tmp_path / "again").read_bytes() == data
        assert proxy.failed > 5


def test_a_list_whose_answer_breaks_off_is_asked_for_anew(bucket: str, monkeypatch: pytest.MonkeyPatch):
    with failing(os.environ["AWS_ENDPOINT_URL"], share=0.0, seed=2) as (address, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        objects = Objects.at(f"s3://{bucket}/halves")
        objects.put("x", b"")
        proxy.faults, proxy.share = ("half",), 0.3
        assert [[one.key for one in objects.listed()] for _ in range(8)] == [["x"]] * 8
        objects.check()
        assert proxy.failed > 1
        proxy.share = 1.0
        with pytest.raises(ObjectsError, match="cannot be listed: the connection breaks"):
            objects.listed()


def test_a_missing_bucket_is_told(bucket: str):
    objects = Objects.at("s3://no-such-bucket/place")
    for asked in (objects.check, lambda: objects.create("x", b""), lambda: objects.get("x"), objects.listed):
        with pytest.raises(BucketError, match="there is no bucket no-such-bucket"):
            asked()


def test_credentials_that_are_not_there_are_told(bucket: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    # Where a machine of the provider tells its role: here nobody listens.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BucketError, match="no credentials were found"):
        Objects.at(f"s3://{bucket}/without").check()


def test_an_address_where_nobody_listens_is_told_without_its_password(bucket: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:hush@127.0.0.1:9")
    with pytest.raises(ObjectsError, match=r"nothing answers at http://127\.0\.0\.1:9") as fault:
        Objects.at(f"s3://{bucket}/place").check()
    assert "hush" not in str(fault.value)


def test_a_web_server_is_read(bucket: str):
    server = os.environ["AWS_ENDPOINT_URL"]
    place, headers = f"{server}/{bucket}/public/x.txt", {"x-amz-acl": "public-read", "Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(place, b"of the web", headers, method="PUT")).close()
    web = Objects.at(f"{server}/{bucket}/public")
    assert web.get("x.txt") == b"of the web"
    assert web.get_range("x.txt", 3, 6) == b"the"
    with pytest.raises(BucketError, match="can be read only"):
        web.put("y.txt", b"")
