"""Out of the house: a build read once, and written in the form that another trainer reads."""
