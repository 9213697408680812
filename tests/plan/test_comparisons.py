"""A comparison is one stage of a dataset, behind all that is compared."""

from pathlib import Path

from orca_recipes.plan.comparisons import add_comparison, add_comparison_of_questions, compared_questions
from orca_recipes.plan.stages import PlanBuilder
from tests.plan.test_used_parts import recipe


def planned() -> PlanBuilder:
    plan = PlanBuilder()
    for verb, subject in (("read", "sums"), ("read", "exam"), ("mix", "all/sums"), ("converse", "main/sums")):
        plan.add(verb, subject, kind="", decisive={})
    return plan


def test_conversations_are_compared_once_all_are_made_and_the_benchmark_is_read(tmp_path: Path):
    plan = planned()
    assert add_comparison(plan, recipe(tmp_path), "main", ("converse main/sums",)) == "compare main"
    stage = plan.plan()["compare main"]
    assert stage.inputs == ("converse main/sums", "read exam")
    assert stage.kind == "filters:decontaminate"


def test_questions_are_compared_as_they_are_drawn_before_any_is_asked(tmp_path: Path):
    plan = planned()
    assert add_comparison_of_questions(plan, recipe(tmp_path), "bought") == compared_questions("bought")
    assert plan.plan()[compared_questions("bought")].inputs == ("read sums", "mix all/sums", "read exam")
