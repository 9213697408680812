"""Training data: rows of a build, their order, and batches of them."""
