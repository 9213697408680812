"""`verify`: texts, prompts and counts of a build, held against the build itself. Structure is proven in shards/."""
