"""Which rules are asked and taught at once, and in which order their rows stand."""

import numpy as np
import polars as pl

from orca_plugins.strategies.direct import Direct
from orca_recipes.recipe.rules import When
from orca_recipes.run.conversations.alike_rules import alike_rules, examples_of
from orca_recipes.run.conversations.matching_rule import BoundRule, Message


def rule(strategy: str = "plain", *messages: str, **more: bool) -> BoundRule:
    said = tuple(Message(f"s/{text}", text) for text in messages)
    return BoundRule(When(), strategy, Direct(), said, more.pop("replace", False), **more)


def groups(*rules: BoundRule) -> list[list[int]]:
    return [list(places) for places in alike_rules(rules)]


def test_consecutive_rules_with_other_system_messages_are_one_group():
    assert groups(rule("plain", "a"), rule("plain", "b"), rule("plain", "c", "d")) == [[0, 1, 2]]
    assert groups() == []


def test_rules_that_treat_their_rows_otherwise_stand_apart():
    plain = rule("plain", "a")
    for other in (rule("other", "a"), rule("plain"), rule("plain", "a", replace=True)):
        assert groups(plain, other, plain) == [[0], [1], [2]]
    assert groups(plain, rule("plain", "a", is_expanded=True)) == [[0], [1]]


def test_rows_of_a_group_stand_by_rule_and_then_in_their_order():
    examples = pl.DataFrame({"question": list("abcdef")})
    found = examples_of(examples, np.array([2, 1, 0, 1, 2, 1]), range(1, 3))
    assert found.rows() == [("b", 1), ("d", 1), ("f", 1), ("a", 2), ("e", 2)]
