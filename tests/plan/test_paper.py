"""A paper's figures stand beside ours, with the difference where ours is known."""

from orca_recipes.plan.paper import WHOLE, PaperRow, paper_table
from orca_recipes.recipe.model import Paper, PaperMixture

PAPER = Paper(
    title="Supper",
    source="arXiv 1",
    mixtures={"meal": PaperMixture(place="Table 1", rows=10, collections={"jam": 4, "tea": 6}, notes={"jam": "sweet"})},
)


def test_each_figure_has_ours_and_the_difference():
    table = paper_table(PAPER, {"meal": {"jam": 5, "tea": None, WHOLE: None}})
    assert table.rows == (
        PaperRow("meal", "jam", 4, 5, 1, "sweet"),
        PaperRow("meal", "tea", 6, None, None, ""),
        PaperRow("meal", WHOLE, 10, None, None, "Table 1"),
    )


def test_a_mixture_that_no_dataset_takes_is_not_known():
    assert [row.ours for row in paper_table(PAPER, {}).rows] == [None, None, None]
