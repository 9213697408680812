"""Checkpoints: folders that a run goes on from."""
