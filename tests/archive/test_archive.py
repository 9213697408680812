"""A recipe goes into one file and is built again from it alone; what was edited or leads astray is refused."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from orca_recipes.archive.environment import environment, environment_differences
from orca_recipes.archive.rebuild import rebuild
from orca_recipes.archive.tar_file import unpack, write_archive
from orca_recipes.archive.wheels import packed_wheels, unpacked_wheels
from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.main import main
from orca_recipes.errors import BuildError
from orca_recipes.progress import Progress
from orca_recipes.shards.digests import file_digest
from tests.servers.running import running
from tests.servers.stub import Stub

TOKENIZER = Path(__file__).parents[2] / "recipes" / "quickstart" / "tokenizer.json"
RECIPE = """\
name = "small"

[collections.rows]
kind = "files"
path = "{rows}"
columns = {{ question = "q", reference = "a" }}

[tokenizer]
kind = "hf"
path = "../shared/tokenizer.json"

[template]
kind = "chatml"

[packing]
row_tokens = 256
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    for name in ("recipes", "shared"):
        (home / name).mkdir(parents=True)
    (home / "shared" / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    rows = [json.dumps({"q": f"How much is {n} + 1?", "a": str(n + 1)}) for n in range(20)]
    (home / "shared" / "rows.jsonl").write_text("\n".join(rows))
    path = home / "recipes" / "small.toml"
    path.write_text(RECIPE.format(rows=(home / "shared" / "rows.jsonl").as_posix()))
    monkeypatch.chdir(tmp_path)
    return path


def orca(*words: str | Path, status: int = 0) -> str:
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == status, done.output
    return done.stdout if status == 0 or done.stdout else done.stderr


def test_the_same_data_are_built_of_the_archive_alone(recipe: Path, tmp_path: Path) -> None:
    packed = json.loads(orca("archive", recipe, "-o", "a.tar", "--json"))
    orca("archive", recipe, "-o", "b.tar", "--json")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    (tmp_path / "home").rename(tmp_path / "gone")
    told = json.loads(orca("rebuild", "a.tar", "--out", "elsewhere/B", "--workers", "1", "--json"))
    assert told["digest"] == told["expected"] == packed["expected"]
    assert (told["equal"], told["missing"], told["differences"]) == (True, [], [])
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["B"]
    with tarfile.open("a.tar") as tar:
        names = tar.getnames()
    assert names[0] == "manifest.json"
    assert {"tree/recipes/small.toml", "tree/recipes/small.lock", "tree/shared/rows.jsonl"} <= set(names)


def test_a_collection_that_is_left_out_is_named_with_its_digest(recipe: Path) -> None:
    packed = json.loads(orca("archive", recipe, "-o", "a.tar", "--without", "rows", "--json"))
    (missing,) = packed["missing"]
    assert missing["part"] == "collections.rows"
    assert missing["digest"].startswith("blake2b:")
    recipe.parents[1].rename(recipe.parents[2] / "gone")
    told = json.loads(orca("rebuild", "a.tar", "--out", "B", "--json", status=1))
    assert (told["digest"], told["equal"]) == (None, False)
    assert told["missing"] == packed["missing"]


@pytest.mark.parametrize(("licence", "kept_back"), [("mit", 0), ("proprietary", 1), (None, 1)])
def test_files_are_packed_where_the_recipe_shares_their_licence(
    recipe: Path, licence: str | None, kept_back: int
) -> None:
    said = f'license = "{licence}"\n' if licence else ""
    text = recipe.read_text().replace("[collections.rows]\n", f"[collections.rows]\n{said}")
    recipe.write_text(text + '[licenses]\nshare = ["MIT", "apache-2.0"]\n')
    missing = json.loads(orca("archive", recipe, "-o", "a.tar", "--json"))["missing"]
    assert [(one["part"], one.get("license")) for one in missing] == [("collections.rows", licence)] * kept_back
    with tarfile.open("a.tar") as tar:
        assert ("tree/shared/rows.jsonl" in tar.getnames()) is not bool(kept_back)


def test_an_archive_that_was_edited_is_refused(recipe: Path, tmp_path: Path) -> None:
    orca("archive", recipe, "-o", "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data.replace(b"How much is 7 + 1?", b"How much is 9 + 1?"))
    assert "it was edited: shared/rows.jsonl" in orca("rebuild", "a.tar", "--out", "B", status=2)
    assert not (tmp_path / "B").exists()


def test_an_archive_of_a_newer_format_is_refused_with_what_to_install(tmp_path: Path) -> None:
    manifest = {"format": 9, "environment": {"packages": {"orca-recipes": "9.1"}}}
    archive = crafted(tmp_path, manifest)
    with pytest.raises(BuildError, match=r"pip install 'orca-recipes>=9\.1'"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "a\\b", ""])
def test_no_path_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    manifest = {"format": 1, "recipe": "r.toml", "files": [{"path": name, "bytes": 0, "digest": ""}]}
    with pytest.raises(BuildError, match="leads out of the archive"):
        unpack(crafted(tmp_path, manifest, tarfile.TarInfo(f"tree/{name}")), tmp_path / "in")
    assert not list(tmp_path.glob("out.txt"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_pipes_are_not_taken_out(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("tree/r.toml")
    member.type, member.linkname = kind, "manifest.json"
    manifest = {"format": 1, "recipe": "r.toml", "files": [{"path": "r.toml", "bytes": 0, "digest": ""}]}
    with pytest.raises(BuildError, match="it was edited"):
        unpack(crafted(tmp_path, manifest, member), tmp_path / "in")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("no tar at all")
    with pytest.raises(BuildError, match="it is no archive of orca-recipe"):
        unpack(tmp_path / "a.tar", tmp_path / "in")
    with pytest.raises(BuildError, match="there is no such archive"):
        unpack(tmp_path / "b.tar", tmp_path / "in")


def test_differences_of_environments_are_named_with_the_line_of_pip() -> None:
    here = environment({})
    other = {**here, "packages": {**here["packages"], "polars": "0.1"}}
    other |= {"plugins": {"orca-none": {"version": "1.0", "digest": "x"}}}
    found = environment_differences(other, here)
    assert found[0].startswith("polars 0.1 made the archive, and ")
    assert found[-1] == "pip install polars==0.1 orca-none==1.0"
    assert environment_differences(here, here) == []


def test_libraries_of_extras_are_told_where_a_recipe_uses_their_kind() -> None:
    assert "rensa" not in environment({})["packages"]
    with_extra = environment({}, ["filters:near_duplicates", "sources:files"])
    assert environment_differences(with_extra, environment({})) == []
    other = {**with_extra, "packages": {**with_extra["packages"], "rensa": "0.1"}}
    assert environment_differences(other, environment({}))[-1] == "pip install rensa==0.1"


def crafted(folder: Path, manifest: object, *members: tarfile.TarInfo) -> Path:
    path = folder / "crafted.tar"
    with tarfile.open(path, "w") as tar:
        first = tarfile.TarInfo("manifest.json")
        text = json.dumps(manifest).encode()
        first.size = len(text)
        tar.addfile(first, io.BytesIO(text))
        for member in members:
            tar.addfile(member)
    return path


def test_all_files_of_a_recipe_that_extends_another_are_pinned_and_packed(recipe: Path, tmp_path: Path) -> None:
    low = recipe.parents[1] / "lab" / "low.toml"
    low.parent.mkdir()
    recipe.rename(low)
    recipe.write_text('extends = "../lab/low.toml"\npacking.row_tokens = 128\n')
    packed = json.loads(orca("archive", recipe, "-o", "a.tar", "--json"))
    assert 'name = "../lab/low.toml"' in recipe.with_suffix(".lock").read_text()
    with tarfile.open("a.tar") as tar:
        names = {name.removeprefix("tree/extends/") for name in tar.getnames() if name.startswith("tree/extends/")}
    assert names == {"0.small.toml", "1.low.toml", "2.small.lock"}
    low.write_text(low.read_text() + "# looked at again\n")
    said = orca("build", recipe, "--locked", status=2)
    assert "extends: the file ../lab/low.toml has other content" in said
    (tmp_path / "home").rename(tmp_path / "gone")
    told = json.loads(orca("rebuild", "a.tar", "--out", "elsewhere/B", "--workers", "1", "--json"))
    assert (told["equal"], told["digest"]) == (True, packed["expected"])


def test_bought_answers_are_packed_and_a_rebuild_asks_nobody(recipe: Path, tmp_path: Path) -> None:
    stub = Stub()
    with running(stub) as base_url:
        teacher = f'[teachers.t]\nkind = "openai"\nmodel = "m"\nendpoints = [{{ base_url = "{base_url}" }}]\n'
        more = '[datasets.main]\nteacher = "t"\n[collections.more]\nkind = "files"\npath = "more.jsonl"\n'
        (recipe.parent / "more.jsonl").write_text('{"question": "Why?"}\n')
        recipe.write_text(recipe.read_text() + teacher + more)
        words = ("archive", recipe, "--traces", "traces", "--json", "-o")
        packed = json.loads(orca(*words, "a.tar"))
        asked = len(stub.bodies)
        orca(*words, "b.tar", "--without", "more")
        assert len(stub.bodies) == asked == 21
    assert packed["missing"] == []
    counts = []
    for name in ("a.tar", "b.tar"):
        with tarfile.open(name) as tar:
            held = tar.extractfile("tree/answers/traces.jsonl")
            assert held is not None
            counts.append(len(held.read().splitlines()))
    assert counts == [21, 20]
    told = json.loads(orca("rebuild", "a.tar", "--out", "B", "--workers", "1", "--json"))
    assert (told["equal"], told["digest"]) == (True, packed["expected"])


def test_an_archive_that_lacks_answers_buys_none_with_the_keys_of_who_rebuilds_it(recipe: Path, tmp_path: Path) -> None:
    stub = Stub()
    with running(stub) as base_url:
        teacher = f'[teachers.t]\nkind = "openai"\nmodel = "m"\nendpoints = [{{ base_url = "{base_url}" }}]\n'
        recipe.write_text(recipe.read_text() + teacher + '[datasets.main]\nteacher = "t"\n')
        orca("archive", recipe, "--traces", "traces", "--json", "-o", "a.tar")
        tree = tmp_path / "edited"
        manifest = unpack(Path("a.tar"), tree)
        (tree / manifest["answers"]).write_bytes(b"")
        manifest["files"] = [
            {**file, "bytes": 0, "digest": file_digest(tree / file["path"])}
            if file["path"] == manifest["answers"]
            else file
            for file in manifest["files"]
        ]
        write_archive(Path("b.tar"), manifest, {file["path"]: tree / file["path"] for file in manifest["files"]})
        asked = len(stub.bodies)
        told = json.loads(orca("rebuild", "b.tar", "--out", "B", "--workers", "1", "--json", status=1))
        assert len(stub.bodies) == asked > 0
    assert not told["equal"]
    assert "none are bought for an archive" in told["why"]


def test_wheels_go_into_an_archive_and_come_out_with_a_line_that_installs_them(recipe: Path, tmp_path: Path) -> None:
    here = environment({})["packages"]
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / f"polars-{here['polars']}-py3-none-any.whl").write_bytes(b"polars")
    packed = json.loads(orca("archive", recipe, "-o", "a.tar", "--wheels", wheels, "--json"))
    lacking = {one["name"] for one in packed["missing"] if one["part"] == "wheels"}
    assert lacking == {f"{name}=={version}" for name, version in here.items() if name != "polars" and version}
    told = orca("rebuild", "a.tar", "--out", "B", "--workers", "1", "--wheels", "out", "--json")
    assert json.loads(told)["differences"] == [], "where nothing differs nothing is to be installed"
    digest = hashlib.sha256(b"polars").hexdigest()
    line = f"polars=={here['polars']} --hash=sha256:{digest}\n"
    assert (tmp_path / "out" / "requirements.txt").read_text() == line
    (tmp_path / "out" / f"polars-{here['polars']}-cp311-abi3-win_amd64.whl").write_bytes(b"elsewhere")
    assert [name for name, _ in packed_wheels(tmp_path / "out")] == [f"polars=={here['polars']}"] * 2
    unpacked_wheels(tmp_path / "nowhere", tmp_path / "out")
    both = " ".join(f"--hash=sha256:{hashlib.sha256(data).hexdigest()}" for data in (b"elsewhere", b"polars"))
    assert (tmp_path / "out" / "requirements.txt").read_text() == f"polars=={here['polars']} {both}\n"
    install = unpacked_wheels(tmp_path / "nowhere", tmp_path / "out")
    other = {**environment({}), "packages": {**here, "polars": "0.1"}}
    assert environment_differences(other, environment({}), line=install)[-1] == install
    assert install is not None
    assert install.startswith("pip install --no-index --no-deps --require-hashes --find-links ")
    (tmp_path / "none").mkdir()
    assert "it holds no wheel" in orca("archive", recipe, "-o", "c.tar", "--wheels", "none", status=2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"environment": {}}, "environment.python of its manifest: Field required"),
        ({"answers": "/etc/passwd"}, "answers of its manifest: Input should be 'answers/traces.jsonl'"),
        ({"missing": [{"path": "x"}]}, "missing.0.part of its manifest: Field required"),
    ],
)
def test_a_manifest_that_says_what_none_does_is_refused(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    manifest = {"format": 1, "recipe": "r.toml", "profile": None, "expected": "", "files": [], "missing": []}
    archive = crafted(tmp_path, manifest | {"environment": environment({})} | changed)
    with pytest.raises(BuildError, match=re.escape(said)):
        rebuild(archive, tmp_path / "out", Catalogue(), Progress(), workers=1, told=print)
