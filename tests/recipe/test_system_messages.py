"""Sets of system messages and rules, as a recipe may write them."""

import hashlib

import pytest

A, B = (hashlib.sha256(text.encode()).hexdigest() for text in ("A", "B"))
HEAD = "[system_messages.set]\n"


def test_a_set_without_a_kind_holds_its_messages(load, base):
    assert (
        load(base + HEAD + f'messages = {{ a = "A" }}\ndigests.a = "{A}"\n').recipe.system_messages["set"].kind
        == "inline"
    )


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("", 'kind = "inline" needs messages'),
        ('kind = "file"\n', 'kind = "file" needs path'),
        ('kind = "file"\npath = "x"\nmessages = { a = "A" }\n', 'kind = "file" takes no option "messages"'),
        ('kind = "column"\npath = "x"\n', 'kind = "column" needs column'),
        ('kind = "column"\ncolumn = "s"\n', 'kind = "column" needs collection or hub or path'),
        ('kind = "column"\ncolumn = "s"\npath = "x"\nhub = "o/n"\n', "hub and path both say where the column is"),
        ('kind = "column"\ncolumn = "s"\npath = "x"\nrevision = "main"\n', "revision is one of the hub's"),
    ],
)
def test_a_set_says_where_its_texts_are_once(faults, base, table, sentence):
    (found,) = faults(base + HEAD + table)
    assert sentence in found


@pytest.mark.parametrize(
    ("table", "path", "sentence"),
    [
        (f'digests.a = "{B}"\n', "digests.a", f"the text is {A[:12]}…, and what must match is {B[:12]}…"),
        ('digests.a = "x"\n', "digests.a", "must be a SHA-256"),
        (f'digests.b = "{A}"\n', "digests.b", 'the set has no message "b"'),
        ("weights.b = 2\n", "weights.b", 'the set has no message "b"'),
        ("weights.a = 0\n", "weights.a", "must be at least 1"),
    ],
)
def test_digests_and_weights_are_held_against_the_texts(faults, base, table, path, sentence):
    (found,) = faults(base + HEAD + 'messages = { a = "A" }\n' + table)
    assert f"system_messages.set.{path}: " in found
    assert sentence in found


def test_the_empty_message_is_known_by_its_digest(faults, base):
    empty = hashlib.sha256(b"").hexdigest()
    (found,) = faults(base + HEAD + f'messages = {{ a = "A" }}\ndigests.a = "{empty}"\n')
    assert "message 1 of Orca 1" in found


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ('expand = "each"', 'expand = "each" goes through system_messages'),
        ("when = { min_tokens = 5, max_tokens = 3 }", "min_tokens = 5 is above max_tokens = 3"),
        ('when = { options = "yes" }', "must be true or false"),
        ('when = { langage = "en" }', 'did you mean "language"'),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(faults, base, rule, sentence):
    written = base.replace('strategy = "plainly" }', f'strategy = "plainly", {rule} }}')
    (found,) = faults(written)
    assert sentence in found


def test_a_student_message_without_erasing_is_refused(faults, base):
    (found,) = faults(base + 'student.system_message = "set/a"\n' + HEAD + 'messages = { a = "A" }\n')
    assert "say erase = true" in found
