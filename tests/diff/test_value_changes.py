"""Changes between two tables are as small as they can be said."""

from orca_recipes.diff.value_changes import value_changes


def told(before: dict, after: dict) -> list[tuple]:
    return [(change.path, change.before, change.after) for change in value_changes(before, after)]


def test_equal_tables_have_no_changes():
    assert told({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 2}]}}) == []


def test_the_smallest_value_that_differs_is_named():
    assert told({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": True}) == [("a.c", 2, 3), ("d", None, True)]


def test_a_number_is_not_a_truth_value_nor_another_sort_of_number():
    assert told({"a": 1, "b": 1}, {"a": True, "b": 1.0}) == [("a", 1, True), ("b", 1, 1.0)]
    for before, after in (([1, 2], [1, 2.0]), ([1], [True]), ([[0]], [[False]]), ([{"c": 1}, 2], [{"c": 1.0}, 2])):
        assert told({"a": before}, {"a": after}) == [("a", before, after)]
        assert told({"a": before}, {"a": before}) == []


def test_a_rule_put_first_leaves_the_others_equal():
    rules = [{"strategy": "a"}, {"strategy": "b"}]
    new = {"strategy": "new"}
    assert told({"rules": rules}, {"rules": [new, *rules]}) == [("rules.0", None, new)]
    assert told({"rules": [new, *rules]}, {"rules": rules}) == [("rules.0", new, None)]
    assert told({"rules": rules}, {"rules": [rules[0], new]}) == [("rules.1.strategy", "b", "new")]


def test_files_are_matched_by_their_names():
    before = {"files": [{"name": "b", "bytes": 1}, {"name": "a", "bytes": 2}]}
    after = {"files": [{"name": "a", "bytes": 2}, {"name": "b", "bytes": 3}]}
    assert told(before, after) == [("files.b.bytes", 1, 3)]
