"""Differences between two recipes, locks or builds."""
