"""Compare conversations with each other and with benchmarks: verbs `compare` and `sift`."""
