"""`weight`, `train` and their like decide turn by turn what is trained; nothing of them is guessed."""

import pytest

from tests.plugins.rows_in_files import FORMATS, read

FLAGS = ["weight", "train", "trainable", "loss_mask", "loss", "training"]


def talk(*said: object, flag: str = "weight") -> dict:
    """A dialogue whose answers have these flags."""
    turns = []
    for number, value in enumerate(said):
        turns.append({"role": "user", "content": f"q{number}", flag: None})
        turns.append({"role": "assistant", "content": f"a{number}", flag: value})
    return {"messages": turns}


def trained(rows: list[dict], name: str = "rows.jsonl", **options) -> list[list[str]]:
    """The contents that are trained, row by row."""
    kept, rejected = read(rows, name, **options)
    assert not rejected
    return [[turn["content"] for turn in row["messages"] if turn["trained"]] for row in kept]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize(("no", "yes"), [(0, 1), (False, True), (0.0, 1.0)])
def test_a_flag_of_nought_makes_an_answer_context(flag: str, no: object, yes: object, name: str):
    rows = [talk(no, yes, flag=flag), talk(None, no, flag=flag), talk(yes, None, flag=flag)]
    assert trained(rows, name) == [["a1"], ["a0"], ["a0", "a1"]]


@pytest.mark.parametrize("name", FORMATS)
def test_only_the_last_answer_is_trained_where_the_recipe_says_so_and_its_flag_does_not_object(name: str):
    assert trained([talk(1, 1), talk(0, None)], name, train_on="last") == [["a1"], ["a1"]]
    kept, rejected = read([talk(1, 0)], name, train_on="last")
    assert (kept, rejected) == ([], [(1, "messages: their flags leave no turn to train")])


@pytest.mark.parametrize("name", FORMATS)
def test_a_conversation_without_a_turn_to_train_is_rejected_for_that(name: str):
    rows = [talk(0, 0), {"messages": [*talk(0, 0)["messages"], {"role": "user", "content": "and?", "weight": 0}]}]
    kept, rejected = read(rows, name)
    assert rejected == [(1, "messages: their flags leave no turn to train")]
    assert [row["place"] for row in kept] == [2]  # its answer is still to come


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("odd", [0.5, 2, -1, "1", "true", [1], {"a": 1}], ids=str)
def test_a_flag_that_says_neither_is_rejected(odd: object, name: str):
    sentence = (
        'messages: "weight" of a turn is neither 0 nor 1, true nor false; '
        'ignore_keys = ["weight"] reads such rows without it'
    )
    assert read([talk(odd)], name) == ([], [(1, sentence)])
    assert trained([talk(odd)], name, ignore_keys=("weight",)) == [["a0"]]


@pytest.mark.parametrize("name", FORMATS)
def test_flags_that_disagree_are_rejected_by_their_names(name: str):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 1, "train": False}]
    sentence = 'messages: "weight" and "train" of a turn disagree; ignore_keys = ["train", "weight"] reads such rows'
    kept, ((place, reason),) = read([{"messages": turns}], name)
    assert (kept, place, reason.removesuffix(" without them")) == ([], 1, sentence)
    turns[1]["train"] = True
    assert trained([{"messages": turns}], name) == [["a"]]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("role", ["system", "user", "tool"])
def test_a_turn_that_is_no_answer_is_never_trained_and_a_flag_that_asks_for_it_is_said(role: str, name: str):
    turns = [{"role": role, "content": "q", "weight": 0}, {"role": "assistant", "content": "a", "weight": 1}]
    assert trained([{"messages": turns}], name) == [["a"]]
    turns[0]["weight"] = 1
    sentence = (
        'messages: "weight" would train a turn that is not the assistant\'s; '
        'ignore_keys = ["weight"] reads such rows without it'
    )
    assert read([{"messages": turns}], name) == ([], [(1, sentence)])


def test_flags_that_change_their_type_within_a_file_are_read_all_the_same():
    rows = [talk(1, 0), talk(True, False), talk(1.0, 0.0), talk(None, None), talk(0, True)]
    assert trained(rows) == [["a0"], ["a0"], ["a0"], ["a0", "a1"], ["a1"]]
