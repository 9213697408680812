"""What the core and the plugins promise each other: kinds, hooks, schemas, draws, and the checks that hold them to it."""
