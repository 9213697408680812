"""What `contract.testing` checks of kinds, and the promises that they are held to."""
