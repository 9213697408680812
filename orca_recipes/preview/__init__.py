"""`plan`: the stages, contents and cost of a build before it is made."""
