"""The page of a report in a real browser: search, filters, widths, schemes and printing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.report.report import write_report
from orca_recipes.shards.manifest import read_manifest
from tests.report.browser import Tab, browser

SHOWN = "[...document.querySelectorAll('#samples .sample')].filter(one => !one.hidden)"
OVER = """[...document.querySelectorAll('body *')].filter(one =>
    one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('.wide, pre, nav')).length"""


@pytest.fixture(scope="module")
def report(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("page") / "report.html"
    write_report(built, place, kinds=Catalogue(), progress=Progress())
    return place


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def chosen(tab: Tab, control: str, value: str) -> int:
    """Set a control as a person would; the number of samples that are shown then."""
    tab.value(
        f"{{ const one = document.querySelector({control!r}); one.value = {value!r};"
        " one.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    return int(tab.value(f"{SHOWN}.length"))


def test_nothing_of_the_data_runs(tab: Tab, report: Path):
    tab.show(report, width=1200)
    assert tab.value("document.title") == "reported: report of a build"
    assert tab.value("document.images.length") == 0
    assert tab.value("document.querySelector('#filters').hidden") is False


def test_search_shows_the_samples_that_hold_the_words_and_opens_them(tab: Tab, report: Path, built: Path):
    tab.show(report, width=1200)
    examples = read_manifest(built).datasets["main"].examples
    assert tab.value(f"{SHOWN}.length") == examples
    assert chosen(tab, "#search", "wHAT is 17 + 17?") == 1
    assert tab.value(f"{SHOWN}[0].querySelector('details').open") is True
    assert tab.value("CSS.highlights.get('found').size") >= 1
    assert tab.value("document.querySelector('#found').textContent") == f"1 of {examples} samples shown"
    assert chosen(tab, "#search", "no sample holds this") == 0
    assert chosen(tab, "#search", "") == examples
    assert tab.value("CSS.highlights.get('found').size") == 0


def test_words_of_the_page_itself_are_not_searched(tab: Tab, report: Path):
    tab.show(report, width=1200)
    assert chosen(tab, "#search", "the teacher was asked") == 0


def test_filters_and_views_hide_the_others(tab: Tab, report: Path, built: Path):
    tab.show(report, width=1200)
    examples = read_manifest(built).datasets["main"].examples
    assert chosen(tab, "[data-field=strategy]", "direct") == examples
    assert chosen(tab, "#view", "student") == examples
    assert tab.value("[...document.querySelectorAll('.view.teacher')].every(one => one.hidden)") is True
    assert tab.value("[...document.querySelectorAll('.view.student')].some(one => one.hidden)") is False


def test_samples_open_and_close_together(tab: Tab, report: Path):
    tab.show(report, width=1200)
    opened = f"{SHOWN}.every(one => one.querySelector('details').open)"
    assert tab.value(opened) is False
    tab.value("document.querySelector('#open').click()")
    assert tab.value(opened) is True
    tab.value("document.querySelector('#close').click()")
    assert tab.value(f"{SHOWN}.some(one => one.querySelector('details').open)") is False


@pytest.mark.parametrize("width", [320, 390, 800, 1600])
def test_nothing_runs_over_the_edge_of_a_window(tab: Tab, report: Path, width: int):
    tab.show(report, width=width)
    tab.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    root = "document.documentElement"
    assert tab.value(f"{root}.scrollWidth") == tab.value(f"{root}.clientWidth")
    assert tab.value(OVER) == 0


def test_paper_shows_what_was_closed_and_no_controls(tab: Tab, report: Path):
    tab.show(report, width=1200)
    closed = "document.querySelectorAll('details:not([open], .numbers)').length"
    before = tab.value(closed)
    assert before > 0
    tab.value("dispatchEvent(new Event('beforeprint'))")
    assert tab.value(closed) == 0
    tab.value("dispatchEvent(new Event('afterprint'))")
    assert tab.value(closed) == before


def test_light_and_dark_are_two_pictures_at_every_width(tab: Tab, report: Path):
    pictures = set()
    for width, dark in ((1200, False), (1200, True), (390, False), (390, True)):
        tab.show(report, width=width, dark=dark)
        pictures.add(tab.picture())
    assert len(pictures) == 4
