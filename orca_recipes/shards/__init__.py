"""The bytes: what a packed shard and a build directory hold, written, read and verified."""
