"""The trainer: reads shards, knows nothing of recipes."""
