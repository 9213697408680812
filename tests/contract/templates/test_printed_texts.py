"""Texts that a template printed, as they are or as JSON writes them."""

from orca_recipes.contract.templates.printed_texts import ends_alike, is_printed, print_each, shared_start, stand_in


def test_a_text_is_printed_as_it_is_or_as_json_escapes_it() -> None:
    assert is_printed('say "ö"', 'user: say "ö"')
    assert is_printed('say "ö"', r'{"text": "say \"ö\""}')
    assert is_printed('say "ö"', r'{"text": "say \"\u00f6\""}')
    assert not is_printed('say "ö"', "user: say ö")


def test_texts_stand_in_another_in_their_order_alone() -> None:
    assert stand_in(["One. ", " Two."], "One.\n\nTwo.")
    assert not stand_in(["Two.", "One."], "One.\n\nTwo.")


def test_a_function_that_is_called_twice_is_named_twice() -> None:
    calls = [{"function": {"name": "add"}}] * 2
    assert print_each(calls, "add(1) add(2)")
    assert not print_each(calls, "add(1)")


def test_prompts_end_alike_if_their_last_message_stands_in_what_they_share() -> None:
    last = {"role": "user", "content": "And now?"}
    assert shared_start("system: a", "system: b") == len("system: ")
    assert ends_alike("system: a\nAnd now?\n", "And now?\n", last)
    assert not ends_alike("And then?\n", "And now?\n", last)
