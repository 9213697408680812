"""From a server's outcome to an answer of the contract, and what it cost."""

from __future__ import annotations

from orca_plugins.teachers.openai.replies import Again, Answered, Outcome
from orca_plugins.teachers.openai.token_estimate import Size
from orca_recipes.contract.answers import Answer, Prices, Request


def answer_of(outcome: Answered, *, request: Request, model: str, endpoint: str, time: float) -> Answer:
    """Build the answer to a request from the server's outcome; time: seconds since 1970."""
    return Answer(
        key=request.key,
        text=outcome.text,
        finish_reason=outcome.finish_reason,
        reason=outcome.reason,
        input_tokens=outcome.usage.input_tokens,
        cached_input_tokens=outcome.usage.cached_input_tokens,
        output_tokens=outcome.usage.output_tokens,
        model_asked=model,
        model_reported=outcome.model,
        endpoint=endpoint,
        time=time,
        request_id=outcome.request_id,
        max_tokens=request.max_tokens,
        reasoning=outcome.reasoning,
        tool_calls=outcome.tool_calls,
    )


def most_cost(prices: Prices, size: Size, max_tokens: int | None, *, batch: bool = False) -> float:
    """Bound the USD that a question can cost; without max_tokens, which a budget needs, its answer counts nothing."""
    return prices.cost(input_tokens=size.most_tokens, output_tokens=max_tokens or 0, batch=batch)


def cost_of(prices: Prices, outcome: Outcome, *, at_most: float, batch: bool = False) -> float:
    """Compute the USD that an exchange cost; where the server did not count, or broke off while at work, the most it
    can have."""
    if isinstance(outcome, Again):
        return at_most if outcome.billed else 0.0
    if not isinstance(outcome, Answered):
        return 0.0
    usage = outcome.usage
    if usage.input_tokens is None or usage.output_tokens is None:
        return 0.0 if outcome.text is None else at_most
    cached = min(usage.cached_input_tokens or 0, usage.input_tokens)
    tokens = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    return prices.cost(**tokens, cached=cached, batch=batch)
