"""What the user wrote: a recipe's grammar, how it is read, and what is said where it is wrong."""
