"""What the core and the plugins promise each other: kinds, hooks, schemas, draws, and checks that hold them to it."""
