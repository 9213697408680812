"""Builds whose store and directory lie at addresses: the same bytes as on a disk, whatever goes wrong on the way."""

import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from orca_plugins.engines.local import Local
from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.main import main
from orca_recipes.errors import BuildError
from orca_recipes.front.opened import open_build
from orca_recipes.front.recipe import load_recipe
from orca_recipes.objects.objects import ObjectFacts, Objects
from orca_recipes.recipe.load import load_recipe as read_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.store import shared_build as sending
from orca_recipes.store.claims import quiet
from orca_recipes.store.leases import Leases
from orca_recipes.store.shared_build import build_place, looked_at, shared_build
from orca_recipes.store.shared_store import shared_root, store_at
from orca_recipes.store.store_marker import MARKER, marker_text
from tests.run.small import HOME, Heard, asked, promised
from tests.run.small_recipe import make_recipe
from tests.servers.objects import failing

QUICKSTART = HOME / "recipes" / "quickstart.toml"
DATA = tomllib.loads(QUICKSTART.with_suffix(".lock").read_text(encoding="utf-8"))["outcomes"]["data"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return make_recipe(tmp_path / "project")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Be another host from now on: one with a cache of its own."""

    def be(name: str) -> None:
        monkeypatch.setenv("ORCA_CACHE", str(tmp_path / name))

    be("first")
    return be


def at(recipe: Path, store: str, out: str, *overrides: str) -> Asked:
    loaded = read_recipe(recipe, catalogue=Catalogue(), overrides=overrides)
    return Asked(loaded, store_at(shared_root(store)), build_place(out), workers=1)


def test_quickstart_at_addresses_is_what_it_is_on_a_disk(bucket: str, host, capsys: pytest.CaptureFixture[str]):
    store, out = f"s3://{bucket}/store", f"s3://{bucket}/out"
    words = ["build", str(QUICKSTART), "--limit", "6000", "--workers", "1", "--store", store, "--out", out]
    assert _exit(*words) == 0
    assert f"{out}: built, data {DATA}" in capsys.readouterr().out
    host("second")
    assert _exit(*words) == 0
    assert f"{out}: nothing to do, data {DATA}" in capsys.readouterr().out
    assert _exit("show", out, "--row", "142", "--raw") == 0
    shown = {path.name for path in Path(os.environ["ORCA_CACHE"]).rglob("0000*")}
    assert shown == {"00001.idx", "00001.records.parquet"}
    assert _exit("explain", out, "--row", "0", "--at", "3", "--store", store) == 0
    assert "source      tasks.jsonl.gz:" in capsys.readouterr().out
    assert _exit("verify", out, "--sample", "0.05") == 0
    assert f"{out}: sound, data {DATA}" in capsys.readouterr().out
    assert not list(Path(os.environ["ORCA_CACHE"]).rglob("*.bin"))
    assert _exit("verify", out) == 0
    assert f"{out}: sound, data {DATA}" in capsys.readouterr().out
    host("third")
    heard = Heard()
    asked_again = replace(at(QUICKSTART, store, f"s3://{bucket}/other"), limit=6000)
    assert build(asked_again, heard)[0].data_digest == DATA
    assert heard.stages == ["write main"]


def test_another_build_takes_the_place_of_one_and_leaves_nothing_of_it(recipe: Path, bucket: str, host):
    store, out = f"s3://{bucket}/store", f"s3://{bucket}/out"
    build(at(recipe, store, out), Heard())
    was = {one.key for one in Objects.at(out).listed()}
    host("second")
    made, fresh = build(at(recipe, store, out, "output.shard_tokens=8192"), Heard())
    assert fresh
    local, _ = build(asked(recipe, "output.shard_tokens=8192"), Heard())
    assert made.digest == local.digest
    there = {one.key for one in Objects.at(out).listed()}
    assert there < was
    place = looked_at(out, whole=True)
    assert promised(place) == promised(recipe.parent / "out")
    assert len(list(open_build(out).examples())) == made.datasets["main"].examples


def test_what_no_build_wrote_is_in_the_way(recipe: Path, bucket: str, host):
    store, out = f"s3://{bucket}/store", f"s3://{bucket}/out"
    Objects.at(out).put("mine.txt", b"")
    with pytest.raises(BuildError, match=r"holds what no build wrote: mine\.txt"):
        build(at(recipe, store, out), Heard())


def test_a_build_whose_sending_was_cut_off_is_none_and_is_finished_by_the_next(
    recipe: Path, bucket: str, host, monkeypatch: pytest.MonkeyPatch
):
    store, out = f"s3://{bucket}/store", f"s3://{bucket}/out"

    def fail(self: Objects, key: str, data: bytes) -> bool:
        if key == "manifest.json":
            raise KeyboardInterrupt
        return create(self, key, data)

    create = Objects.create
    sent = at(recipe, store, out)
    with monkeypatch.context() as patched:
        patched.setattr(Objects, "create", fail)
        with pytest.raises(KeyboardInterrupt):
            build(sent, Heard())
    with pytest.raises(BuildError, match="is not a complete build"):
        looked_at(out, whole=True)
    Objects.at(out).put(".orca-recipe/running/killed.json", b'{"lease_seconds": -9}')
    host("second")
    made, fresh = build(at(recipe, store, out, "output.shard_tokens=8192"), Heard())
    assert fresh
    assert {one.key for one in Objects.at(out).listed()} == {file.path for file in made.files} | {
        "manifest.json",
        *(table.path for table in made.tables),
    }


def test_who_lost_the_address_while_it_slept_claims_it_anew_before_it_writes(
    recipe: Path, bucket: str, host, monkeypatch: pytest.MonkeyPatch
):
    out = f"s3://{bucket}/out"
    build(at(recipe, f"s3://{bucket}/store", out), Heard())
    shared = shared_build(build_place(out))
    assert shared is not None
    before = {one.key: one.modified for one in shared.objects.listed()}
    claims = Objects.at(f"{out}/.orca-recipe")
    held = [True, False]
    monkeypatch.setattr(Leases, "holds", lambda *_: held.pop() if held else True)
    with shared.claimed(quiet) as leases:
        assert len(claims.listed("claims")) == 1
        shared.send(leases, quiet)
        # The older claim is gone with the new one, and what stands there already is not written again.
        assert claims.listed("claims") == []
    assert {one.key: one.modified for one in shared.objects.listed()} == before
    monkeypatch.setattr(Leases, "holds", lambda *_: False)
    # Another build's, as far as this one can tell.
    shared.objects.put("manifest.json", shared.objects.get("manifest.json") + b"\n")
    with shared.claimed(quiet) as leases, pytest.raises(BuildError, match="another took its place, twice"):
        shared.send(leases, quiet)


def test_a_file_on_its_way_while_its_builder_sleeps_past_its_lease_replaces_no_other_builds(
    recipe: Path, bucket: str, host, monkeypatch: pytest.MonkeyPatch
):
    store, out = f"s3://{bucket}/store", f"s3://{bucket}/out"
    asleep, others = at(recipe, store, out), list[str]()

    def killed(_: Leases) -> None:
        raise KeyboardInterrupt

    def create(self: Objects, key: str, data: bytes) -> bool:
        if key.endswith(".idx") and not others:
            others.append("second")
            host(others[0])
            with monkeypatch.context() as patched:
                patched.setattr(Leases, "is_alive", lambda *_: False)
                build(at(recipe, store, out, "output.shard_tokens=8192"), Heard())
            monkeypatch.setattr(Leases, "has_lapsed", property(lambda _: True))
            # It ends before it can make good what it did.
            monkeypatch.setattr(Leases, "drop", killed)
        return created(self, key, data)

    created = Objects.create
    monkeypatch.setattr(Objects, "create", create)
    # A sleeper sleeps with all of its threads.
    monkeypatch.setattr(sending, "side_by_side", lambda function, items: list(map(function, items)))
    with pytest.raises(KeyboardInterrupt):
        build(asleep, Heard())
    build(asked(recipe, "output.shard_tokens=8192"), Heard())
    assert promised(looked_at(out, whole=True)) == promised(recipe.parent / "out")


def test_in_spite_of_faults_in_one_of_twenty_requests_the_bytes_are_the_same(
    recipe: Path, bucket: str, host, monkeypatch: pytest.MonkeyPatch
):
    store, out = f"s3://{bucket}/store", f"s3://{bucket}/out"
    with failing(os.environ["AWS_ENDPOINT_URL"], share=0.05, seed=5) as (address, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        made, _ = build(at(recipe, store, out), Heard())
        looked_at(out, whole=True)
        assert proxy.failed > 3
    assert made.data_digest == build(asked(recipe), Heard())[0].data_digest
    assert open_build(out).verify().is_sound


@pytest.mark.slow
def test_two_hosts_at_once_over_one_store_make_the_same_build(recipe: Path, bucket: str, host, tmp_path: Path):
    store = f"s3://{bucket}/store"
    running = []
    for name in ("a", "b"):
        command = ["build", recipe, "--workers", "1", "--store", store, "--out", f"s3://{bucket}/out", "--json"]
        words = [sys.executable, "-c", "from orca_recipes.cli.main import main; main()", *map(str, command)]
        running.append(subprocess.Popen(words, env={**os.environ, "ORCA_CACHE": str(tmp_path / name)}))
    assert [process.wait() for process in running] == [0, 0]
    assert open_build(f"s3://{bucket}/out").digest == build(asked(recipe), Heard())[0].data_digest
    assert Objects.at(store).listed("claims") == Objects.at(store).listed("running") == []
    assert [one.key for one in Objects.at(f"s3://{bucket}/out").listed() if one.key.startswith(".")] == []


def test_parts_that_are_made_in_the_caches_of_others_give_the_same_bytes(
    recipe: Path, bucket: str, host, monkeypatch: pytest.MonkeyPatch
):
    """Shots and comparisons hand files from the command to parts and back, which no folder shows to both."""
    pytest.importorskip("rensa", reason="needs orca-recipes[near]")
    text = recipe.read_text(encoding="utf-8")
    near = '{ kind = "near_duplicates", of = "question", ngram = 1, threshold = 0.6 }'
    text = text.replace("max_chars = 2000 }", f"max_chars = 2000 }}, {near}")
    shown = '[[rules]]\nwhen = { collection = "sums" }\nstrategy = "few_shot"\n[[rules]]\nstrategy = "direct"\n'
    recipe.write_text(f"{text}\n{shown}", encoding="utf-8")
    local, _ = build(asked(recipe), Heard())
    spread = at(recipe, f"s3://{bucket}/store", f"s3://{bucket}/out")
    monkeypatch.setattr(Local, "spreads", True)
    host("node")
    made, _ = build(spread, Heard())
    assert made.digest == local.digest
    assert 20 < local.datasets["main"].examples < 200
    assert Objects.at(f"s3://{bucket}/store").listed("sent") == []


def test_a_recipe_is_built_at_addresses_from_python(recipe: Path, bucket: str, host):
    made = load_recipe(recipe).build(store=f"s3://{bucket}/store", out=f"s3://{bucket}/out", workers=1)
    assert made.digest == open_build(f"s3://{bucket}/out").digest
    assert load_recipe(recipe).plan(store=f"s3://{bucket}/store").as_json()["stages"][0]["state"] == "cached"


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("s3://no-such-bucket-here/x", "there is no bucket no-such-bucket-here; make it first, or name another"),
        ("s3://me:hush@bucket/x", "may hold no user and no password"),
        ("ftp://bucket/x", "no such kind of address"),
    ],
)
@pytest.mark.parametrize("option", ["--store", "--out"])
def test_an_address_that_cannot_be_used_is_one_sentence(
    recipe: Path, bucket: str, host, capsys: pytest.CaptureFixture[str], option: str, place: str, told: str
):
    other = ["--out", str(recipe.parent / "out")] if option == "--store" else ["--store", str(recipe.parent / "store")]
    assert _exit("build", str(recipe), "--workers", "1", *other, option, place) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert "hush" not in said


@pytest.mark.parametrize(
    ("surroundings", "told"),
    [
        ({"AWS_ENDPOINT_URL": "http://me:hush@127.0.0.1:9"}, "nothing answers at http://127.0.0.1:9"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no credentials were found"),
    ],
)
def test_a_store_that_cannot_be_reached_is_one_sentence_and_nothing_is_written(
    recipe: Path,
    bucket: str,
    host,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    surroundings: dict[str, str],
    told: str,
):
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    # A place of its own: clients are kept by place, with the credentials that they found first.
    words = ["build", str(recipe), "--workers", "1", "--store", f"s3://{bucket}/{told[:7].strip()}"]
    assert _exit(*words, "--out", str(recipe.parent / "out")) in (1, 2)
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert "hush" not in said
    assert not (recipe.parent / "out").exists()
    assert not (recipe.with_suffix(".lock")).exists()


def test_a_bucket_that_may_not_be_written_is_told_before_the_work(
    recipe: Path, bucket: str, host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    behind = os.environ["AWS_ENDPOINT_URL"]
    with failing(behind, share=0, refused="PUT") as (address, _), monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", address)
        out = ["--workers", "1", "--out", str(recipe.parent / "out")]
        assert _exit("build", str(recipe), "--store", f"s3://{bucket}/store", *out) == 2
        assert "may not be written with these credentials (403 AccessDenied)" in capsys.readouterr().err
        store = ["--workers", "1", "--store", str(recipe.parent / "store")]
        assert _exit("build", str(recipe), "--out", f"s3://{bucket}/out", *store) == 2
        assert "may not be written with these credentials (403 AccessDenied)" in capsys.readouterr().err
    assert Objects.at(f"s3://{bucket}").listed() == []
    assert not (recipe.parent / "out").exists()


def _exit(*words: str) -> int:
    try:
        main(list(words))
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_store_that_another_host_marks_between_two_looks_is_one(bucket: str, host, monkeypatch: pytest.MonkeyPatch):
    store, head = f"s3://{bucket}/store", Objects.head

    def late(self: Objects, key: str) -> ObjectFacts | None:
        monkeypatch.setattr(Objects, "head", head)
        found = self.head(key)
        self.create(MARKER, marker_text().encode())
        self.create("else", b"of the other host")
        return found

    monkeypatch.setattr(Objects, "head", late)
    assert shared_root(store).is_dir()
    assert {one.key for one in Objects.at(store).listed()} == {MARKER, "else"}
