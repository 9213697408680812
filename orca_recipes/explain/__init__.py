"""`explain` and `show --views`: why a row is there, told from a build, its store and its traces."""
