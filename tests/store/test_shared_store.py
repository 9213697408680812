"""A store at an address that several hosts share: each host is a cache of its own, the S3 server is a real one."""

import json
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from blake3 import blake3

from orca_recipes.errors import BucketError, NoStore, ObjectsError, StoreError
from orca_recipes.objects.objects import Objects
from orca_recipes.shards.digests import json_digest
from orca_recipes.store.claims import quiet
from orca_recipes.store.leases import Leases
from orca_recipes.store.shared_stage import at_hand
from orca_recipes.store.shared_store import SharedStore, shared_root, store_at, store_name
from orca_recipes.store.stage_folder import PartWriter
from orca_recipes.store.store import Store
from tests.store.test_store import finished, stage


class Hosts:
    """Stores of several hosts over one address."""

    def __init__(self, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url, self.objects = url, Objects.at(url)
        self._folder, self._monkeypatch = folder, monkeypatch

    def root(self, name: str) -> Path:
        self._monkeypatch.setenv("ORCA_CACHE", str(self._folder / name))
        return shared_root(self.url)

    def store(self, name: str) -> Store:
        return store_at(self.root(name))


@pytest.fixture
def hosts(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    return Hosts(f"s3://{bucket}/store", tmp_path, monkeypatch)


def test_what_one_host_finished_another_finds_and_fetches_when_it_reads_it(hosts: Hosts):
    finished(hosts.store("a"), "cot")
    there = hosts.store("b").folder(stage("cot"))
    assert there.finished
    assert there.receipt["report"] == {"out": 3}
    assert not (there.path / "part.arrow").exists()
    assert [part.file(".arrow").read_bytes() for part in there.parts()] == [b"columns"]
    assert there.is_sound("read cot")
    assert not hosts.store("b").folder(stage("other")).finished


def test_a_part_that_one_host_finished_is_not_made_again_by_another(hosts: Hosts):
    with suppress(KeyboardInterrupt), hosts.store("a").working_on(stage("cot")) as folder:
        writer = PartWriter(folder.path, "part")
        writer.path(".arrow").write_bytes(b"columns")
        writer.keep([".arrow"], {"rows": 3})
        raise KeyboardInterrupt
    with hosts.store("b").working_on(stage("cot")) as folder:
        assert not folder.published
        assert folder.has_parts(["part", "next"]) == [True, False]
        # It is fetched by whoever reads it, and by nobody else.
        assert not (folder.path / "part.arrow").exists()
        hosts.objects.delete([one.key for one in hosts.objects.listed("stages") if ".arrow." in one.key])
        assert not folder.has_part("part")


def test_a_part_that_was_made_on_a_node_is_found_by_its_driver(hosts: Hosts):
    driver, node = hosts.store("driver"), hosts.root("node")
    with driver.working_on(stage("cot")) as folder:
        made = at_hand(node / folder.path.relative_to(driver.root))
        writer = PartWriter(made, "part")
        writer.path(".arrow").write_bytes(b"columns")
        writer.keep([".arrow"], {"rows": 3})
        folder.learn(["part"])
        assert folder.part("part").report == {"rows": 3}
        folder.finish(["part"], {"out": 3})
    other = hosts.root("other") / folder.path.relative_to(driver.root) / "part.arrow"
    assert at_hand(other).read_bytes() == b"columns"


def test_two_hosts_at_once_make_a_stage_once(hosts: Hosts):
    stores, made, said, is_said = [hosts.store("a"), hosts.store("b")], [], [], threading.Event()

    def say(sentence: str) -> None:
        said.append(sentence)
        is_said.set()

    def build(store: Store) -> None:
        with store.working_on(stage("cot"), say) as folder:
            if not folder.published:
                made.append(store)
                is_said.wait(60)  # until the other one waits
                folder.finish([], {"out": 0})

    threads = [threading.Thread(target=build, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert "waiting for another build, which makes read cot" in said[0]


def test_a_claim_whose_builder_ended_is_taken_over_when_its_lease_is_over(hosts: Hosts):
    store = hosts.store("a")
    name = store.folder(stage("cot")).path.name
    hosts.objects.put("running/killed.json", json.dumps({"folders": [name], "lease_seconds": 1}).encode())
    hosts.objects.put(f"claims/{name}.json", json.dumps({"builder": "killed", "host": "h"}).encode())
    began = time.monotonic()
    with store.working_on(stage("cot")) as folder:
        folder.finish([], {})
    assert time.monotonic() - began > 0.5
    assert hosts.objects.head(f"claims/{name}.json") is None
    assert store.folder(stage("cot")).published


def test_who_lost_its_lease_and_wakes_leaves_the_claim_of_who_took_it_over(hosts: Hosts):
    slow, name = hosts.store("a"), hosts.store("a").folder(stage("cot")).path.name
    with slow.working_on(stage("cot")) as folder:
        hosts.objects.put(f"claims/{name}.json", b'{"builder": "another"}')
        folder.finish([], {"out": 0})
    assert json.loads(hosts.objects.get(f"claims/{name}.json")) == {"builder": "another"}


def test_who_lapsed_claims_anew_what_nobody_took_and_shuts_out_who_took_it_for_dead(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
):
    leases, clock = Leases(hosts.objects), time.clock_gettime
    with leases.claimed("build", quiet, ""):
        seen = hosts.objects.head("claims/build.json")
        assert seen is not None
        monkeypatch.setattr(time, "clock_gettime", lambda of: clock(of) + 2 * leases.lease_seconds)
        assert leases.has_lapsed
        assert leases.holds("build")
        assert not leases.has_lapsed
        assert not hosts.objects.replace("claims/build.json", b'{"builder": "another"}', seen)
        monkeypatch.setattr(time, "clock_gettime", lambda of: clock(of) + 4 * leases.lease_seconds)
        hosts.objects.put("claims/build.json", b'{"builder": "another"}')
        assert not leases.holds("build")
        # It stays lost, whatever is heard of us from then on.
        assert leases.has_lapsed
        assert not leases.holds("build")
    assert json.loads(hosts.objects.get("claims/build.json")) == {"builder": "another"}


def test_a_builder_whose_record_cannot_be_read_is_not_taken_for_dead(hosts: Hosts, monkeypatch: pytest.MonkeyPatch):
    name = hosts.store("a").folder(stage("cot")).path.name
    with hosts.store("a").working_on(stage("cot")):
        other, get = hosts.store("b"), Objects.get

        def broken_get(self: Objects, key: str, *, etag: str | None = None) -> bytes:
            if key.startswith("running/"):
                raise ObjectsError(f"{self.address / key} cannot be read: the connection breaks")
            return get(self, key, etag=etag)

        with monkeypatch.context() as broken:
            broken.setattr(Objects, "get", broken_get)
            with pytest.raises(ObjectsError, match="the connection breaks"), other.working_on(stage("cot")):
                raise AssertionError("two builders of one stage")
        assert hosts.objects.head(f"claims/{name}.json") is not None


@pytest.mark.parametrize("leads_out", ["part", "file"])
def test_receipts_of_another_host_lead_nowhere_else(leads_out: str, hosts: Hosts, tmp_path: Path):
    finished(hosts.store("a"), "cot")
    folder = hosts.store("b").folder(stage("cot")).path
    where = tmp_path / "outside"
    where.mkdir()
    out = f"{'../' * len(folder.parts)}{where.relative_to('/')}/part"
    if leads_out == "part":
        receipt = {"parts": [out], "report": {}}
        hosts.objects.put(f"receipts/{folder.name}.json", sealed(receipt))
    else:
        digest = f"blake3:{blake3(b'evil').hexdigest()}"
        receipt = {"files": [{"name": out, "bytes": 4, "digest": digest}], "report": {}}
        hosts.objects.put(f"stages/{folder.name}/part.json", sealed(receipt))
    there = hosts.store("b").folder(stage("cot"))
    with suppress(StoreError):
        there.faults()
    with suppress(StoreError):
        assert [part.file(".arrow") for part in there.parts()] == [folder / "part.arrow"]
    assert not list(where.iterdir())


def sealed(receipt: dict[str, object]) -> bytes:
    return json.dumps({**receipt, "seal": json_digest(receipt)}).encode()


def test_cleaning_leaves_what_a_living_build_of_another_host_needs(hosts: Hosts):
    building, cleaning = hosts.store("a"), hosts.store("b")
    finished(building, "cot")
    finished(building, "needed")
    building.release()
    building.claim([stage("needed")])
    assert cleaning.clean()[0] == 1
    assert not hosts.store("c").folder(stage("cot")).published
    assert hosts.store("c").folder(stage("needed")).is_sound("read needed")
    assert building.folder(stage("cot")).path.name not in {
        key.key.split("/")[1] for key in hosts.objects.listed("stages")
    }
    building.release()
    assert cleaning.clean()[0] == 1


def test_cleaning_leaves_what_a_build_that_stands_was_made_of(hosts: Hosts, tmp_path: Path):
    store = hosts.store("a")
    folder = finished(store, "cot")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "manifest.json").write_text("{}")
    store.remember_build(tmp_path / "build", {"stages": {}, "folders": [folder.path.name]})
    assert store.last_build(tmp_path / "build") is not None
    store.release()
    assert hosts.store("b").clean()[0] == 0
    (tmp_path / "build" / "manifest.json").unlink()
    assert hosts.store("b").clean()[0] == 1


def test_cleaning_removes_what_nodes_sent_to_a_build_that_died_but_not_while_another_lives(hosts: Hosts):
    hosts.objects.put("sent/0123/main/00000.bin", b"tokens")
    building, cleaning = hosts.store("a"), hosts.store("b")
    building.claim([stage("cot")])
    assert cleaning.clean() == (0, 0)
    assert hosts.objects.listed("sent")
    building.release()
    assert cleaning.clean() == (0, 6)
    assert not hosts.objects.listed("sent")


def test_what_is_damaged_at_the_address_is_told_when_it_is_read_and_made_again(hosts: Hosts):
    finished(hosts.store("a"), "cot")
    (key,) = [one.key for one in hosts.objects.listed("stages") if ".arrow." in one.key]
    hosts.objects.put(key, b"damaged")
    assert hosts.store("c").folder(stage("cot")).is_sound("read cot")
    with pytest.raises(StoreError, match="is not what was written; build again"):
        hosts.store("c").folder(stage("cot")).parts()[0].file(".arrow")
    with hosts.store("b").working_on(stage("cot")) as folder:
        assert not folder.published
        assert not folder.has_part("part")
    finished(hosts.store("b"), "cot")
    assert hosts.objects.get(key) == b"columns"
    assert hosts.store("d").folder(stage("cot")).is_sound("read cot")


@pytest.mark.parametrize("left", [None, b"torn"])
def test_what_an_address_lacks_is_found_without_reading_it(hosts: Hosts, left: bytes | None):
    finished(hosts.store("a"), "cot")
    (key,) = [one.key for one in hosts.objects.listed("stages") if ".arrow." in one.key]
    hosts.objects.delete([key]) if left is None else hosts.objects.put(key, left)
    said: list[str] = []
    with hosts.store("b").working_on(stage("cot")) as folder:
        assert not folder.is_sound("read cot", said.append)
        assert not folder.has_part("part")
    assert said == ["read cot: damaged in the store (part is missing); what is damaged is made again"]
    finished(hosts.store("b"), "cot")
    assert hosts.store("d").folder(stage("cot")).is_sound("read cot")


def test_what_was_cleaned_meanwhile_goes_up_again_from_a_cache(hosts: Hosts):
    finished(hosts.store("a"), "cot")
    hosts.objects.delete([one.key for one in hosts.objects.listed() if one.key != "orca-store.json"])
    store = hosts.store("a")
    with store.working_on(stage("cot")) as folder:
        assert not folder.published
        assert folder.has_part("part")
        folder.finish(["part"], {"out": 3})
    assert hosts.store("b").folder(stage("cot")).is_sound("read cot")


def test_stages_of_one_label_are_told_of_all_hosts(hosts: Hosts):
    finished(hosts.store("a"), "cot")
    store = hosts.store("b")
    assert store.earlier(stage("cot")) == []
    assert [folder.path.name for folder in store.earlier(stage("cot/x"))] == []
    assert isinstance(store, SharedStore)
    assert store.name == hosts.url == store_name(store.root)


def test_a_place_that_holds_something_else_is_no_store(hosts: Hosts):
    hosts.objects.put("mine/notes.txt", b"")
    with pytest.raises(NoStore, match=r"it holds mine/notes\.txt"):
        hosts.store("a")


def test_a_lease_is_some_seconds_long(hosts: Hosts, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ORCA_LEASE_SECONDS", "soon")
    with pytest.raises(StoreError, match="ORCA_LEASE_SECONDS is soon"):
        hosts.store("a")


def test_a_store_in_a_bucket_that_is_not_there_is_told(hosts: Hosts):
    with pytest.raises(BucketError, match="there is no bucket nowhere-at-all"):
        shared_root("s3://nowhere-at-all/store")
