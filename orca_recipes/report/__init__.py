"""One page about a build: its request, contents, losses, cost and proof."""
