"""The checks of kinds behind `contract.testing`, and the promises they are held to."""
