"""The contract between core and plugins: kinds, hooks, schemas, draws, and checks of these promises.

VERSION: of the contract. A package says which one it is written for (`ORCA_CONTRACT = 1` in the module of its entry
point); the one at hand and the one before it are loaded, others refused by name.
"""

VERSION = 1
