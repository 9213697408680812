"""Exports alone, in MB of text a CPU second, beside `datasets`' own map making labels of the same examples."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from orca_plugins.exporters.axolotl import Axolotl
from orca_plugins.exporters.bridge import Bridge
from orca_plugins.exporters.hf import HF
from orca_plugins.exporters.llamafactory import LlamaFactory
from orca_plugins.exporters.megatron_documents import MegatronDocuments
from orca_plugins.exporters.messages_lines import Messages
from orca_plugins.exporters.olmo import Olmo
from orca_plugins.exporters.rl import RL
from orca_plugins.exporters.skyrl import SkyRL
from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.exporter import Exporter
from orca_recipes.export.export import export
from orca_recipes.progress import Progress
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.reader import Shard
from tests.bench.corpus import SHARED, WORK, Library, workshop
from tests.bench.machine import machine
from tests.bench.measure import measure
from tests.bench.recipes import Build, students
from tests.bench.table import table

WANTED, WANTED_TIMES = 60.0, 10.0
TOKENS: tuple[Exporter, ...] = (
    HF(),
    HF(packed=True),
    Bridge(),
    Olmo(),
    Axolotl(),
    LlamaFactory(),
    SkyRL(),
    MegatronDocuments(),
)
TEXTS: tuple[Exporter, ...] = (Messages(), RL())
_PEER_EXAMPLES = 5_000
_ROUNDS = 3


@click.command()
@click.option("--size", default=40.0, show_default=True, help="MB of text of the corpus.")
@click.option("--work", type=click.Path(path_type=Path), default=WORK, help="Where corpora are kept.")
@click.option("--shared", type=click.Path(path_type=Path), default=SHARED, help="The shared data.")
@click.option("--texts/--no-texts", default=False, help="Exports as text too, which are told example by example.")
@click.option("--json", "told", type=click.Path(path_type=Path), help="Write the figures there.")
def exports(size: float, work: Path, shared: Path, texts: bool, told: Path | None) -> None:
    """Export a build of the corpus in every form."""
    corpus = Library(work / "corpus", shared).of_size(size)
    student = students(shared, corpus, work)["sentencepiece"]
    with workshop(work) as held:
        folder = Path(held)
        recipe = Build(student, (corpus,)).write(folder / "recipe.toml")
        words = [
            sys.executable,
            "-m",
            "orca_recipes.cli",
            "build",
            recipe,
            "--out",
            folder / "build",
            "--store",
            folder / "store",
        ]
        measure(words, folder=folder)
        megabytes = text_megabytes(folder / "build")
        click.echo(f"{machine()}\n{megabytes:.1f} MB of text\n")
        cpu_of(folder, HF())  # what is is imported once belongs to no export
        found = {
            f"{exporter.kind}{' packed' if getattr(exporter, 'packed', False) else ''}": megabytes
            / cpu_of(folder, exporter)
            for exporter in (*TOKENS, *(TEXTS if texts else ()))
        }
        peer = peer_rate(folder, megabytes)
    rows = [
        (name, f"{rate:.1f}", f"{rate / WANTED:.2f}", f"{rate / peer:.1f}", f"{rate / peer / WANTED_TIMES:.2f}")
        for name, rate in [*found.items(), ("datasets map", peer)]
    ]
    heads = ["export", "MB/CPU s", f"of {WANTED:.0f}", "times datasets", f"of {WANTED_TIMES:.0f}"]
    click.echo(table("Exports", heads, rows), nl=False)
    if told is not None:
        told.write_text(json.dumps({"megabytes": megabytes, "rates": found, "datasets": peer}, indent=1) + "\n")


def cpu_of(folder: Path, exporter: Exporter) -> float:
    """CPU seconds of one export, digests of the build and of what is written included; it is removed."""
    out, kinds = folder / "out", Catalogue()

    def once() -> None:
        shutil.rmtree(out, ignore_errors=True)
        export(folder / "build", exporter, out=out, datasets=(), kinds=kinds, progress=Progress())

    spent = least_cpu(once)
    shutil.rmtree(out)
    return spent


def least_cpu(work: Callable[[], object]) -> float:
    """The least CPU seconds of a few rounds: neighbours on the same cores only ever add to them."""
    spent = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return min(spent)


def peer_rate(folder: Path, megabytes: float) -> float:
    """MB of text a CPU second of `datasets`: labels of ids and a mask, example by example, written as Parquet."""
    import datasets

    told = export(folder / "build", SkyRL(), out=folder / "masks", datasets=(), kinds=Catalogue(), progress=Progress())
    files = sorted(map(str, (folder / "masks" / "main").glob("*.parquet")))
    every = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(folder / "cache"))
    some = every.select(range(min(_PEER_EXAMPLES, len(every))))
    share = sum(map(len, some["input_ids"])) / told.tokens

    def labelled(row: dict[str, list[int]]) -> dict[str, list[int]]:
        pairs = zip(row["input_ids"], row["loss_mask"], strict=True)
        return {"labels": [token if carries else -100 for token, carries in pairs]}

    def once() -> None:
        made = some.map(labelled, remove_columns=["loss_mask"], load_from_cache_file=False)
        made.to_parquet(str(folder / "peer.parquet"))

    return megabytes * share / least_cpu(once)


def text_megabytes(build: Path) -> float:
    """MB of the text that the tokens of a build stand for, control tokens left out."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(build / "tokenizer" / "tokenizer.json"))
    return sum(len(text.encode()) for ids in _rows(build) for text in tokenizer.decode_batch(ids)) / 1e6


def _rows(build: Path) -> Iterator[list[list[int]]]:
    """The tokens of rows, some hundred at a time."""
    for dataset in read_manifest(build).datasets.values():
        for counts in dataset.shards:
            shard = Shard.open(build / counts.prefix)
            for start in range(0, shard.rows, 256):
                yield [shard.row(at).tokens.tolist() for at in range(start, min(start + 256, shard.rows))]
