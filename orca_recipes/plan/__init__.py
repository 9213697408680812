"""The plan: a recipe and a lock become stages with fingerprints. Pure: no file, network, clock, environment."""
