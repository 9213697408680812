"""Verbs ask and answer: buy what teachers are asked, and make conversations of it."""
