"""Why a stage will run."""

from orca_recipes.plan.stages import PlanBuilder, Stage
from orca_recipes.plan.why import why


def pack_stage(row_tokens: int, **decisive) -> Stage:
    builder = PlanBuilder()
    name = builder.add(
        "pack", "main", kind="packers:best_fit", decisive={"packing": {"row_tokens": row_tokens}, **decisive}
    )
    return builder.plan()[name]


def record(stage: Stage) -> dict:
    return {"fingerprint": stage.fingerprint, "decisive": stage.decisive}


def test_a_stage_without_a_last_build_is_new():
    assert why(pack_stage(2048), None, {}) == "new"


def test_a_stage_that_the_last_build_had_has_no_reason():
    assert why(pack_stage(2048), record(pack_stage(2048)), {}) == ""


def test_a_changed_option_is_named_with_both_values():
    assert why(pack_stage(4096), record(pack_stage(2048)), {}) == "changed: packing.row_tokens 2048 -> 4096"


def test_a_long_value_is_named_without_being_printed():
    before, after = pack_stage(2048, rules="x" * 90), pack_stage(2048, rules="y" * 90)
    assert why(after, record(before), {}) == "changed: rules"


def test_a_stage_follows_the_inputs_that_changed():
    builder = PlanBuilder()
    read = builder.add("read", "cot", kind="", decisive={"pin": 2})
    mix = builder.add("mix", "main/cot", kind="", decisive={}, inputs=(read,))
    before = {"fingerprint": "other", "decisive": {}}
    assert why(builder.plan()[mix], before, {read: "changed: pin 1 -> 2"}) == "after read cot"
