"""Strategies: how the teacher is asked to reason, and how much of it the student sees."""

from orca_recipes.contract.hooks import Offers, hookimpl


@hookimpl
def orca_strategies() -> Offers:
    return {
        "direct": "orca_plugins.strategies.direct:Direct",
        "explain_then_answer": "orca_plugins.strategies.explain_then_answer:ExplainThenAnswer",
        "extract_generate": "orca_plugins.strategies.extract_generate:ExtractGenerate",
        "few_shot": "orca_plugins.strategies.few_shot:FewShot",
        "instruct": "orca_plugins.strategies.instruct:Instruct",
        "recall_reason_generate": "orca_plugins.strategies.recall_reason_generate:RecallReasonGenerate",
        "recall_then_generate": "orca_plugins.strategies.recall_then_generate:RecallThenGenerate",
        "step_by_step": "orca_plugins.strategies.step_by_step:StepByStep",
    }
