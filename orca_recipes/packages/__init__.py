"""Packages of plugins, as their authors meet them: a first one is written, its kinds are tested, all are listed."""
