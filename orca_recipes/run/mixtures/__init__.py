"""Verbs contexts, questions, measure, allot and mix: which examples are drawn, decided before anything is bought."""
