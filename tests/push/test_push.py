"""Pushing to a hub that runs on this machine, through `huggingface_hub` as it is."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, snapshot_download

from orca_plugins.exporters.hf import HF
from orca_recipes.card.card import write_card
from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import BuildError, DamagedShard, OrcaError, PushError, TrustError, UserError
from orca_recipes.export.export import export
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.push.push import Pushed, push
from tests.servers.hub import NOWHERE, Hub, running
from tests.train.builds import make_build

TOKEN = "hf_secret"

# huggingface_hub 2.4 gives a file to httpx2 by an argument that is going out of use.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_build(tmp_path_factory.mktemp("push") / "made")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("ORCA_CONFIG", str(tmp_path / "config"))
    with running(Hub()) as hub:
        yield hub


def pushed(
    directory: Path, hub: Hub | str, *, repo: str = "me/sums", public: bool = False, dry_run: bool = False
) -> Pushed:
    endpoint = hub if isinstance(hub, str) else hub.address
    return push(
        directory, repo, endpoint=endpoint, public=public, dry_run=dry_run, progress=Progress(), told=lambda _: None
    )


def held(hub: Hub, repo: str = "me/sums") -> dict[str, bytes]:
    found = hub.files(repo, "main")
    assert found is not None
    return {name: data for name, data in found[1].items() if name != ".gitattributes"}


def files_of(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def refusal(directory: Path, hub: Hub | str, **more: object) -> str:
    with pytest.raises(OrcaError) as fault:
        pushed(directory, hub, **more)
    (line,) = str(fault.value).splitlines()
    return line


def test_all_files_of_a_build_are_pushed_in_one_commit_to_a_private_data_set(build: Path, hub: Hub):
    found = pushed(build, hub)
    assert held(hub) == files_of(build)
    assert hub.sets["me/sums"].private
    assert [line for line in hub.asked if "/commit/" in line] == ["POST /api/datasets/me/sums/commit/main"]
    assert found.commit == hub.sets["me/sums"].branches["main"]
    assert hub.stored, "large files came through Git LFS"


def test_what_was_pushed_is_a_sound_build_for_those_who_download_it(
    build: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hub.part_bytes = 1000
    mine = Path(shutil.copytree(build, tmp_path / "mine"))
    write_card(mine, mine)
    pushed(mine, hub)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    there = snapshot_download("me/sums", repo_type="dataset", endpoint=hub.address, local_dir=tmp_path / "there")
    assert {"README.md", "croissant.json", ".gitattributes", ".cache"} <= {path.name for path in Path(there).iterdir()}
    assert prove(Path(there), kinds=Catalogue(), progress=Progress()).findings == ()


def test_a_push_that_was_killed_goes_on_and_does_not_send_what_had_arrived(build: Path, hub: Hub):
    hub.holds_from = 2
    command = [sys.executable, "-m", "orca_recipes.cli", "push", str(build), "me/sums", "--endpoint", hub.address]
    running_push = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    hub.held.wait(60)
    running_push.send_signal(signal.SIGKILL)
    out, _ = running_push.communicate()
    before = {line for line in hub.asked if line.startswith("PUT")}
    hub.asked.clear()
    assert before
    assert "manifest.json" in out.decode(), "what is uploaded is said before it is"
    assert held(hub) == {}, "nobody sees half of a build"
    hub.holds_from = None
    assert pushed(build, hub).uploads.keys() == held(hub).keys()
    after = {line for line in hub.asked if line.startswith("PUT")}
    assert after
    assert not before & after


def test_pushing_again_what_is_there_sends_nothing(build: Path, hub: Hub):
    first = pushed(build, hub).commit
    hub.asked.clear()
    assert pushed(build, hub).commit == first
    assert not [line for line in hub.asked if line.startswith("PUT") or "/commit/" in line]


def test_what_an_earlier_push_left_is_removed_and_nothing_of_anyone_elses(build: Path, hub: Hub, tmp_path: Path):
    """A loader would take the shards of both for rows of one."""
    for name, datasets in (("both", ()), ("odds", ("odds",))):
        export(build, HF(), out=tmp_path / name, datasets=datasets, kinds=Catalogue(), progress=Progress())
    assert pushed(tmp_path / "both", hub).removed == ()
    there = hub.sets["me/sums"]
    there.commits[there.branches["main"]] = {**there.commits[there.branches["main"]], "sums/notes.md": b"mine"}
    found = pushed(tmp_path / "odds", hub)
    assert found.removed == tuple(sorted(name for name in files_of(tmp_path / "both") if name.startswith("sums/")))
    assert found.removed
    assert held(hub) == {**files_of(tmp_path / "odds"), "sums/notes.md": b"mine"}
    assert "export.json" in pushed(build, hub).removed
    assert held(hub) == {**files_of(build), "sums/notes.md": b"mine"}


def test_the_command_tells_what_a_dry_run_would_upload_and_asks_nobody(build: Path, tmp_path: Path):
    words = ["push", str(build), "me/sums", "--endpoint", NOWHERE, "--dry-run", "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
    done = subprocess.run(
        [sys.executable, "-m", "orca_recipes.cli", *words],
        capture_output=True,
        text=True,
        env={**environment, "HF_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["private"] is True
    assert {file["path"]: file["bytes"] for file in told["uploads"]} == {
        name: len(data) for name, data in files_of(build).items()
    }
    assert "would go to http://127.0.0.1:9, data set me/sums, private" in done.stderr


def test_a_card_beside_the_files_is_pushed_and_anything_else_is_refused(build: Path, hub: Hub, tmp_path: Path):
    mine = tmp_path / "mine"
    shutil.copytree(build, mine)
    (mine / "README.md").write_text("# Sums\n")
    assert "README.md" in pushed(mine, hub).uploads
    (mine / "notes.txt").write_text("mine")
    assert "holds notes.txt, which is neither of the build nor its card" in refusal(mine, hub)


def test_an_exports_card_may_be_written_on_and_no_other_file(build: Path, hub: Hub, tmp_path: Path):
    out = tmp_path / "out"
    export(build, HF(), out=out, datasets=(), kinds=Catalogue(), progress=Progress())
    (out / "README.md").write_text("# Sums\n")
    pushed(out, hub)
    assert held(hub)["README.md"] == b"# Sums\n"
    (out / "tokenizer" / "tokenizer.json").write_text("{}")
    assert "tokenizer.json: it has 2 bytes" in (told := refusal(out, hub))
    assert told.endswith("export it again or fetch a sound copy")


def test_what_is_damaged_or_no_build_is_refused_before_anything_is_sent(build: Path, hub: Hub, tmp_path: Path):
    broken = tmp_path / "broken"
    shutil.copytree(build, broken)
    (broken / "curriculum.json").write_bytes(b"{}")
    with pytest.raises(DamagedShard, match=r"curriculum\.json"):
        pushed(broken, hub)
    with pytest.raises(BuildError, match="neither a build"):
        pushed(tmp_path, hub)
    assert hub.asked == []


def test_the_token_goes_nowhere_without_the_users_word(build: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(TrustError, match=r"orca-recipe trust add hub\.example HF_TOKEN"):
        pushed(build, "https://hub.example")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(UserError, match="does not let your token write to me/sums"):
        pushed(build, hub)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    for address in (hub, "https://hub.example"):
        assert "`hf auth login`" in refusal(build, address)


def test_names_addresses_and_hubs_that_are_none_are_one_sentence(build: Path, hub: Hub):
    assert "is no name of a repository" in refusal(build, hub, repo="a/b/c")
    assert "--endpoint nowhere: it must begin with http" in refusal(build, "nowhere")
    with pytest.raises(PushError, match="run the same command again"):
        pushed(build, NOWHERE)


def test_a_data_set_that_is_public_already_is_not_pushed_to_by_mistake(build: Path, hub: Hub):
    assert not pushed(build, hub, public=True).private
    assert "is there already, and public; say --public" in refusal(build, hub)
