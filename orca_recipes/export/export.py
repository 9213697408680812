"""Exporting a build: refused by its digests before the first row, read once, written aside, counted, put in place.

What an exporter says of labels is held against the manifest, shard by shard: an export whose labels and lost labels
are not the build's trained tokens is not kept.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from orca_recipes.contract.exporter import (
    BuildToExport,
    DatasetToExport,
    Exporter,
    RowBlock,
    ShardToExport,
    Written,
)
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.counted import counted
from orca_recipes.errors import ExportError, PluginError
from orca_recipes.export.end_of_text import end_of_text_id
from orca_recipes.export.export_card import readme, wrong_settings
from orca_recipes.export.export_folder import NAME, identity, made_aside, refuse_place
from orca_recipes.export.row_blocks import Teller, row_blocks
from orca_recipes.export.said_messages import message_teller
from orca_recipes.export.whole_shards import WholeShards
from orca_recipes.progress import Progress
from orca_recipes.recipe.choice import Kinds
from orca_recipes.recipe.defaults import TEACHER
from orca_recipes.shards.checks.file_checks import check_file
from orca_recipes.shards.digests import canonical_json
from orca_recipes.shards.files import damage, write_whole
from orca_recipes.shards.in_use import begin_to_read
from orca_recipes.shards.layout import TOKENIZER
from orca_recipes.shards.manifest import FileDigest, Manifest, ShardCounts, read_manifest

_TOKENIZER_FOLDER = Path(TOKENIZER).parent


@dataclass(frozen=True)
class ExportedFile:
    """One file of an export, by its path inside."""

    path: str
    bytes: int
    digest: str


@dataclass(frozen=True)
class Exported:
    """Result of an export: folder and files, labels kept and lost, and effects of other settings of the trainer."""

    directory: Path
    files: tuple[ExportedFile, ...]
    examples: int
    tokens: int
    trained_labels: int
    lost_labels: dict[str, int]
    wrong_settings: list[dict[str, str | int]]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "directory": str(self.directory), "files": [asdict(file) for file in self.files]}


def export(
    directory: Path,
    exporter: Exporter,
    *,
    out: Path | None = None,
    datasets: Sequence[str] = (),
    kinds: Kinds,
    progress: Progress,
) -> Exported:
    """Export a build.

    Args:
        out: an empty or a new folder; `export/BUILD.KIND` where none is named.
        datasets: those that are exported, all where none is named.
        kinds: the catalogue, for the kind of tokenizer that tells messages.
    Raises: BuildError, DamagedShard; ExportError where the trainer cannot hold the build or the folder is taken.
    """
    with begin_to_read(directory):
        manifest = read_manifest(directory)
        place = out or Path("export") / f"{manifest.name}.{exporter.kind}"
        refuse_place(directory, place)
        _check_digests(directory, (*manifest.files, *manifest.made.table_files), progress)
        build = _build(directory, manifest, datasets, kinds)
        exporter.refuse(build=build)
        with made_aside(place, identity(exporter, build)) as aside:
            whole = WholeShards(aside)
            # Opened once, and only if the exporter asks for messages.
            teller = cache(lambda: message_teller(directory, manifest, kinds))
            shards = {
                dataset.name: _write_dataset(exporter, build, dataset, manifest, whole, teller, progress)
                for dataset in build.datasets
            }
            exporter.finish(build=build, shards=shards, folder=aside)
            _ship_tokenizer(directory, aside)
            every = [written for of_dataset in shards.values() for written in of_dataset]
            (aside / "README.md").write_text(readme(exporter, build, shards), encoding="utf-8")
            # Before files are listed: the notes are no part of the export.
            whole.forget()
            told = _told(place, whole, every)
            about = {"build": manifest.digest, "exporter": exporter.identity(), "name": manifest.name}
            about |= {"datasets": [dataset.name for dataset in build.datasets]}
            counts = {name: value for name, value in told.as_json().items() if name != "directory"}
            # Last, so that its presence means a whole export.
            write_whole(aside / NAME, canonical_json({**about, **counts}))
    return told


def _build(directory: Path, manifest: Manifest, datasets: Sequence[str], kinds: Kinds) -> BuildToExport:
    for name in datasets:
        if name not in manifest.datasets:
            raise ExportError(f"{directory} has no dataset {quoted(name)}{hint(name, manifest.datasets)}")
    chosen = [
        DatasetToExport(name, len(held.shards), held.rows, held.examples, held.tokens, held.trained_tokens)
        for name, held in manifest.datasets.items()
        if not datasets or name in datasets
    ]
    return BuildToExport(
        name=manifest.name,
        directory=directory,
        digest=manifest.digest,
        row_tokens=manifest.row_tokens,
        align=manifest.align,
        pad_id=manifest.pad_id,
        bos_id=manifest.bos_id,
        eos_id=end_of_text_id(directory),
        terminators=manifest.terminators,
        vocabulary_size=manifest.vocabulary_size,
        longest_example=manifest.longest_example,
        datasets=tuple(chosen),
        own_words=frozenset(_own_words(manifest.recipe.get("teachers"), kinds)),
    )


def _own_words(teachers: Any, kinds: Kinds) -> Iterator[str]:
    """Yield the teachers that give back the answers of rows; `teachers`: the recipe's table, which may be left out."""
    named = dict(teachers) if isinstance(teachers, Mapping) else {}
    for name, chosen in {TEACHER: TEACHER, **named}.items():
        kind = chosen["kind"] if isinstance(chosen, Mapping) else str(chosen)
        # A kind that is not installed is not known to be one.
        with suppress(PluginError):
            if getattr(kinds.kind("orca_teachers", kind), "gives_own_words", False):
                yield name


def _check_digests(directory: Path, files: Sequence[FileDigest], progress: Progress) -> None:
    """Refuse a build whose files are not as promised, before anything is made of them."""
    progress.begin("check", total=sum(file.bytes for file in files), unit="B")
    for file in files:
        for finding in check_file(directory, file, digests=True):
            raise damage(directory / finding.file, finding.sentence)
        progress.advance(file.bytes)
    progress.end(counted(len(files), "file"))


def _write_dataset(
    exporter: Exporter,
    build: BuildToExport,
    dataset: DatasetToExport,
    manifest: Manifest,
    whole: WholeShards,
    teller: Callable[[], Teller],
    progress: Progress,
) -> list[Written]:
    progress.begin(f"export {dataset.name}", total=dataset.tokens, unit="tokens")
    found = []
    for number, counts in enumerate(manifest.datasets[dataset.name].shards):
        if (kept := whole.written(dataset.name, number)) is not None:
            progress.advance(counts.tokens)
            found.append(kept)
            continue
        prefix = build.directory / counts.prefix
        blocks = row_blocks(prefix, vocabulary_size=build.vocabulary_size, teller=teller)
        shard = ShardToExport(
            dataset=dataset,
            number=number,
            rows=counts.rows,
            examples=counts.examples,
            tokens=counts.tokens,
            trained_tokens=counts.trained_tokens,
            blocks=_watched(blocks, progress),
        )
        written = exporter.write(build=build, shard=shard, folder=whole.folder)
        _check_labels(exporter, counts, written)
        whole.note(dataset.name, number, written)
        found.append(written)
    progress.end(f"{counted(dataset.examples, 'example')}, {counted(dataset.tokens, 'token')}")
    return found


def _watched(blocks: Iterator[RowBlock], progress: Progress) -> Iterator[RowBlock]:
    for block in blocks:
        yield block
        progress.advance(len(block.tokens))


def _check_labels(exporter: Exporter, counts: ShardCounts, written: Written) -> None:
    lost = sum(written.lost.values())
    if written.trained_labels + lost != counts.trained_tokens:
        raise PluginError(
            f"exporter {quoted(exporter.kind)} tells of {written.trained_labels:,} labels and {lost:,} lost ones of "
            f"{counts.prefix}, which has {counts.trained_tokens:,}; the export was not kept: tell its author"
        )


def _ship_tokenizer(directory: Path, aside: Path) -> None:
    # copyfile: contents alone, as modes and times differ from machine to machine.
    shutil.copytree(directory / _TOKENIZER_FOLDER, aside / _TOKENIZER_FOLDER, copy_function=shutil.copyfile)


def _told(place: Path, whole: WholeShards, every: Sequence[Written]) -> Exported:
    aside = whole.folder
    paths = sorted(path for path in aside.rglob("*") if path.is_file())
    files = (
        ExportedFile(path.relative_to(aside).as_posix(), path.stat().st_size, whole.digest(path)) for path in paths
    )
    lost: Counter[str] = Counter()
    for written in every:
        lost.update(written.lost)
    return Exported(
        directory=place,
        files=tuple(files),
        examples=sum(written.examples for written in every),
        tokens=sum(written.tokens for written in every),
        trained_labels=sum(written.trained_labels for written in every),
        lost_labels=dict(sorted(lost.items())),
        wrong_settings=wrong_settings(every),
    )
