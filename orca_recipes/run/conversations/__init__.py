"""Verbs prepare, converse and keep: from drawn examples to what the student is trained on."""
