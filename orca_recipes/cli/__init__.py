"""The command line: one file for each thing that a person wants to do."""
