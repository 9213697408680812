"""Read chat templates: sandbox, limits, ends of answers, and the text of each turn."""
