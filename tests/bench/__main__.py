"""The bench, run by hand from the project's root; README.md beside this file says what its columns mean.

python -m tests.bench compile     the compiler, part by part, and its peers
python -m tests.bench pack        packing alone
python -m tests.bench large       millions of examples, and how the cost grows
"""

import click

from tests.bench.compile import compile
from tests.bench.large import large
from tests.bench.pack import pack


@click.group()
def bench() -> None:
    """Measure the compiler on the machine at hand."""


bench.add_command(compile)
bench.add_command(pack)
bench.add_command(large)

if __name__ == "__main__":
    bench()
