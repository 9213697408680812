"""What changed between two recipes, locks or builds."""
