"""Files at addresses: on a real S3 server and a web server on loopback, copied once and known by their etags."""

import json
import os
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import ValidationError

from orca_plugins.sources.files.kind import Files
from orca_plugins.sources.niv2.kind import Niv2
from orca_recipes.cli.main import main
from orca_recipes.errors import BucketError, ObjectsError, SourceError
from orca_recipes.objects.objects import Objects
from tests.servers.objects import failing

TOKENIZER = Path(__file__).parents[2] / "recipes" / "quickstart" / "tokenizer.json"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def lines(*questions: str) -> bytes:
    return "".join(json.dumps({"question": one, "answer": f"{one}!"}) + "\n" for one in questions).encode()


def put(bucket: str, **contents: bytes) -> None:
    for key, data in contents.items():
        Objects.at(f"s3://{bucket}").put(key, data)


def settled(
    text: str | Path, *, insist: bool = False, versions: dict[str, str] | None = None, **options: object
) -> Files:
    return Files(path=Path(text), **options).settled(files=[], versions=versions or {}, insist=insist)


def questions(source: Files) -> list[str]:
    readings = [reading for piece in source.slices(slice_bytes=1 << 20) for reading in source.read(slice=piece)]
    return [question for reading in readings for question in reading.rows["question"].to_list()]


def test_objects_are_read_as_files_are(cache: Path, bucket: str, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr("in/c.jsonl", lines("c"))
    put(bucket, **{"d/a.jsonl": lines("a"), "d/b.jsonl": lines("b"), "d/x.bin": b"x", "d/in/z.jsonl": lines("z")})
    put(bucket, **{"a.zip": (tmp_path / "a.zip").read_bytes()})
    assert questions(settled(f"s3://{bucket}/d/a.jsonl")) == ["a"]
    assert questions(settled(f"s3://{bucket}/d")) == ["a", "b"]
    assert questions(settled(f"s3://{bucket}/d/*.jsonl")) == ["a", "b"]
    assert questions(settled(f"s3://{bucket}/d/**/*.jsonl")) == ["a", "b", "z"]
    assert questions(settled(f"s3://{bucket}/a.zip/in/*.jsonl")) == ["c"]
    assert [file.name for file in settled(f"s3://{bucket}/d/**/*.jsonl").files()] == [
        "a.jsonl",
        "b.jsonl",
        "in/z.jsonl",
    ]
    assert questions(Files(path=tmp_path / f"s3://{bucket}/d/a.jsonl")) == ["a"]  # as a recipe says it, beside it


def test_a_copy_is_made_once_and_known_by_its_etag(cache: Path, bucket: str, monkeypatch: pytest.MonkeyPatch):
    put(bucket, **{"d/a.jsonl": lines("a"), "d/b.jsonl": lines("b")})
    first = settled(f"s3://{bucket}/d")
    pins = dict(first.pins())
    assert sorted(pins) == ["etag of d/a.jsonl", "etag of d/b.jsonl"]
    fetched: list[str] = []
    fetch = Objects.fetch
    monkeypatch.setattr(
        Objects, "fetch", lambda self, key, *rest, **more: fetched.append(key) or fetch(self, key, *rest, **more)
    )
    assert settled(f"s3://{bucket}/d") == first
    put(bucket, **{"d/b.jsonl": lines("b2")})
    assert questions(settled(f"s3://{bucket}/d", versions=pins)) == ["a", "b2"]
    assert fetched == ["d/b.jsonl"]
    assert Files(path=Path(f"s3://{bucket}/d")).away(versions=pins) is None
    assert "is not copied onto this machine yet" in str(Files(path=Path(f"s3://{bucket}/d")).away(versions={}))


def test_a_lock_is_read_without_asking_and_another_object_is_told(
    cache: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    put(bucket, **{"d/a.jsonl": lines("a")})
    pins = dict(settled(f"s3://{bucket}/d").pins())
    put(bucket, **{"d/a.jsonl": lines("other")})
    assert questions(settled(f"s3://{bucket}/d", versions=pins, insist=True)) == ["a"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "another"))
    with pytest.raises(SourceError, match=r"/d/a\.jsonl: it is another object since the lock was written; leave out"):
        settled(f"s3://{bucket}/d", versions=pins, insist=True)
    put(bucket, **{"d/n.jsonl": lines("n"), "d/a.jsonl": lines("a")})
    with pytest.raises(SourceError, match=r"/d/n\.jsonl: it is new since the lock was written"):
        settled(f"s3://{bucket}/d", versions=pins, insist=True)


def test_an_object_that_changes_between_being_seen_and_read_is_told(
    cache: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    put(bucket, **{"d/a.jsonl": lines("a")})
    listed = Objects.listed

    def changing(self: Objects, prefix: str = "") -> list:
        found = listed(self, prefix)
        put(bucket, **{"d/a.jsonl": lines("b")})
        return found

    monkeypatch.setattr(Objects, "listed", changing)
    with pytest.raises(ObjectsError, match=r"/d/a\.jsonl: it changed while it was read; run the same command again"):
        settled(f"s3://{bucket}/d")
    assert not list((cache / "orca-recipes" / "places").iterdir())


def test_where_the_store_cannot_be_reached_what_the_lock_means_is_read(
    cache: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    put(bucket, **{"a.jsonl": lines("a")})
    pins = dict(settled(f"s3://{bucket}/a.jsonl").pins())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert questions(settled(f"s3://{bucket}/a.jsonl", versions=pins)) == ["a"]
    with pytest.raises(ObjectsError, match=r"nothing answers at http://127\.0\.0\.1:9"):
        settled(f"s3://{bucket}/a.jsonl")


def test_what_is_wrong_with_a_place_is_one_sentence(cache: Path, bucket: str):
    put(bucket, **{"d/a.bin": b"a"})
    for path, said in {
        "d/b.jsonl": "there is no such object, and none below it",
        "d": "no object of a known format below it",
        "d/*.jsonl": "no object matches this pattern",
    }.items():
        with pytest.raises(SourceError, match=said):
            settled(f"s3://{bucket}/{path}")
    with pytest.raises(BucketError, match="there is no bucket bucket-nowhere"):
        settled("s3://bucket-nowhere/a.jsonl")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3://me:hush@b/a.jsonl", "no user and no password"),
        ("https://h/a.jsonl?X-Sig=hush", r"no \? and no #"),
        ("https://h/*.jsonl", "a web server lists no files"),
        ("s3://", "names no bucket"),
        ("hf://datasets/o/n@v1", 'kind = "hub", name = "o/n", hub_revision = "v1"'),
        ("hf://datasets/o/n/", 'name a file, folder or pattern in it; the whole of it is read by kind = "hub"'),
        ("hf://models/o/n/a.jsonl", "name files of a data set: hf://datasets/OWNER/NAME@REVISION/path"),
        ("hf://datasets/o/n@../a.jsonl", "name files of a data set"),
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused_before_anything_is_asked(path: str, said: str):
    with pytest.raises(ValidationError, match=said) as told:
        Files(path=Path(path))
    assert "hush" not in told.value.errors()[0]["msg"]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A plain web server, which tells no etags; its address and its folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    (tmp_path / "web").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", tmp_path / "web"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_of_a_web_server_is_known_by_size_and_time(cache: Path, web: tuple[str, Path]):
    address, folder = web
    (folder / "a.jsonl").write_bytes(lines("a"))
    found = settled(f"{address}/a.jsonl")
    assert questions(found) == ["a"]
    assert "bytes of" in found.pins()["etag of a.jsonl"]
    (folder / "a.jsonl").write_bytes(lines("bb"))
    os.utime(folder / "a.jsonl", (1_700_000_000, 1_700_000_000))
    assert questions(settled(f"{address}/a.jsonl")) == ["bb"]
    with pytest.raises(SourceError, match="there is no such file"):
        settled(f"{address}/b.jsonl")


def orca(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, words)])


def test_a_bucket_that_may_only_be_read_is_a_source(
    cache: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(bucket, **{"d/a.jsonl": lines("a", "b")})
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'name = "r"\n[collections.c]\nkind = "files"\npath = "s3://{bucket}/d/*.jsonl"\n'
        f'[tokenizer]\nkind = "hf"\npath = "{TOKENIZER.as_posix()}"\n[template]\nkind = "chatml"\n'
    )
    with failing(os.environ["AWS_ENDPOINT_URL"], share=0, refused="PUT") as (address, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        built = orca("build", recipe, "--out", tmp_path / "o", "--store", tmp_path / "s", "--json")
        assert built.exit_code == 0, built.stderr
        into = orca("build", recipe, "--out", tmp_path / "o2", "--store", f"s3://{bucket}/s")
    assert (into.exit_code, into.stderr.count("\n")) == (2, 1)
    assert f"s3://{bucket}/s" in into.stderr
    assert "may not be written with these credentials (403 AccessDenied)" in into.stderr
    assert [one.key for one in Objects.at(f"s3://{bucket}").listed()] == ["d/a.jsonl"]


def test_a_recipe_reads_from_a_bucket_and_its_lock_says_so(cache: Path, bucket: str, tmp_path: Path):
    put(bucket, **{"d/a.jsonl": lines("a", "b"), "t/task1_x.json": niv2_task()})
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'name = "r"\n[collections.c]\nkind = "files"\npath = "s3://{bucket}/d/*.jsonl"\n'
        f'[tokenizer]\nkind = "hf"\npath = "{TOKENIZER.as_posix()}"\n[template]\nkind = "chatml"\n'
    )
    assert orca("check", recipe).exit_code == 0
    built = orca("build", recipe, "--out", tmp_path / "o", "--store", tmp_path / "s", "--json")
    assert built.exit_code == 0, built.stderr
    lock = (tmp_path / "r.lock").read_text()
    assert '"etag of d/a.jsonl" = ' in lock
    assert "hush" not in lock
    again = orca("build", recipe, "--out", tmp_path / "o", "--store", tmp_path / "s", "--locked", "--json")
    assert json.loads(again.stdout)["fresh"] is False
    source = Niv2(path=Path(f"s3://{bucket}/t")).settled(files=[], versions={}, insist=False)
    assert [file.name for file in source.files()] == ["task1_x.json"]
    assert list(source.pins()) == ["etag of t/task1_x.json"]


@pytest.mark.parametrize("words", [("check",), ("plan", "--declared"), ("plan",)])
def test_no_server_is_asked_before_a_build_or_a_scan(words: tuple[str, ...], cache: Path, tmp_path: Path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'name = "r"\n[collections.c]\nkind = "files"\npath = "http://127.0.0.1:1/nobody-answers.jsonl"\n'
        f'[tokenizer]\nkind = "hf"\npath = "{TOKENIZER.as_posix()}"\n[template]\nkind = "chatml"\n'
    )
    done = orca(words[0], recipe, *words[1:])
    assert done.exit_code == 0, done.stderr
    assert "nothing answers" in orca("plan", recipe, "--scan", "--store", tmp_path / "s").stderr


def niv2_task() -> bytes:
    task = {
        "Definition": ["Say it."],
        "Instances": [{"id": "1", "input": "a", "output": ["b"]}],
        "Positive Examples": [],
    }
    return json.dumps(task).encode()
