"""Bars of numbers."""

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np

from orca_recipes.report.charts import bar, bins, histogram, quantile


def test_bins_hold_every_value_once():
    counts = np.arange(1_000)
    found = bins(counts)
    assert len(found) <= 24
    assert sum(one.number for one in found) == counts.sum()
    assert found[0].low == 0
    assert found[-1].high == 999
    assert all(before.high + 1 == after.low for before, after in itertools.pairwise(found))


def test_bins_of_nothing_are_empty():
    assert [one.number for one in bins(np.zeros(0, dtype=np.int64))] == [0, 0]


def test_an_axis_begins_at_the_least_value_where_all_are_large():
    row_tokens = np.bincount([3_900, 4_000, 4_090])
    found = bins(row_tokens, top=4_096)
    assert (found[0].low, found[-1].high) == (3_900, 4_096)
    assert sum(one.number for one in found) == 3
    assert bins(np.bincount([1_900, 4_090]), top=4_096)[0].low == 0


def test_a_quantile_is_a_value_that_there_is():
    counts = np.bincount([1, 2, 2, 9])
    assert [quantile(counts, share) for share in (0.05, 0.5, 0.75, 1.0)] == [1, 2, 2, 9]
    assert quantile(np.zeros(3, dtype=np.int64), 0.5) == 0


def test_charts_are_svg_that_parses():
    for drawn in (histogram(bins(np.bincount([1, 5, 5])), title="Tokens"), bar(0.3), bar(2.0)):
        assert ElementTree.fromstring(drawn).tag == "svg"
