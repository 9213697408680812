"""One page about a build: what was asked, what it holds, what was lost, what it cost, what was proven."""
