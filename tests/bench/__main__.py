"""The bench, run by hand from the project's root; README.md beside this file says what its columns mean.

python -m tests.bench collect     a teacher: requests a second, limits, memory
python -m tests.bench compile     the compiler, part by part, and its peers
python -m tests.bench exports     every form of export, beside datasets' map
python -m tests.bench pack        packing alone
python -m tests.bench mixing BUILD   how tasks are mixed within the rows of a build
python -m tests.bench draw        drawing mixtures alone
python -m tests.bench plans       `plan` of recipes with thousands of collections, rules or files
python -m tests.bench scale       clusters: a model of many nodes, by costs that are measured here
python -m tests.bench large       millions of examples, and how the cost grows
python -m tests.bench traces      answers made durable, and a long queue of questions
python -m tests.bench train       the trainer's data path and start; --gpu: steps beside TRL's
python -m tests.bench near_duplicates, decontaminate   filters that compare, on texts with known truth
python -m tests.bench plant       such texts, made of real data
python -m tests.bench views       rule matching and both views of a prompt
"""

import click

from tests.bench.alike import decontaminate, near_duplicates
from tests.bench.collect import collect
from tests.bench.compile import compile
from tests.bench.draw import draw
from tests.bench.exports import exports
from tests.bench.large import large
from tests.bench.mixing import mixing
from tests.bench.pack import pack
from tests.bench.plans import plans
from tests.bench.planted import plant
from tests.bench.scale import scale
from tests.bench.traces import traces
from tests.bench.train import train
from tests.bench.views import views


@click.group()
def bench() -> None:
    """Measure the compiler on the machine at hand."""


bench.add_command(collect)
bench.add_command(compile)
bench.add_command(mixing)
bench.add_command(pack)
bench.add_command(plans)
bench.add_command(scale)
bench.add_command(draw)
bench.add_command(exports)
bench.add_command(large)
bench.add_command(traces)
bench.add_command(near_duplicates)
bench.add_command(decontaminate)
bench.add_command(plant)
bench.add_command(views)
bench.add_command(train)

if __name__ == "__main__":
    bench()
