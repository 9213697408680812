"""What the report of a build tells, and that nothing of a data set runs in it."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.main import main
from orca_recipes.errors import BuildError, DamagedShard, ExportError
from orca_recipes.progress import Progress
from orca_recipes.report.facts import Facts, Proof
from orca_recipes.report.page import page
from orca_recipes.report.report import write_report
from orca_recipes.report.row_samples import MOST, Sample, samples
from orca_recipes.report.tallies import DatasetTallies, dataset_tallies
from orca_recipes.shards.curriculum import read_curriculum
from orca_recipes.shards.manifest import CollectionCounts, TaskCounts, read_manifest
from orca_recipes.shards.show.row_page import Piece
from tests.report.conftest import RECIPE, made


def written(directory: Path, out: Path) -> str:
    write_report(directory, out, kinds=Catalogue(), progress=Progress())
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def report(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("page") / "report.html"
    written(built, place)
    return place


def words_of(page: str) -> str:
    """The text of a page as it is read."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.partition("</head>")[2])).split())


def test_a_report_tells_what_was_asked_and_what_was_built(built: Path, report: Path):
    told = words_of(report.read_text(encoding="utf-8"))
    counts = read_manifest(built).datasets["main"]
    assert f"{counts.rows} rows, {counts.examples} examples" in told
    for words in ("40 rows", "direct", "set/plain", "2 epochs", "too long", "sums/sums.jsonl:39", "Sound:"):
        assert words in told, words
    for digest in (read_manifest(built).data_digest, read_manifest(built).lock_digest, read_manifest(built).digest):
        assert digest in told


def test_a_report_begins_with_what_was_rejected(report: Path):
    told = words_of(report.read_text(encoding="utf-8")).partition("Mixture, as asked and as built")[0]
    assert "main/sums : asked for 40 rows, gave 39 examples; 1 rejected: too long" in told


def test_a_column_of_one_value_is_a_sentence_and_a_column_of_zeros_is_left_out(report: Path):
    told = words_of(report.read_text(encoding="utf-8"))
    assert "Strategy: direct throughout." in told
    assert "Strategies of dataset" not in told
    assert "Passed over" not in told


def test_rows_that_a_mixture_left_out_stand_apart_from_rejected_ones(tmp_path: Path):
    rows = [{"id": f"s{n}", "t": "t", "q": f"What is {n} + {n}?", "a": f"{2 * n}."} for n in range(40)]
    fewer = made(tmp_path / "fewer", rows, RECIPE.replace("rows = 40", "rows = 30"))
    told = words_of(written(fewer, tmp_path / "r.html"))
    assert "No row was rejected. Left out by the mixture: 10 rows" in told


def test_a_report_shows_what_the_teacher_was_asked_beside_what_the_student_sees(built: Path, report: Path):
    text = report.read_text(encoding="utf-8")
    assert text.count("The teacher was asked</h4>") == read_manifest(built).datasets["main"].examples
    assert re.search(r'class="piece trained"><span class="role">assistant <b class="flag">trained</b>', text)


def test_no_text_of_a_data_set_is_markup_or_leads_anywhere(report: Path):
    text = report.read_text(encoding="utf-8")
    assert text.count("<script>") == 1
    assert "<img" not in text
    assert "&lt;img src=x onerror=" in text
    assert not re.search(r"https?://", text)
    assert "\u202e" not in text


def test_a_report_names_the_digests_of_what_may_run_in_it(report: Path):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', report.read_text(encoding="utf-8"))
    assert policy is not None
    told = unescape(policy[1])
    assert told.startswith("default-src 'none'")
    assert re.search(r"script-src 'sha256-[\w+/=]+'$", told)
    assert "unsafe" not in told


def test_equal_builds_have_equal_reports(built: Path, report: Path, tmp_path: Path):
    other = Path(shutil.copytree(built, tmp_path / "elsewhere"))
    assert written(other, tmp_path / "b.html") == report.read_text(encoding="utf-8")


def test_a_report_is_replaced_and_nothing_else_is(built: Path, tmp_path: Path):
    written(built, tmp_path / "report.html")
    written(built, tmp_path / "report.html")
    mine = tmp_path / "mine.html"
    mine.write_text("mine", encoding="utf-8")
    with pytest.raises(ExportError, match="is no report"):
        written(built, mine)
    with pytest.raises(ExportError, match="lies in the build"):
        written(built, built / "report.html")
    with pytest.raises(ExportError, match="is a folder"):
        written(built, tmp_path)
    with pytest.raises(ExportError, match=r"mine\.html is a file"):
        written(built, mine / "report.html")
    assert mine.read_text(encoding="utf-8") == "mine"


def test_a_report_tells_what_changed_since_another_build(built: Path, tmp_path: Path):
    rows = [{"id": f"s{n}", "t": f"t{n % 3}", "q": f"What is {n} + {n}?", "a": f"{2 * n}."} for n in range(40)]
    other = made(tmp_path / "other", rows)
    write_report(built, tmp_path / "r.html", kinds=Catalogue(), progress=Progress(), other=other)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    told = words_of(text)
    assert read_manifest(other).data_digest in told
    for words in ("Changes since another build", "dropped 2 only in the other", "added", "It is not there."):
        assert words in told, words
    assert "Tell all" not in told.partition("Changes since another build")[2], "it was rejected, and is in neither"
    assert text.count("<script>") == 1
    assert "<img" not in text
    assert not re.search(r"https?://", text)
    write_report(built, tmp_path / "r.html", kinds=Catalogue(), progress=Progress(), other=built)
    assert ": nothing differs." in words_of((tmp_path / "r.html").read_text(encoding="utf-8"))
    with pytest.raises(BuildError, match="--against names another build"):
        write_report(built, tmp_path / "r.html", kinds=Catalogue(), progress=Progress(), other=tmp_path)


def test_a_damaged_build_gets_no_report(built: Path, tmp_path: Path):
    broken = Path(shutil.copytree(built, tmp_path / "broken"))
    tokens = next(broken.glob("main/*.bin"))
    data = bytearray(tokens.read_bytes())
    data[0] ^= 1
    tokens.write_bytes(data)
    with pytest.raises(DamagedShard, match="orca-recipe verify"):
        written(broken, tmp_path / "report.html")
    with pytest.raises(BuildError):
        written(tmp_path / "nothing", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_the_command_says_how_large_the_file_is(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "r.html"
    with pytest.raises(SystemExit) as stop:
        main(["report", str(built), "-o", str(out), "--json"])
    assert not stop.value.code
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == out.stat().st_size
    assert told.keys() >= {"bytes", "seconds"}


def test_a_build_of_100_000_tasks_has_a_report_below_3_mb(built: Path):
    manifest = read_manifest(built)
    one = TaskCounts(examples=3, tokens=300, trained_tokens=30)
    tasks = {f"task {number} <&>{'&' * 300}": one for number in range(100_000)}
    counts = manifest.datasets["main"].model_copy(
        update={"collections": {"sums": CollectionCounts(examples=3, tokens=300, trained_tokens=30, tasks=tasks)}}
    )
    long = (Piece("user", False, "&" * 1_500), Piece("assistant", True, "\U0001f600" * 1_500))
    sample = Sample("0" * 32, *("&" * 160,) * 7, 1, 1, 1, long, long)
    facts = Facts(
        manifest=manifest.model_copy(update={"datasets": {"main": counts}}),
        proof=Proof(False, {}, ()),
        curriculum=read_curriculum(built),
        tallies={"main": DatasetTallies()},
        lost={"main": []},
        samples=[sample] * MOST,
        views_untold=None,
    )
    told = page(facts)
    assert len(told.encode()) < 3_000_000
    assert "99,850 others" in told
    assert "Not verified whole" in told


def test_tallies_are_those_of_the_manifest(built: Path):
    manifest = read_manifest(built)
    counts = manifest.datasets["main"]
    told = dataset_tallies(built, manifest, "main", lambda examples: None)
    for tallies in told.by.values():
        assert sum(tally.examples for tally in tallies.values()) == counts.examples
        assert sum(tally.tokens for tally in tallies.values()) == counts.tokens
        assert sum(tally.trained_tokens for tally in tallies.values()) == counts.trained_tokens
    assert told.lengths @ range(len(told.lengths)) == counts.tokens
    assert told.row_tokens.sum() == counts.rows
    assert told.row_examples @ range(len(told.row_examples)) == counts.examples


def test_samples_are_of_every_collection_and_strategy(quickstart: Path):
    manifest = read_manifest(quickstart)
    found = samples(quickstart, manifest, None)
    assert len(found) == MOST
    assert len({sample.id for sample in found}) == MOST
    assert found[0].id == min(sample.id for sample in found)
    assert all(piece.text for sample in found for piece in sample.pieces)
