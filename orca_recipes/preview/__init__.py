"""`plan`: what a build would do, what it would hold and what it would cost."""
