"""What is trained on: rows of a build, in which order, as batches."""
