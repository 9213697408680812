"""Looking at the rows of a build."""
