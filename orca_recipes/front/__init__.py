"""The project from Python: recipes that are checked, planned and built, and builds that are read."""
