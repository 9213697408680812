"""Fingerprints are of everything that decides a stage, written canonically, however they are worked out."""

from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.plan.stages import REVISIONS, PlanBuilder


def test_a_fingerprint_is_the_digest_of_what_decides_a_stage():
    plan = PlanBuilder()
    shared = {"take": {"all": True, "häufig": 'a "quote"'}}
    for place in range(3):
        plan.add("read", f"c{place}", kind="", decisive={"collection": f"c{place}"})
        plan.add("mix", f"main/c{place}", kind="", decisive=shared, inputs=(f"read c{place}",))
    stages = plan.plan()
    for place in range(3):
        assert stages[f"mix main/c{place}"].fingerprint == digest_of(
            {
                "verb": "mix",
                "verb_revision": REVISIONS["mix"],
                "decisive": shared,
                "inputs": [stages[f"read c{place}"].fingerprint],
            }
        )


def test_stages_of_equal_decisions_and_other_objects_have_one_fingerprint():
    plan = PlanBuilder()
    for place in range(3):
        plan.add("measure", f"c{place}", kind="", decisive={"unit": "tokens" if place < 2 else "rows"})
    first, second, third = (stage.fingerprint for stage in plan.plan())
    assert first == second != third
