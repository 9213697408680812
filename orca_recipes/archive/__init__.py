"""A recipe with all that it reads in one file, and the same data made of it again elsewhere."""
