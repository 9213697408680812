"""The processes of a training: how many, started by whom, what each does."""
